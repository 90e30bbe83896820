#include "supervisor/run_plan.h"

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

static const char *take_line(struct run_plan *plan, const char *key, char *value);
static const char *take_listener(struct run_plan *plan, char *value);
static bool take_text(char *to, size_t max, const char *value);
static bool take_number(const char *value, int64_t min, int64_t max, int64_t *to);

void run_plan_print(const struct config *config, size_t segment_bytes, FILE *to) {
    fprintf(to,
            "%s\nthreads %u\nsegment %zu\nwedge_after %" PRId64 "\ndrain_shutdown %" PRId64
            "\ndrain_reload %" PRId64 "\nlog_level %d\nlog_file %s\n",
            first_line, config->server.threads, segment_bytes, config->server.wedge_after_ns,
            config->server.drain_shutdown_ns, config->server.drain_reload_ns,
            (int)config->log.level, config->log.file);
    if (config->server.user)
        fprintf(to, "user %s\n", config->server.user);
    if (config->admin.is_on)
        fprintf(to, "admin %s\n", config->admin.listen.text);
    for (size_t i = 0; i < config->listener_count; i++)
        fprintf(to, "listener %s %s\n", config->listeners[i].name,
                config->listeners[i].listen.text);
    fputs("end\n", to);
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
        (strcmp(key, "admin") == 0 && !take_text(plan->admin, RUN_PLAN_ADDRESS_MAX, value)))
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
