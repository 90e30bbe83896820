/* [pipeline.process]: what arrives, with which defaults. What is refused is in
 * tests/flows/test_processes.py. */
#include "base/clock.h"

#include "expect.h"

#include <signal.h>
#include <stdio.h>

#define HEAD LISTENER ROUTE "[[pipeline]]\nname = 'p'\n"

static void all_keys_arrive(void **state) {
    struct config *config = parse(
        "[server]\nuser = 'w'\n" HEAD "endpoints = ['127.0.0.1:1']\n[pipeline.process]\n"
        "command = ['a', '', 'c d']\nenv = { A = '1', B_2 = '' }\ndir = '/srv/x'\nuser = 'u'\n"
        "limits = { memory = '1GiB', cpu = '1m', fds = 77, "
        "total_memory = '2GiB', processes = 9 }\n"
        "stop = { signal = 'INT', grace = '3s' }\n"
        "ready = { check = 'http', path = '/ok', timeout = '4s' }\n"
        "crash = { deaths = 7, window = '8s', hold = '9s' }\ninstances = 1\n");
    const struct config_process *p = config->pipelines[0].process;

    assert_int_equal(p->command_count, 3);
    assert_string_equal(p->command[0], "a");
    assert_string_equal(p->command[1], "");
    assert_string_equal(p->command[2], "c d");
    assert_null(p->command[3]);
    assert_int_equal(p->variable_count, 2);
    assert_string_equal(p->variables[0], "A=1");
    assert_string_equal(p->variables[1], "B_2=");
    assert_string_equal(p->dir, "/srv/x");
    assert_string_equal(p->user, "u");
    assert_int_equal(p->limits.memory_bytes, 1 << 30);
    assert_int_equal(p->limits.cpu_ns, 60 * NS_PER_S);
    assert_int_equal(p->limits.fds, 77);
    assert_int_equal(p->limits.total_memory_bytes, (size_t)2 << 30);
    assert_int_equal(p->limits.processes, 9);
    assert_int_equal(p->stop.signal, SIGINT);
    assert_int_equal(p->stop.grace_ns, 3 * NS_PER_S);
    assert_int_equal(p->ready.check, READY_HTTP);
    assert_string_equal(p->ready.path, "/ok");
    assert_int_equal(p->ready.timeout_ns, 4 * NS_PER_S);
    assert_int_equal(p->crash.deaths, 7);
    assert_int_equal(p->crash.window_ns, 8 * NS_PER_S);
    assert_int_equal(p->crash.hold_ns, 9 * NS_PER_S);
    assert_int_equal(p->instances, 1);
    config_free(config);
}

static void everything_else_has_a_default(void **state) {
    struct config *config = parse("[server]\nuser = 'w'\n" HEAD
                                  "endpoints = ['127.0.0.1:1']\nprocess = { command = ['a'] }\n");
    const struct config_process *p = config->pipelines[0].process;

    assert_string_equal(p->user, "w");
    assert_null(p->dir);
    assert_int_equal(p->limits.memory_bytes + (size_t)p->limits.cpu_ns + p->limits.fds, 0);
    assert_int_equal(p->limits.total_memory_bytes + p->limits.processes, 0);
    assert_int_equal(p->stop.signal, SIGTERM);
    assert_int_equal(p->stop.grace_ns, 10 * NS_PER_S);
    assert_int_equal(p->ready.check, READY_TCP);
    assert_int_equal(p->ready.timeout_ns, 30 * NS_PER_S);
    assert_int_equal(p->crash.deaths, 5);
    assert_int_equal(p->crash.window_ns, 60 * NS_PER_S);
    assert_int_equal(p->crash.hold_ns, 300 * NS_PER_S);
    assert_int_equal(p->instances, 1);
    config_free(config);
}

static void a_program_for_each_request_has_no_endpoints(void **state) {
    struct config *config =
        parse(HEAD "protocol = 'exec'\nlimits = { concurrency = 5, streams = 6 }\n"
                   "process = { command = ['a'], output = 'sse', content_type = 'x/y' }\n");
    const struct config_pipeline *pipeline = &config->pipelines[0];

    assert_int_equal(pipeline->protocol, PROTOCOL_EXEC);
    assert_int_equal(pipeline->endpoint_count, 0);
    assert_int_equal(pipeline->process->output, OUTPUT_SSE);
    assert_string_equal(pipeline->process->content_type, "x/y");
    assert_int_equal(pipeline->process->stop.grace_ns, 500 * NS_PER_MS);
    /* Two fds each are planned for. */
    assert_int_equal(pipeline->limits.connections, 11);
    assert_int_equal(config->admission.fd_upstream, 22);
    config_free(config);
}

static void each_instance_has_an_endpoint(void **state) {
    struct config *config =
        parse(HEAD "endpoints = ['[::1]:8090']\nprocess = { command = ['a'], instances = 3 }\n"
                   "[[pipeline]]\nname = 'q'\nendpoints = ['127.0.0.1:1', 'unix:/s']\n"
                   "process = { command = ['a'] }\n");
    const struct config_pipeline *p = &config->pipelines[0];

    assert_int_equal(p->endpoint_count, 3);
    assert_string_equal(p->endpoints[2].text, "[::1]:8092");
    assert_int_equal(ntohs(((const struct sockaddr_in6 *)&p->endpoints[1].sockaddr)->sin6_port),
                     8091);
    assert_int_equal(config->pipelines[1].process->instances, 2);
    config_free(config);
}

static void an_mcp_server_is_an_http1_upstream_with_settings(void **state) {
    struct config *config =
        parse(HEAD "endpoints = ['unix:/a', 'unix:/b']\nprotocol = 'mcp-stdio'\n"
                   "process = { command = ['a'] }\n"
                   "[[pipeline]]\nname = 'q'\nendpoints = ['unix:/c']\nprotocol = 'mcp-stdio'\n"
                   "process = { command = ['a'] }\nmcp = { sessions = 1, calls = 2, "
                   "calls_per_session = 3, queue = 4, depth = 5, message = '6KiB', idle = '7s', "
                   "ping = '0s' }\n"
                   "[[route]]\nmatch = { path = '/q' }\npipeline = 'q'\n");
    const struct config_mcp *p = &config->pipelines[0].process->mcp,
                            *q = &config->pipelines[1].process->mcp;

    assert_int_equal(config->pipelines[0].protocol, PROTOCOL_HTTP1);
    assert_true(config->pipelines[0].process->is_mcp);
    assert_int_equal(p->sessions, 1000);
    assert_int_equal(p->calls, 1000);
    assert_int_equal(p->calls_per_session, 32);
    assert_int_equal(p->queue, 256);
    assert_int_equal(p->depth, 64);
    assert_int_equal(p->message_bytes, 4 << 20);
    assert_int_equal(p->idle_ns, 1800 * NS_PER_S);
    assert_int_equal(p->ping_ns, 60 * NS_PER_S);
    assert_int_equal(p->ask, MCP_ASK_CALLER);
    assert_int_equal(q->sessions, 1);
    assert_int_equal(q->calls, 2);
    assert_int_equal(q->calls_per_session, 3);
    assert_int_equal(q->queue, 4);
    assert_int_equal(q->depth, 5);
    assert_int_equal(q->message_bytes, 6 << 10);
    assert_int_equal(q->idle_ns, 7 * NS_PER_S);
    assert_int_equal(q->ping_ns, 0);
    /* With two instances sessions are kept apart, with one there is nothing to choose. */
    assert_string_equal(config->routes[0].affinity.header, "mcp-session-id");
    assert_int_equal(config->routes[0].affinity.learn, LEARN_RESPONSE);
    assert_true(config->routes[0].affinity.is_strict);
    assert_null(config->routes[1].affinity.header);
    config_free(config);
}

static void at_most_64_pipelines_have_a_process(void **state) {
    static char text[16384];
    size_t len = (size_t)snprintf(text, sizeof text, "%s", LISTENER "[[route]]\npipeline = 'p0'\n");

    for (int i = 0; i < CONFIG_PROCESSES_MAX + 1; i++)
        len += (size_t)snprintf(text + len, sizeof text - len,
                                "[[pipeline]]\nname = 'p%d'\nprotocol = 'exec'\n"
                                "process = { command = ['a'] }\n",
                                i);
    expect_errors_with(
        text, &(struct config_options){.fd_limit = 1 << 20, .cores = 1},
        "t:265:11: pipeline.process: found more than 64 of them, expected no more\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_keys_arrive),
        cmocka_unit_test(everything_else_has_a_default),
        cmocka_unit_test(a_program_for_each_request_has_no_endpoints),
        cmocka_unit_test(each_instance_has_an_endpoint),
        cmocka_unit_test(an_mcp_server_is_an_http1_upstream_with_settings),
        cmocka_unit_test(at_most_64_pipelines_have_a_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
