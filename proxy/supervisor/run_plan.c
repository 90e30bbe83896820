#include "supervisor/run_plan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char first_line[] = "weir-plan 1";

#define AT(member) offsetof(struct run_plan, member)
static const struct {
    const char *key;
    size_t offset;
    int64_t min, max;
} numbers[] = {
    {"threads", AT(threads), 1, RUN_PLAN_THREADS_MAX},
    {"segment", AT(segment_bytes), 1, INT64_C(1) << 40},
    {"wedge_after", AT(wedge_after_ns), 0, INT64_MAX},
    {"drain_shutdown", AT(drain_shutdown_ns), 0, INT64_MAX},
    {"drain_reload", AT(drain_reload_ns), 0, INT64_MAX},
    {"log_level", AT(log_level), 0, 3},
};
#undef AT

static void put(char *to, size_t size, const char *text);
static const char *take_line(struct run_plan *plan, const char *key, char *value);
static const char *take_listener(struct run_plan *plan, char *value);
static bool take_text(char *to, size_t max, const char *value);
static bool take_number(const char *value, int64_t min, int64_t max, int64_t *to);

void run_plan_print(const struct config *config, size_t segment_bytes, FILE *to) {
    struct run_plan plan = {
        .threads = config->server.threads,
        .segment_bytes = (int64_t)segment_bytes,
        .wedge_after_ns = config->server.wedge_after_ns,
        .drain_shutdown_ns = config->server.drain_shutdown_ns,
        .drain_reload_ns = config->server.drain_reload_ns,
        .log_level = (int64_t)config->log.level,
        .listener_count = (unsigned)config->listener_count,
    };
    char *programs = programs_write(config);

    put(plan.log_file, sizeof plan.log_file, config->log.file);
    if (config->server.user)
        put(plan.user, sizeof plan.user, config->server.user);
    if (config->admin.is_on)
        put(plan.admin, sizeof plan.admin, config->admin.listen.text);
    for (size_t i = 0; i < config->listener_count; i++) {
        struct run_listener *listener = &plan.listeners[i];

        put(listener->name, sizeof listener->name, config->listeners[i].name);
        put(listener->address, sizeof listener->address, config->listeners[i].listen.text);
    }
    if (programs)
        put(plan.programs, sizeof plan.programs, programs);
    free(programs);
    run_plan_write(&plan, to);
}

void run_plan_write(const struct run_plan *plan, FILE *to) {
    fprintf(to, "%s\n", first_line);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fprintf(to, "%s %" PRId64 "\n", numbers[i].key,
                *(const int64_t *)((const char *)plan + numbers[i].offset));
    fprintf(to, "log_file %s\n", plan->log_file);
    if (plan->user[0])
        fprintf(to, "user %s\n", plan->user);
    if (plan->admin[0])
        fprintf(to, "admin %s\n", plan->admin);
    for (unsigned i = 0; i < plan->listener_count; i++)
        fprintf(to, "listener %s %s\n", plan->listeners[i].name, plan->listeners[i].address);
    if (plan->programs[0])
        fprintf(to, "programs %s\n", plan->programs);
    fputs("end\n", to);
}

/* The configuration has the same bounds. */
static void put(char *to, size_t size, const char *text) {
    int len = snprintf(to, size, "%s", text);

    assert(len >= 0 && (size_t)len < size);
}

const char *run_plan_parse(struct run_plan *out, char *text) {
    struct run_plan *plan = out;
    char *line, *save = NULL;
    bool has_ended = false;

    memset(plan, 0, sizeof *plan);
    line = strtok_r(text, "\n", &save);
    if (!line || strcmp(line, first_line) != 0)
        return "it does not begin with 'weir-plan 1'";
    while (!has_ended && (line = strtok_r(NULL, "\n", &save))) {
        char *value = strchr(line, ' ');
        const char *why;

        if (value)
            *value++ = '\0';
        has_ended = strcmp(line, "end") == 0;
        why = has_ended ? NULL : take_line(plan, line, value ? value : line + strlen(line));
        if (why)
            return why;
    }
    if (!has_ended)
        return "it has no 'end'";
    if (plan->threads == 0 || plan->segment_bytes == 0 || plan->listener_count == 0 ||
        !plan->log_file[0])
        return "threads, segment, log_file or listener is missing";
    return NULL;
}

static const char *take_line(struct run_plan *plan, const char *key, char *value) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(key, numbers[i].key) == 0)
            return take_number(value, numbers[i].min, numbers[i].max,
                               (int64_t *)((char *)plan + numbers[i].offset))
                       ? NULL
                       : "a number is none, or out of its range";
    if (strcmp(key, "listener") == 0)
        return take_listener(plan, value);
    if ((strcmp(key, "log_file") == 0 && !take_text(plan->log_file, RUN_PLAN_PATH_MAX, value)) ||
        (strcmp(key, "user") == 0 && !take_text(plan->user, RUN_PLAN_NAME_MAX, value)) ||
        (strcmp(key, "admin") == 0 && !take_text(plan->admin, RUN_PLAN_ADDRESS_MAX, value)) ||
        (strcmp(key, "programs") == 0 && !take_text(plan->programs, RUN_PLAN_PROGRAMS_MAX, value)))
        return "a text is empty or too long";
    return NULL;
}

/* "NAME ADDRESS"; an address may have blanks in it. */
static const char *take_listener(struct run_plan *plan, char *value) {
    struct run_listener *listener = &plan->listeners[plan->listener_count];
    char *address = strchr(value, ' ');

    if (plan->listener_count == RUN_PLAN_LISTENERS_MAX)
        return "it has too many listeners";
    if (!address)
        return "a listener has no address";
    *address++ = '\0';
    if (!take_text(listener->name, RUN_PLAN_NAME_MAX, value) ||
        !take_text(listener->address, RUN_PLAN_ADDRESS_MAX, address))
        return "a listener's name or address is empty or too long";
    plan->listener_count++;
    return NULL;
}

static bool take_text(char *to, size_t max, const char *value) {
    size_t len = strlen(value);

    if (len == 0 || len > max)
        return false;
    memcpy(to, value, len + 1);
    return true;
}

static bool take_number(const char *value, int64_t min, int64_t max, int64_t *to) {
    char *end;
    long long n;

    errno = 0;
    n = strtoll(value, &end, 10);
    if (errno || end == value || *end || n < min || n > max)
        return false;
    *to = n;
    return true;
}
