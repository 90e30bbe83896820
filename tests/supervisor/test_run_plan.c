/* Tests of the plan that `weir check --plan` prints and the supervisor reads. */
#include "supervisor/run_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MINIMAL                                                                               \
    "weir-plan 1\nthreads 2\nsegment 4096\nwedge_after 5\ndrain_shutdown 6\ndrain_reload 7\n" \
    "log_level 3\nlog_file stderr\nlistener http 127.0.0.1:80\nend\n"

static const char *const behind_first = &MINIMAL[sizeof "weir-plan 1\n" - 1];

static struct run_plan plan;

static const char *parse(const char *text) {
    char *copy = strdup(text);
    const char *why = run_plan_parse(&plan, copy);

    free(copy);
    return why;
}

static void what_is_printed_is_read(void **state) {
    const char text[] = "[server]\nthreads = 3\nwedge_after = '7s'\nuser = 'nobody'\n"
                        "drain = { shutdown = '1s', reload = '2s' }\n[admin]\nlisten = ':9901'\n"
                        "[log]\nlevel = 'warn'\nfile = '/tmp/a b.log'\n"
                        "[[listener]]\nname = 'http'\nlisten = '127.0.0.1:8080'\n"
                        "[[listener]]\nname = 'local'\nlisten = 'unix:/tmp/a b.sock'\n"
                        "[[pipeline]]\nname = 'up'\nendpoints = ['127.0.0.1:1']\n"
                        "process = { command = ['a', 'two\\nlines'] }\n"
                        "[[route]]\npipeline = 'up'\n";
    const struct config_options options = {.fd_limit = 1024, .cores = 2};
    struct config_errors errors;
    struct programs *programs;
    struct config *config;
    char *printed;
    size_t len;
    FILE *to = open_memstream(&printed, &len);

    assert_int_equal(config_parse(&config, "t", text, strlen(text), &options, &errors), 0);
    run_plan_print(config, 12345, to);
    fclose(to);
    assert_null(parse(printed));
    assert_int_equal(plan.threads, 3);
    assert_int_equal(plan.segment_bytes, 12345);
    assert_int_equal(plan.wedge_after_ns, INT64_C(7000000000));
    assert_int_equal(plan.drain_shutdown_ns, INT64_C(1000000000));
    assert_int_equal(plan.drain_reload_ns, INT64_C(2000000000));
    assert_int_equal(plan.log_level, CONFIG_LOG_WARN);
    assert_string_equal(plan.log_file, "/tmp/a b.log");
    assert_string_equal(plan.user, "nobody");
    assert_string_equal(plan.admin, ":9901");
    assert_int_equal(plan.listener_count, 2);
    assert_string_equal(plan.listeners[0].name, "http");
    assert_string_equal(plan.listeners[0].address, "127.0.0.1:8080");
    assert_string_equal(plan.listeners[1].name, "local");
    assert_string_equal(plan.listeners[1].address, "unix:/tmp/a b.sock");
    assert_int_equal(programs_parse(&programs, slice_str(plan.programs)), 0);
    assert_string_equal(programs->list[0].process->command[1], "two\\nlines");
    programs_free(programs);
    config_free(config);
    free(printed);
}

static void what_may_be_left_out_is_empty(void **state) {
    assert_null(parse(MINIMAL));
    assert_string_equal(plan.user, "");
    assert_string_equal(plan.admin, "");
    assert_string_equal(plan.programs, "");
}

static void programs_are_kept_as_they_are(void **state) {
    static char text[RUN_PLAN_TEXT_MAX + 1];
    size_t len = (size_t)snprintf(text, sizeof text, "weir-plan 1\nprograms ");

    memset(text + len, 'x', RUN_PLAN_PROGRAMS_MAX + 1);
    strcpy(text + len + RUN_PLAN_PROGRAMS_MAX, "\n");
    strcat(text, behind_first);
    assert_null(parse(text));
    assert_int_equal(strlen(plan.programs), RUN_PLAN_PROGRAMS_MAX);
    strcpy(text + len + RUN_PLAN_PROGRAMS_MAX, "x\n");
    strcat(text, behind_first);
    assert_string_equal(parse(text), "a text is empty or too long");
}

static void lines_of_later_versions_are_skipped(void **state) {
    assert_null(parse("weir-plan 1\nnew thing\nother\nthreads 2\nsegment 4096\nlog_file stderr\n"
                      "listener http 127.0.0.1:80\nend\nbehind the end\n"));
    assert_int_equal(plan.threads, 2);
}

/* Each line of the minimal plan matters: without it, or cut anywhere, the plan is refused. */
static void a_plan_that_is_not_whole_is_refused(void **state) {
    const char *needed[] = {"weir-plan 1\n",
                            "threads 2\n",
                            "segment 4096\n",
                            "log_file stderr\n",
                            "listener http 127.0.0.1:80\n",
                            "end\n"};

    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        const char *at = strstr(MINIMAL, needed[i]);
        char text[sizeof MINIMAL];

        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s", (int)(at - MINIMAL), MINIMAL, at + strlen(needed[i]));
        assert_non_null(parse(text));
    }
    for (size_t len = 0; len + 2 < sizeof MINIMAL; len++) {
        char text[sizeof MINIMAL] = MINIMAL;

        text[len] = '\0';
        if (len < strlen(MINIMAL) - 1)
            assert_non_null(parse(text));
    }
}

static void nonsense_is_refused(void **state) {
    const char *bad[] = {
        "threads 0",
        "threads 65",
        "threads x",
        "threads",
        "segment -1",
        "segment 1e3",
        "wedge_after 99999999999999999999",
        "log_level 4",
        "log_file",
        "listener",
        "listener http",
        "listener  :80",
        "admin ",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[sizeof MINIMAL + 100];

        snprintf(text, sizeof text, "weir-plan 1\n%s\n%s", bad[i], behind_first);
        assert_non_null(parse(text));
    }
}

static void there_is_room_for_all_listeners_and_no_more(void **state) {
    char text[RUN_PLAN_TEXT_MAX];
    size_t len = 0;

    for (unsigned count = RUN_PLAN_LISTENERS_MAX; count <= RUN_PLAN_LISTENERS_MAX + 1; count++) {
        len = (size_t)snprintf(text, sizeof text,
                               "weir-plan 1\nthreads 1\nsegment 1\nlog_file stderr\n");
        for (unsigned i = 0; i < count; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "listener l%u :%u\n", i, i);
        snprintf(text + len, sizeof text - len, "end\n");
        assert_int_equal(parse(text) != NULL, count > RUN_PLAN_LISTENERS_MAX);
    }
}

static void a_name_that_is_too_long_is_refused(void **state) {
    char text[sizeof MINIMAL + 2 * RUN_PLAN_ADDRESS_MAX], name[RUN_PLAN_ADDRESS_MAX + 2];

    memset(name, 'x', sizeof name);
    for (int len = RUN_PLAN_NAME_MAX; len <= RUN_PLAN_NAME_MAX + 1; len++) {
        snprintf(text, sizeof text, "weir-plan 1\nlistener %.*s :1\n%s", len, name, behind_first);
        assert_int_equal(parse(text) != NULL, len > RUN_PLAN_NAME_MAX);
    }
    for (int len = RUN_PLAN_ADDRESS_MAX; len <= RUN_PLAN_ADDRESS_MAX + 1; len++) {
        snprintf(text, sizeof text, "weir-plan 1\nlistener a %.*s\n%s", len, name, behind_first);
        assert_int_equal(parse(text) != NULL, len > RUN_PLAN_ADDRESS_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_is_read),
        cmocka_unit_test(what_may_be_left_out_is_empty),
        cmocka_unit_test(programs_are_kept_as_they_are),
        cmocka_unit_test(lines_of_later_versions_are_skipped),
        cmocka_unit_test(a_plan_that_is_not_whole_is_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(there_is_room_for_all_listeners_and_no_more),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
