/* Programs on their way from the configuration to the nursery. */
#include "child/program.h"

#include "base/clock.h"

#include "config/expect.h"

#include <signal.h>

#define ENGINE                                                                    \
    "[[pipeline]]\nname = 'e'\nendpoints = ['127.0.0.1:8090', 'unix:/tmp/s']\n"   \
    "[pipeline.process]\ncommand = ['a', 'b \"c\\']\nenv = { A = '=\xc3\xa9' }\n" \
    "ready = { check = 'line', line = 'up' }\nstop = { signal = 'INT' }\ndir = '/d'\nuser = 'u'\n"
#define EXEC "[[pipeline]]\nname = 'x'\nprotocol = 'exec'\nprocess = { command = ['y'] }\n"

static struct programs *pass(const char *text) {
    struct config *config = parse(text);
    char *line = programs_write(config);
    struct programs *programs;

    assert_non_null(line);
    assert_null(strchr(line, '\n'));
    assert_int_equal(programs_parse(&programs, slice_str(line)), 0);
    free(line);
    config_free(config);
    return programs;
}

static void what_was_configured_arrives(void **state) {
    struct programs *programs = pass(LISTENER PIPELINE ROUTE ENGINE EXEC);
    const struct program *engine = programs_find_name(programs, "e");
    const struct program *exec = programs_find(programs, 2);

    assert_int_equal(programs->count, 2);
    assert_int_equal(engine->pipeline, 1);
    assert_false(engine->is_exec);
    assert_int_equal(engine->process->instances, 2);
    assert_string_equal(engine->addresses[0].text, "127.0.0.1:8090");
    assert_int_equal(engine->addresses[1].kind, ADDRESS_UNIX);
    assert_string_equal(engine->process->command[1], "b \"c\\");
    assert_null(engine->process->command[2]);
    assert_string_equal(engine->process->variables[0], "A==\xc3\xa9");
    assert_int_equal(engine->process->stop.signal, SIGINT);
    assert_int_equal(engine->process->ready.check, READY_LINE);
    assert_string_equal(engine->process->ready.line, "up");
    assert_string_equal(engine->process->dir, "/d");
    assert_string_equal(engine->process->user, "u");
    assert_int_equal(engine->process->crash.deaths, 5);
    assert_true(exec->is_exec);
    assert_string_equal(exec->name, "x");
    assert_null(programs_find(programs, 0));
    assert_null(programs_find_name(programs, "p"));
    programs_free(programs);
}

static void what_is_said_of_an_mcp_server_arrives(void **state) {
    static const char text[] = LISTENER PIPELINE ROUTE
        "[[pipeline]]\nname = 'm'\nprotocol = 'mcp-stdio'\n"
        "endpoints = ['unix:/tmp/s']\nprocess = { command = ['a'] }\n"
        "mcp = { sessions = 1, calls = 2, calls_per_session = 3, queue = "
        "4, depth = 5, message = '6KiB', idle = '7s', ping = '8s', ask = 'able' }\n";
    struct programs *programs = pass(text), *engine = pass(LISTENER PIPELINE ROUTE ENGINE);
    const struct config_process *process = programs_find_name(programs, "m")->process;

    assert_true(process->is_mcp);
    assert_int_equal(process->mcp.sessions, 1);
    assert_int_equal(process->mcp.calls, 2);
    assert_int_equal(process->mcp.calls_per_session, 3);
    assert_int_equal(process->mcp.queue, 4);
    assert_int_equal(process->mcp.depth, 5);
    assert_int_equal(process->mcp.message_bytes, 6 << 10);
    assert_int_equal(process->mcp.idle_ns, 7 * NS_PER_S);
    assert_int_equal(process->mcp.ping_ns, 8 * NS_PER_S);
    assert_int_equal(process->mcp.ask, MCP_ASK_ABLE);
    assert_false(programs_find_name(engine, "e")->process->is_mcp);
    programs_free(programs);
    programs_free(engine);
}

/* What is the same is not started again. */
static void the_text_tells_whether_something_has_changed(void **state) {
    struct programs *one = pass(LISTENER PIPELINE ROUTE ENGINE EXEC);
    struct programs *moved = pass(LISTENER EXEC ENGINE ROUTE PIPELINE);
    struct programs *other = pass(LISTENER PIPELINE ROUTE ENGINE "limits = { fds = 100 }\n");

    assert_string_equal(programs_find_name(one, "e")->text, programs_find_name(moved, "e")->text);
    assert_string_not_equal(programs_find_name(one, "e")->text,
                            programs_find_name(other, "e")->text);
    programs_free(one);
    programs_free(moved);
    programs_free(other);
}

static void without_programs_there_is_no_line(void **state) {
    struct config *config = parse(REST);

    assert_null(programs_write(config));
    config_free(config);
    programs_free(NULL);
    assert_null(programs_find(NULL, 0));
}

static void what_is_no_such_line_is_refused(void **state) {
    static const char *const texts[] = {
        "",
        "x",
        "{}",
        "[1]",
        "[{}]",
        "[{\"name\":\"a\"}]",
        "[{\"name\":\"a\",\"pipeline\":0,\"program\":{}}]",
        "[{\"name\":\"a\",\"pipeline\":0,\"program\":{\"exec\":true,\"command\":[],\"env\":[],"
        "\"addresses\":[],\"signal\":15,\"deaths\":5}}]",
        "[{\"name\":\"a\",\"pipeline\":0,\"program\":{\"exec\":true,\"command\":[1],\"env\":[],"
        "\"addresses\":[],\"signal\":15,\"deaths\":5}}]",
        "[{\"name\":\"a\",\"pipeline\":0,\"program\":{\"exec\":true,\"command\":[\"a\"],\"env\":[],"
        "\"addresses\":[\"127.0.0.1:1\"],\"signal\":15,\"deaths\":5}}]",
        "[{\"name\":\"a\",\"pipeline\":0,\"program\":{\"exec\":false,\"command\":[\"a\"],\"env\":[]"
        ","
        "\"addresses\":[\"x\"],\"signal\":15,\"deaths\":5}}]",
        "[{\"name\":\"a\",\"pipeline\":0,\"program\":{\"exec\":true,\"command\":[\"a\"],\"env\":[],"
        "\"addresses\":[],\"signal\":99,\"deaths\":5}}]",
    };
    struct programs *programs;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(programs_parse(&programs, slice_str(texts[i])), -EINVAL);
    assert_int_equal(
        programs_parse(&programs,
                       SLICE("[{\"name\":\"a\",\"pipeline\":0,\"program\":{\"exec\":true,"
                             "\"command\":[\"a\"],\"env\":[],\"addresses\":[],\"signal\":15,"
                             "\"deaths\":5,\"later\":{}}}]")),
        0);
    programs_free(programs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_configured_arrives),
        cmocka_unit_test(what_is_said_of_an_mcp_server_arrives),
        cmocka_unit_test(the_text_tells_whether_something_has_changed),
        cmocka_unit_test(without_programs_there_is_no_line),
        cmocka_unit_test(what_is_no_such_line_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
