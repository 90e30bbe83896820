/* The whole way from text to settings: defaults, every key, whole files. */
#include "config/config.h"

#include "base/clock.h"
#include "expect.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct config *load(const char *path) {
    struct config *config = NULL;
    struct config_errors errors = {0};

    if (config_load(&config, path, &options_2_cores, &errors))
        fail_msg("%s", errors.text);
    return config;
}

static void expect_cannot_load(const char *path, const char *why) {
    struct config *config = NULL;
    struct config_errors errors = {0};
    char expected[200];

    snprintf(expected, sizeof expected, "%s: cannot read it: %s\n", path, why);
    assert_int_equal(config_load(&config, path, &options_2_cores, &errors), -EINVAL);
    assert_null(config);
    assert_string_equal(errors.text, expected);
    assert_int_equal(errors.count, 1);
    config_errors_deinit(&errors);
}

static void everything_has_a_default(void **state) {
    struct config *config = parse(REST);
    const struct config_listener *l = config->listeners;
    const struct config_pipeline *p = config->pipelines;
    const struct config_route *r = config->routes;

    assert_int_equal(config->server.threads, 2);
    assert_int_equal(config->server.drain_shutdown_ns, 30 * NS_PER_S);
    assert_int_equal(config->server.drain_reload_ns, 600 * NS_PER_S);
    assert_null(config->server.resolver);
    assert_int_equal(config->server.resolve_interval_ns, 30 * NS_PER_S);
    assert_int_equal(r->priority, PRIORITY_DEFAULT);
    assert_int_equal(config->admission.max_connections_per_address, 0);
    assert_int_equal(config->admission.memory, 0);
    assert_true(config->admission.shed_at_fds == 0.95);
    assert_true(config->admission.shed_at_memory == 0.95);
    assert_int_equal(config->admission.shed_at_lag_ns, 250 * NS_PER_MS);
    assert_true(config->admin.is_on);
    assert_string_equal(config->admin.listen.text, "127.0.0.1:9901");
    assert_int_equal(config->log.level, CONFIG_LOG_INFO);
    assert_string_equal(config->log.file, "stderr");
    assert_string_equal(config->log.access, "stderr");

    assert_int_equal(config->listener_count, 1);
    assert_int_equal(l->protocol, PROTOCOL_HTTP1);
    assert_int_equal(l->header_timeout_ns, 10 * NS_PER_S);
    assert_int_equal(l->body_timeout_ns, 60 * NS_PER_S);
    assert_int_equal(l->idle_timeout_ns, 60 * NS_PER_S);
    assert_int_equal(l->stream_idle_timeout_ns, 300 * NS_PER_S);
    assert_int_equal(l->max_head_bytes, 65536);
    assert_int_equal(l->max_target_bytes, 16384);
    assert_int_equal(l->max_fields, 100);
    assert_int_equal(l->max_requests, 0);
    assert_false(l->half_close);
    assert_int_equal(l->http2.max_concurrent_streams, 100);
    assert_int_equal(l->http2.header_table_bytes, 4096);
    assert_int_equal(l->http2.continuations, 8);
    assert_int_equal(l->http2.pings, 10);
    assert_int_equal(l->http2.settings, 10);
    assert_int_equal(l->http2.priorities, 20);
    assert_int_equal(l->http2.window_updates, 100);
    assert_int_equal(l->http2.empty_data, 10);
    assert_int_equal(l->http2.resets, 100);
    assert_int_equal(l->http2.stream_errors, 20);
    assert_int_equal(l->http2.early_percent, 90);
    assert_int_equal(l->trust_count, 2);
    assert_int_equal(l->trust[0].prefix, 32);
    assert_int_equal(l->trust[1].prefix, 128);

    assert_int_equal(config->pipeline_count, 1);
    assert_int_equal(p->protocol, PROTOCOL_HTTP1);
    assert_null(p->host);
    assert_int_equal(p->deadline_ns, 30 * NS_PER_S);
    assert_int_equal(p->dial_timeout_ns, 3 * NS_PER_S);
    assert_int_equal(p->idle_timeout_ns, 60 * NS_PER_S);
    assert_int_equal(p->resolve_interval_ns, 30 * NS_PER_S);
    assert_int_equal(p->max_head_bytes, 65536);
    assert_int_equal(p->max_fields, 100);
    assert_int_equal(p->max_informational, 10);
    assert_int_equal(p->limits.concurrency, 64);
    assert_int_equal(p->limits.streams, 1000);
    assert_int_equal(p->limits.dials, 16);
    assert_int_equal(p->limits.streams_per_connection, 100);
    assert_int_equal(p->ping_ns, 20 * NS_PER_S);
    assert_int_equal(p->pong_timeout_ns, 10 * NS_PER_S);
    assert_int_equal(p->queue.size, 256);
    assert_int_equal(p->queue.max_wait_ns, 2 * NS_PER_S);
    assert_int_equal(p->retry.attempts, 2);
    assert_int_equal(p->retry.on, RETRY_ON_CONNECT | RETRY_ON_REFUSED);
    assert_true(p->retry.budget == 0.2);
    assert_int_equal(p->retry.timeout_ns, 0);
    assert_int_equal(p->hold_ns, 5 * NS_PER_S);
    assert_int_equal(p->balance.by, BALANCE_LEAST);

    assert_int_equal(config->route_count, 1);
    assert_string_equal(r->name, "*:/");
    assert_int_equal(r->listener, CONFIG_ANY_LISTENER);
    assert_int_equal(r->pipeline, 0);
    assert_null(r->host);
    assert_null(r->path);
    assert_null(r->exact);
    assert_int_equal(r->method_count, 0);
    assert_int_equal(r->field_count, 0);
    assert_false(r->is_stream);
    assert_false(r->is_grpc_web);
    assert_int_equal(r->deadline_ns, -1);
    config_free(config);
}

static void the_server_keys_arrive(void **state) {
    struct config *config =
        parse("[server]\nthreads = 3\ndrain = { shutdown = 0, reload = '1h' }\n"
              "resolver = '127.0.0.1:53 , ::1,[::1]:5353'\nresolve_interval = '5s'\n"
              "[admission]\nmax_connections = 100\n"
              "fd_reserve = 90\nmax_connections_per_address = 5\nmemory = '1GiB'\n"
              "shed_at = { fds = 0.5, memory = 1, loop_lag = '1s' }\n[admin]\nlisten = 'off'\n"
              "[log]\nlevel = 'debug'\nfile = '/var/log/weir.log'\naccess = 'off'\n" REST);

    assert_int_equal(config->server.threads, 3);
    assert_int_equal(config->server.drain_shutdown_ns, 0);
    assert_int_equal(config->server.drain_reload_ns, 3600 * NS_PER_S);
    assert_string_equal(config->server.resolver, "127.0.0.1:53,::1,[::1]:5353");
    assert_int_equal(config->pipelines[0].resolve_interval_ns, 5 * NS_PER_S);
    assert_int_equal(config->admission.max_connections, 100);
    assert_int_equal(config->admission.fd_reserve, 90);
    assert_int_equal(config->admission.max_connections_per_address, 5);
    assert_int_equal(config->admission.memory, 1 << 30);
    assert_true(config->admission.shed_at_fds == 0.5);
    assert_true(config->admission.shed_at_memory == 1);
    assert_int_equal(config->admission.shed_at_lag_ns, NS_PER_S);
    assert_false(config->admin.is_on);
    assert_null(config->admin.listen.text);
    assert_int_equal(config->log.level, CONFIG_LOG_DEBUG);
    assert_string_equal(config->log.file, "/var/log/weir.log");
    assert_null(config->log.access);
    config_free(config);
}

static void a_state_file_is_a_path_and_its_directory_may_come_later(void **state) {
    struct config *config = parse("[server]\nstate_file = '/tmp/state.json'\n" REST);

    assert_string_equal(config->server.state_file, "/tmp/state.json");
    assert_null(config->warnings);
    config_free(config);
    config = parse("[server]\nstate_file = '/nowhere/at-all/state.json'\n" REST);
    assert_string_equal(config->warnings,
                        "t:2:14: warning: server.state_file: no file can be written in "
                        "'/nowhere/at-all/': No such file or directory\n");
    config_free(config);
    config = parse("[server]\nstate_file = '/dev/null/state.json'\n" REST);
    assert_non_null(strstr(config->warnings, "Not a directory"));
    config_free(config);
    config = parse(REST);
    assert_null(config->server.state_file);
    config_free(config);
    expect_errors(
        "[server]\nstate_file = 'state.json'\n" REST,
        "t:2:14: server.state_file: found \"state.json\" (string), expected a path with a "
        "slash such as \"/var/lib/weir/state.json\"\n");
    expect_errors("[server]\nstate_file = 7\n" REST,
                  "t:2:14: server.state_file: found 7 (integer), expected a path with a slash such "
                  "as \"/var/lib/weir/state.json\"\n");
}

static void the_listener_keys_arrive(void **state) {
    struct config *config =
        parse("[[listener]]\nname = 'a.b_c-1'\nlisten = 'unix:/run/weir'\nprotocol = 'auto'\n"
              "timeouts = { header = '1s', body = '2s', idle = '3s', stream_idle = '0s' }\n"
              "limits = { head = 8192, target = '8KiB', fields = 5, requests = 6 }\n"
              "http2 = { max_concurrent_streams = 1, header_table = 2, continuations = 3, "
              "pings = 4, settings = 5, priorities = 6, window_updates = 7, empty_data = 8, "
              "resets = 9, stream_errors = 10, early_percent = 12 }\n"
              "half_close = true\ntrust = []\n" LISTENER PIPELINE ROUTE);
    const struct config_listener *l = config->listeners;

    assert_int_equal(config->listener_count, 2);
    assert_string_equal(l->name, "a.b_c-1");
    assert_int_equal(l->listen.kind, ADDRESS_UNIX);
    assert_int_equal(l->header_timeout_ns, 1 * NS_PER_S);
    assert_int_equal(l->body_timeout_ns, 2 * NS_PER_S);
    assert_int_equal(l->idle_timeout_ns, 3 * NS_PER_S);
    assert_int_equal(l->stream_idle_timeout_ns, 0);
    assert_int_equal(l->max_head_bytes, 8192);
    assert_int_equal(l->max_target_bytes, 8192);
    assert_int_equal(l->max_fields, 5);
    assert_int_equal(l->max_requests, 6);
    assert_int_equal(l->protocol, PROTOCOL_AUTO);
    assert_int_equal(l->http2.max_concurrent_streams, 1);
    assert_int_equal(l->http2.header_table_bytes, 2);
    assert_int_equal(l->http2.continuations, 3);
    assert_int_equal(l->http2.pings, 4);
    assert_int_equal(l->http2.settings, 5);
    assert_int_equal(l->http2.priorities, 6);
    assert_int_equal(l->http2.window_updates, 7);
    assert_int_equal(l->http2.empty_data, 8);
    assert_int_equal(l->http2.resets, 9);
    assert_int_equal(l->http2.stream_errors, 10);
    assert_int_equal(l->http2.early_percent, 12);
    assert_true(l->half_close);
    assert_int_equal(l->trust_count, 0);
    assert_int_equal(config->listeners[1].trust_count, 2);
    config_free(config);
}

static void the_pipeline_keys_arrive(void **state) {
    struct config *config = parse(
        "[[pipeline]]\nname = 'q'\nendpoints = ['Name:80', '[::1]:80', 'unix:/s']\n"
        "protocol = 'http1'\nhost = 'example.com:81'\ndeadline = 0\n"
        "timeouts = { dial = '1s', idle = '2s' }\nresolve_interval = '1s'\n"
        "limits = { concurrency = 1, connections = 2, streams = 3, dials = 4, head = '1KiB', "
        "fields = 5, informational = 0 }\nqueue = { size = 0, max_wait = '7ms' }\n"
        "retry = { attempts = 1, on = ['connect', 'refused', 'reset'] }\n" LISTENER PIPELINE ROUTE);
    const struct config_pipeline *p = config->pipelines;

    assert_int_equal(p->endpoint_count, 3);
    assert_string_equal(p->endpoints[0].host, "name");
    assert_string_equal(p->host, "example.com:81");
    assert_int_equal(p->deadline_ns, 0);
    assert_int_equal(p->dial_timeout_ns, 1 * NS_PER_S);
    assert_int_equal(p->idle_timeout_ns, 2 * NS_PER_S);
    assert_int_equal(p->resolve_interval_ns, 1 * NS_PER_S);
    assert_int_equal(p->limits.concurrency, 1);
    assert_int_equal(p->limits.connections, 2);
    assert_int_equal(p->limits.streams, 3);
    assert_int_equal(p->limits.dials, 4);
    assert_int_equal(p->max_head_bytes, 1024);
    assert_int_equal(p->max_fields, 5);
    assert_int_equal(p->max_informational, 0);
    assert_int_equal(p->queue.size, 0);
    assert_int_equal(p->queue.max_wait_ns, 7 * NS_PER_MS);
    assert_int_equal(p->retry.attempts, 1);
    assert_int_equal(p->retry.on, RETRY_ON_CONNECT | RETRY_ON_REFUSED | RETRY_ON_RESET);
    config_free(config);
}

static void the_queue_keys_arrive(void **state) {
    struct config *config = parse(
        "[[pipeline]]\nname = 'q'\nendpoints = ['a:80']\n"
        "limits = { concurrency = 'auto', concurrency_min = 5, concurrency_max = 6 }\n"
        "queue = { target = '3ms', fair_by = 'X-Tenant', priority_field = 'X-Priority' }\n"
        "[[pipeline]]\nname = 'r'\nendpoints = ['a:80']\n"
        "queue = { target = '0s', fair_by = 'none', max_wait = '30s' }\n"
        "[[pipeline]]\nname = 's'\nendpoints = ['a:80']\nqueue = { max_wait = '30s' }\n" LISTENER
            PIPELINE ROUTE);
    const struct config_pipeline *p = config->pipelines;

    assert_int_equal(p->limits.concurrency, 0);
    assert_int_equal(p->limits.concurrency_min, 5);
    assert_int_equal(config_concurrency_max(p), 6);
    assert_int_equal(p->queue.target_ns, 3 * NS_PER_MS);
    assert_int_equal(p->queue.fair, FAIR_FIELD);
    assert_string_equal(p->queue.fair_field, "X-Tenant");
    assert_string_equal(p->queue.priority_field, "X-Priority");
    p++;
    assert_int_equal(p->queue.target_ns, 0);
    assert_int_equal(p->queue.fair, FAIR_NONE);
    p++;
    assert_int_equal(p->queue.target_ns, 150 * NS_PER_MS);
    p++;
    assert_int_equal(config_concurrency_max(p), 64);
    assert_int_equal(p->queue.target_ns, 10 * NS_PER_MS); /* of 2 s */
    assert_int_equal(p->queue.fair, FAIR_CLIENT);
    assert_null(p->queue.priority_field);
    config_free(config);
}

static void the_route_keys_arrive(void **state) {
    struct config *config = parse(
        LISTENER PIPELINE
        "[[route]]\nname = 'r'\nlistener = 'l'\npipeline = 'p'\ndeadline = '1s'\nstream = true\n"
        "match = { host = '*.Example.COM', path = '/a/%C3%A9/', method = ['GET', 'M-SEARCH'], "
        "header = { X-Name = 'Value', x-any = true } }\n"
        "[[route]]\npipeline = 'p'\nmatch = { exact = '/', method = 'GET', host = '[::1]' }\n");
    const struct config_route *r = config->routes;

    assert_string_equal(r->name, "r");
    assert_int_equal(r->listener, 0);
    assert_int_equal(r->deadline_ns, NS_PER_S);
    assert_true(r->is_stream);
    assert_string_equal(r->host, "*.example.com");
    assert_string_equal(r->path, "/a/%C3%A9/");
    assert_int_equal(r->method_count, 2);
    assert_string_equal(r->methods[1], "M-SEARCH");
    assert_int_equal(r->field_count, 2);
    assert_string_equal(r->fields[0].name, "x-name");
    assert_string_equal(r->fields[0].value, "Value");
    assert_string_equal(r->fields[1].name, "x-any");
    assert_null(r->fields[1].value);
    assert_string_equal(r[1].exact, "/");
    assert_string_equal(r[1].methods[0], "GET");
    assert_string_equal(r[1].name, "*:[::1]/");
    config_free(config);
}

static void routes_without_a_name_get_one_of_their_own(void **state) {
    struct config *config =
        parse(LISTENER PIPELINE
              "[[route]]\npipeline = 'p'\nlistener = 'l'\nmatch = { path = '/a' }\n"
              "[[route]]\npipeline = 'p'\nlistener = 'l'\nmatch = { exact = '/a' }\n"
              "[[route]]\npipeline = 'p'\nlistener = 'l'\nmatch = { path = '/a', method = 'GET' }\n"
              "[[route]]\npipeline = 'p'\nmatch = { host = 'h', path = '/a' }\n");

    assert_string_equal(config->routes[0].name, "l:/a");
    assert_string_equal(config->routes[1].name, "l:/a#2");
    assert_string_equal(config->routes[2].name, "l:/a#3");
    assert_string_equal(config->routes[3].name, "*:h/a");
    config_free(config);
}

static void dotted_keys_and_headers_are_inline_tables(void **state) {
    struct config *config = parse("server.drain.shutdown = '1s'\n[[listener]]\nname = 'l'\n"
                                  "listen = ':80'\nlimits.fields = 9\n[listener.timeouts]\n"
                                  "idle = '4s'\n" PIPELINE ROUTE);

    assert_int_equal(config->server.drain_shutdown_ns, NS_PER_S);
    assert_int_equal(config->listeners[0].max_fields, 9);
    assert_int_equal(config->listeners[0].idle_timeout_ns, 4 * NS_PER_S);
    config_free(config);
}

static void a_small_head_takes_the_default_target_with_it(void **state) {
    struct config *config = parse("[[listener]]\nname = 'l'\nlisten = ':80'\n"
                                  "limits = { head = '4KiB' }\n" PIPELINE ROUTE);

    assert_int_equal(config->listeners[0].max_target_bytes, 4096);
    config_free(config);
}

static void the_files_that_come_with_weir_are_good(void **state) {
    struct config *config = load(WEIR_CONFIG_DIR "/minimal.toml");

    assert_int_equal(config->route_count, 1);
    config_free(config);
    config = load(WEIR_CONFIG_DIR "/weir.toml");
    assert_int_equal(config->pipeline_count, 2);
    assert_string_equal(config->routes[2].name, "mcp");
    config_free(config);
}

static void a_file_that_cannot_be_read_is_one_error(void **state) {
    char path[] = "weir-config-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
    close(fd);
    expect_cannot_load(path, "it is larger than 1 MiB");
    assert_int_equal(unlink(path), 0);
    expect_cannot_load(path, "No such file or directory");
    expect_cannot_load("/", "Is a directory");
    expect_cannot_load("/dev/null/x", "Not a directory");
}

static void an_unreadable_file_is_an_error(void **state) {
    char path[] = "weir-config-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(chmod(path, 0), 0);
    if (access(path, R_OK) != 0) /* root reads everything */
        expect_cannot_load(path, "Permission denied");
    assert_int_equal(unlink(path), 0);
}

static void nothing_at_all_names_what_is_needed(void **state) {
    expect_errors("", "t:1:1: listener: found none, expected at least one [[listener]]\n"
                      "t:1:1: pipeline: found none, expected at least one [[pipeline]]\n"
                      "t:1:1: route: found none, expected at least one [[route]]\n");
}

static void what_is_no_toml_is_one_error(void **state) {
    expect_errors("[server]\nthreads = two\n", "t:2:12: this is no value; a string needs quotes\n");
    expect_errors("[server]\nthreads = 1\nthreads = 2\n",
                  "t:3:1: duplicate key 'threads': it is set above, as integer\n");
    expect_errors("[server]\nthreads = 99999999999999999999\n",
                  "t:2:31: '99999999999999999999' is not representable in 64 bits (decimal "
                  "integer)\n");
    expect_errors("[server]\nresolver = '\xff'\n", "t:2:13: a byte that is not UTF-8\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_has_a_default),
        cmocka_unit_test(the_server_keys_arrive),
        cmocka_unit_test(a_state_file_is_a_path_and_its_directory_may_come_later),
        cmocka_unit_test(the_listener_keys_arrive),
        cmocka_unit_test(the_pipeline_keys_arrive),
        cmocka_unit_test(the_queue_keys_arrive),
        cmocka_unit_test(the_route_keys_arrive),
        cmocka_unit_test(routes_without_a_name_get_one_of_their_own),
        cmocka_unit_test(dotted_keys_and_headers_are_inline_tables),
        cmocka_unit_test(a_small_head_takes_the_default_target_with_it),
        cmocka_unit_test(the_files_that_come_with_weir_are_good),
        cmocka_unit_test(a_file_that_cannot_be_read_is_one_error),
        cmocka_unit_test(an_unreadable_file_is_an_error),
        cmocka_unit_test(nothing_at_all_names_what_is_needed),
        cmocka_unit_test(what_is_no_toml_is_one_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
