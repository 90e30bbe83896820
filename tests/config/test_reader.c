/* What each key refuses, and in which words. */
#include "config/reader.h"

#include "base/buffer.h"
#include "expect.h"

#include <stdio.h>

/* One line of a section, the error it makes and its column. */
struct refusal {
    const char *line;
    unsigned column;
    const char *error;
};

/* Puts each line into the section at the end of @start and expects its error only. */
static void expect_refusals(const char *start, const char *end, const struct refusal *refusals) {
    unsigned line = 1;

    for (const char *at = start; *at; at++)
        line += *at == '\n';
    for (; refusals->line; refusals++) {
        struct buffer text = {0};
        struct buffer expected = {0};

        buffer_printf(&text, "%s%s\n%s%c", start, refusals->line, end, '\0');
        buffer_printf(&expected, "t:%u:%u: %s\n%c", line, refusals->column, refusals->error, '\0');
        expect_errors(text.base, expected.base);
        buffer_deinit(&text);
        buffer_deinit(&expected);
    }
}

static void numbers_are_integers_in_their_range(void **state) {
    static const struct refusal refusals[] = {
        {"threads = 0", 11,
         "server.threads: found 0 (integer), expected \"auto\" or an integer from 1 to 64"},
        {"threads = 65", 11,
         "server.threads: found 65 (integer), expected \"auto\" or an integer from 1 to 64"},
        {"threads = -1", 11,
         "server.threads: found -1 (integer), expected \"auto\" or an integer from 1 to 64"},
        {"threads = 9223372036854775807", 11,
         "server.threads: found 9223372036854775807 (integer), expected \"auto\" or an integer "
         "from "
         "1 to 64"},
        {"threads = nan", 11,
         "server.threads: found nan (float), expected \"auto\" or an integer from 1 to 64"},
        {"threads = -inf", 11,
         "server.threads: found -inf (float), expected \"auto\" or an integer from 1 to 64"},
        {"threads = 2.0", 11,
         "server.threads: found 2.00 (float), expected \"auto\" or an integer from 1 to 64"},
        {"threads = true", 11,
         "server.threads: found true (boolean), expected \"auto\" or an integer from 1 to 64"},
        {"threads = '4'", 11,
         "server.threads: found \"4\" (string), expected \"auto\" or an integer from 1 to 64"},
        {"threads = \"auto\\u0000\"", 11,
         "server.threads: found \"auto\\x00\" (string), expected \"auto\" or an integer from 1 to "
         "64"},
        {"threads = [1]", 11,
         "server.threads: found an array, expected \"auto\" or an integer from 1 to 64"},
        {"threads = {}", 11,
         "server.threads: found a table, expected \"auto\" or an integer from 1 to 64"},
        {"threads = 2020-01-01", 11,
         "server.threads: found a date, expected \"auto\" or an integer from 1 to 64"},
        {0},
    };

    expect_refusals("[server]\n", REST, refusals);
}

static void durations_have_a_unit_and_a_range(void **state) {
    static const struct refusal refusals[] = {
        {"timeouts.idle = 30", 17,
         "listener.timeouts.idle: found 30 (integer), expected a duration from 1ms to 24h, or 0 "
         "for "
         "off; did you mean \"30s\"?"},
        {"timeouts.idle = '30'", 17,
         "listener.timeouts.idle: found \"30\" (string), expected a duration from 1ms to 24h, or 0 "
         "for off; did you mean \"30s\"?"},
        {"timeouts.idle = '-1s'", 17,
         "listener.timeouts.idle: found \"-1s\" (string), expected a duration from 1ms to 24h, or "
         "0 "
         "for off"},
        {"timeouts.idle = -1", 17,
         "listener.timeouts.idle: found -1 (integer), expected a duration from 1ms to 24h, or 0 "
         "for "
         "off"},
        {"timeouts.idle = 'NaN'", 17,
         "listener.timeouts.idle: found \"NaN\" (string), expected a duration from 1ms to 24h, or "
         "0 "
         "for off"},
        {"timeouts.idle = '25h'", 17,
         "listener.timeouts.idle: found \"25h\" (string), expected a duration from 1ms to 24h, or "
         "0 "
         "for off"},
        {"timeouts.idle = '99999999999999999999h'", 17,
         "listener.timeouts.idle: found \"99999999999999999999h\" (string), expected a duration "
         "from "
         "1ms to 24h, or 0 for off"},
        {"timeouts.idle = 0.0", 17,
         "listener.timeouts.idle: found 0.00 (float), expected a duration from 1ms to 24h, or 0 "
         "for "
         "off"},
        {"timeouts.idle = false", 17,
         "listener.timeouts.idle: found false (boolean), expected a duration from 1ms to 24h, or 0 "
         "for off"},
        {0},
    };
    static const struct refusal never_off[] = {
        {"resolve_interval = 0", 20,
         "server.resolve_interval: found 0 (integer), expected a duration from 100ms to 24h"},
        {"resolve_interval = '99ms'", 20,
         "server.resolve_interval: found \"99ms\" (string), expected a duration from 100ms to 24h"},
        {0},
    };

    expect_refusals(LISTENER, PIPELINE ROUTE, refusals);
    expect_refusals("[server]\n", REST, never_off);
}

static void sizes_have_a_range(void **state) {
    static const struct refusal refusals[] = {
        {"limits.head = '64k'", 15,
         "listener.limits.head: found \"64k\" (string), expected a size from 1KiB to 16MiB; did "
         "you "
         "mean \"64KiB\"?"},
        {"limits.head = 1023", 15,
         "listener.limits.head: found 1023 (integer), expected a size from 1KiB to 16MiB"},
        {"limits.head = '17MiB'", 15,
         "listener.limits.head: found \"17MiB\" (string), expected a size from 1KiB to 16MiB"},
        {"limits.head = '99999999999GiB'", 15,
         "listener.limits.head: found \"99999999999GiB\" (string), expected a size from 1KiB to "
         "16MiB"},
        {"limits.head = inf", 15,
         "listener.limits.head: found inf (float), expected a size from 1KiB to 16MiB"},
        {0},
    };

    expect_refusals(LISTENER, PIPELINE ROUTE, refusals);
}

static void words_are_one_of_a_few(void **state) {
    static const struct refusal log[] = {
        {"level = 'warning'", 9,
         "log.level: found \"warning\" (string), expected one of \"error\", \"warn\", \"info\", "
         "\"debug\"; did you mean \"warn\"?"},
        {"level = 3", 9,
         "log.level: found 3 (integer), expected one of \"error\", \"warn\", \"info\", \"debug\""},
        {"file = 'stdout'", 8,
         "log.file: found \"stdout\" (string), expected \"stderr\" or a path with a slash such as "
         "\"/var/log/weir.log\""},
        {"file = '/var/log/'", 8,
         "log.file: found \"/var/log/\" (string), expected \"stderr\" or a path with a slash such "
         "as "
         "\"/var/log/weir.log\""},
        {"access = ''", 10,
         "log.access: found \"\" (string), expected \"stderr\", \"off\" or a path with a slash "
         "such "
         "as \"/var/log/weir.log\""},
        {0},
    };
    static const struct refusal listener[] = {
        {"protocol = 'htpp1'", 12,
         "listener.protocol: found \"htpp1\" (string), expected one of \"http1\", "
         "\"http2\", \"auto\"; did you mean "
         "\"http1\"?"},
        {"half_close = 1", 14, "listener.half_close: found 1 (integer), expected true or false"},
        {0},
    };
    static const struct refusal pipeline[] = {
        {"retry.on = ['conect']", 13,
         "pipeline.retry.on: found \"conect\" (string), expected one of \"connect\", \"refused\", "
         "\"reset\", \"timeout\", \"502\", \"503\", \"504\"; did you mean \"connect\"?"},
        {"retry.on = [500]", 13,
         "pipeline.retry.on: found 500 (integer), expected one of \"connect\", \"refused\", "
         "\"reset\", \"timeout\", \"502\", \"503\", \"504\""},
        {"retry.budget = 1.5", 16,
         "pipeline.retry.budget: found 1.50 (float), expected a share from 0.01 to 1.00, or 0 for "
         "off"},
        {"balance = { by = 'hash', hash = 'header:' }", 33,
         "pipeline.balance.hash: found \"header:\" (string), expected \"client\", \"path\", "
         "\"header:NAME\" or \"cookie:NAME\""},
        {"retry.on = 'connect'", 12,
         "pipeline.retry.on: found \"connect\" (string), expected a list of reasons such as [ "
         "\"...\" ]"},
        {"host = 'a b'", 8,
         "pipeline.host: found \"a b\" (string), expected a host such as \"example.com\" or "
         "\"example.com:8080\""},
        {0},
    };

    expect_refusals("[log]\n", REST, log);
    expect_refusals(LISTENER, PIPELINE ROUTE, listener);
    expect_refusals(PIPELINE, LISTENER ROUTE, pipeline);
}

static void unknown_keys_are_errors(void **state) {
    static const struct refusal server[] = {
        {"thread = 1", 1,
         "server.thread: found an unknown key, expected one of threads, handler_threads, "
         "handler_memory, handler_loss, drain, resolver, "
         "resolve_interval, wedge_after, user, state_file; did you mean \"threads\"?"},
        {"'a b' = 1", 1,
         "server.\"a b\": found an unknown key, expected one of threads, handler_threads, "
         "handler_memory, handler_loss, drain, resolver, "
         "resolve_interval, wedge_after, user, state_file"},
        {"drain = { shutdwon = '1s' }", 11,
         "server.drain.shutdwon: found an unknown key, expected one of shutdown, reload; did you "
         "mean \"shutdown\"?"},
        {"drain = '30s'", 9,
         "server.drain: found \"30s\" (string), expected a table such as { ... }"},
        {"shutdown = '1s'", 1,
         "server.shutdown: found an unknown key, expected one of threads, handler_threads, "
         "handler_memory, handler_loss, drain, resolver, "
         "resolve_interval, wedge_after, user, state_file; did you mean \"drain.shutdown\"?"},
        {"threads.x = 1", 1,
         "server.threads: found a table, expected \"auto\" or an integer from 1 to 64"},
        {0},
    };

    expect_refusals("[server]\n", REST, server);
    expect_errors("wedge = 1\n[lisener]" REST,
                  "t:1:1: wedge: found an unknown section, expected one of server, admission, "
                  "admin, log, listener, pipeline, handler, route\n"
                  "t:2:2: lisener: found an unknown section, expected one of server, admission, "
                  "admin, log, listener, pipeline, handler, route; did you mean \"listener\"?\n");
}

static void sections_have_their_form(void **state) {
    expect_errors("[[server]]" REST, "t:1:1: server: found an array, expected [server]\n");
    expect_errors("log = 1" REST, "t:1:7: log: found 1 (integer), expected [log]\n");
    expect_errors("[route]\npipeline = 'p'\n" LISTENER PIPELINE,
                  "t:1:1: route: found a table, expected [[route]]\n");
    expect_errors("route = [1, { pipeline = 'p' }]\n" LISTENER PIPELINE,
                  "t:1:10: route: found 1 (integer), expected [[route]]\n");
    expect_errors("route = []\n" LISTENER PIPELINE,
                  "t:1:9: route: found an array, expected [[route]]\n");
}

static void a_section_has_so_many_tables_at_most(void **state) {
    struct buffer text = {0};

    for (int i = 0; i < 65; i++)
        buffer_printf(&text, "[[listener]]\n");
    buffer_printf(&text, PIPELINE ROUTE "%c", '\0');
    expect_errors(text.base, "t:1:1: listener: found 65 of them, expected at most 64\n");
    buffer_deinit(&text);
}

static void what_is_required_is_missed(void **state) {
    expect_errors("[[listener]]\n[[pipeline]]\n[[route]]\n",
                  "t:1:1: listener.name: found nothing, expected this key in every [[listener]]\n"
                  "t:1:1: listener.listen: found nothing, expected this key in every [[listener]]\n"
                  "t:2:1: pipeline.name: found nothing, expected this key in every [[pipeline]]\n"
                  "t:2:1: pipeline.endpoints: found nothing, expected this key in every "
                  "[[pipeline]] but one with protocol = \"exec\"\n"
                  "t:3:1: route.pipeline: found nothing, expected this key in every [[route]]\n");
}

static void names_and_addresses_are_checked(void **state) {
    expect_errors(
        "[[listener]]\nname = 'a b'\nlisten = 'localhost:80'\ntrust = ['127.0.0.1/8', 'x', "
        "3]\n[[pipeline]]\nname = ''\nendpoints = ['A:80', ':80', 'a:80', 7]\n[admin]\n"
        "listen = 9901\n[server]\nresolver = '127.0.0.1:53, dns'\n[[route]]\npipeline = "
        "3\n",
        "t:2:8: listener.name: found \"a b\" (string), expected a name of 1 to 64 letters, "
        "digits, '.', '_' and '-'\n"
        "t:3:10: listener.listen: found \"localhost:80\" (string), expected an address to "
        "listen on such as \":8080\", \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"; "
        "did you mean \"127.0.0.1:80\"?\n"
        "t:4:10: listener.trust: found \"127.0.0.1/8\" (string), expected no address bits "
        "behind the prefix; did you mean \"127.0.0.0/8\"?\n"
        "t:4:25: listener.trust: found \"x\" (string), expected a block of addresses such "
        "as \"10.0.0.0/8\" or \"::1\"\n"
        "t:4:30: listener.trust: found 3 (integer), expected a block of addresses such as "
        "\"10.0.0.0/8\" or \"::1\"\n"
        "t:6:8: pipeline.name: found \"\" (string), expected a name of 1 to 64 letters, "
        "digits, '.', '_' and '-'\n"
        "t:7:22: pipeline.endpoints: found \":80\" (string), expected an address to dial "
        "such as \"127.0.0.1:8080\", \"[::1]:8080\", \"name:8080\" or \"unix:/path\"; did "
        "you mean \"127.0.0.1:80\"?\n"
        "t:7:29: pipeline.endpoints: found \"a:80\" (string), expected each endpoint once\n"
        "t:7:37: pipeline.endpoints: found 7 (integer), expected an address to dial such "
        "as \"127.0.0.1:8080\", \"[::1]:8080\", \"name:8080\" or \"unix:/path\"\n"
        "t:9:10: admin.listen: found 9901 (integer), expected an address to listen on such "
        "as \":8080\", \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"\n"
        "t:11:12: server.resolver: found \"127.0.0.1:53, dns\" (string), expected name "
        "servers by address such as \"127.0.0.1:53, [::1]:53\"\n"
        "t:13:12: route.pipeline: found 3 (integer), expected the name of a pipeline\n");
}

static void a_list_has_so_many_elements_at_most(void **state) {
    struct buffer text = {0};

    buffer_printf(&text, LISTENER ROUTE "[[pipeline]]\nname = 'p'\nendpoints = [");
    for (int i = 1; i <= 65; i++)
        buffer_printf(&text, "'a:%d',", i);
    buffer_printf(&text, "]\n%c", '\0');
    expect_errors(text.base,
                  "t:8:13: pipeline.endpoints: found a list of 65, expected 1 to 64 addresses\n");
    buffer_deinit(&text);
    expect_errors(LISTENER ROUTE "[[pipeline]]\nname = 'p'\nendpoints = []\n",
                  "t:8:13: pipeline.endpoints: found a list of 0, expected 1 to 64 addresses\n");
}

static void a_match_is_in_the_form_of_requests(void **state) {
    static const struct refusal refusals[] = {
        {"match.path = ''", 14,
         "route.match.path: found \"\" (string), expected a path that begins with '/'"},
        {"match.path = 'a'", 14,
         "route.match.path: found \"a\" (string), expected a path that begins with '/'"},
        {"match.path = '/a?b'", 14,
         "route.match.path: found \"/a?b\" (string), expected a path without query or fragment"},
        {"match.path = '/a/./b'", 14,
         "route.match.path: found \"/a/./b\" (string), expected a path without \".\" and \"..\""},
        {"match.exact = '/a/..'", 15,
         "route.match.exact: found \"/a/..\" (string), expected a path without \".\" and \"..\""},
        {"match.path = '/a%2Fb'", 14,
         "route.match.path: found \"/a%2Fb\" (string), expected a path without %2F, %5C and %00, "
         "which servers read in different ways"},
        {"match.path = '/a%2'", 14,
         "route.match.path: found \"/a%2\" (string), expected two upper-case hexadecimal digits "
         "behind each '%'"},
        {"match.path = '/%c3%a9'", 14,
         "route.match.path: found \"/%c3%a9\" (string), expected two upper-case hexadecimal digits "
         "behind each '%'"},
        {"match.path = '/%41'", 14,
         "route.match.path: found \"/%41\" (string), expected a path in which letters, digits, "
         "'-', "
         "'.', '_' and '~' are not percent-encoded"},
        {"match.path = '/a b'", 14,
         "route.match.path: found \"/a b\" (string), expected a path in which such characters are "
         "percent-encoded"},
        {"match.host = 'a.b:80'", 14,
         "route.match.host: found \"a.b:80\" (string), expected a host without port such as "
         "\"example.com\" or \"*.example.com\""},
        {"match.host = 'a.*.b'", 14,
         "route.match.host: found \"a.*.b\" (string), expected a host without port such as "
         "\"example.com\" or \"*.example.com\""},
        {"match.method = []", 16,
         "route.match.method: found a list of 0, expected 1 to 32 methods"},
        {"match.method = ['GET', 'GET']", 24,
         "route.match.method: found \"GET\" (string), expected each method once"},
        {"match.method = 'G T'", 16,
         "route.match.method: found \"G T\" (string), expected a method such as \"GET\""},
        {"match.header = {}", 16,
         "route.match.header: found a table, expected a table of 1 to 16 fields such as { "
         "\"x-name\" = \"value\" }"},
        {"match.header = { 'a b' = 'c' }", 18,
         "route.match.header: found \"a b\", expected a field name"},
        {"match.header = { a = '1', A = '2' }", 27,
         "route.match.header: found the field \"a\" twice, expected each once"},
        {"match.header = { a = false }", 22,
         "route.match.header: found false (boolean), expected a field value, or true for any "
         "value"},
        {"match.header = { a = ' b' }", 22,
         "route.match.header: found \" b\" (string), expected a field value, or true for any "
         "value"},
        {"match = '/a'", 9, "route.match: found \"/a\" (string), expected a table such as { ... }"},
        {"deadline = 'soon'", 12,
         "route.deadline: found \"soon\" (string), expected a duration from 1ms to 24h, or 0 for "
         "off"},
        {0},
    };

    expect_refusals(LISTENER PIPELINE ROUTE, "", refusals);
}

static void many_errors_are_all_told_in_order(void **state) {
    struct config *config = NULL;
    struct config_errors errors = {0};
    struct buffer text = {0};

    for (int i = 1; i <= 150; i++)
        buffer_printf(&text, "x%d = 1\n", i);
    assert_int_equal(config_parse(&config, "t", text.base, text.len, &options_2_cores, &errors),
                     -EINVAL);
    assert_int_equal(errors.count, 150 + 3);
    assert_memory_equal(errors.text, "t:1:1: listener: ", 17);
    assert_non_null(strstr(errors.text, "\nt:97:1: x97: found an unknown section"));
    assert_non_null(strstr(errors.text, "\nt: and 53 more\n"));
    config_errors_deinit(&errors);
    buffer_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_integers_in_their_range),
        cmocka_unit_test(durations_have_a_unit_and_a_range),
        cmocka_unit_test(sizes_have_a_range),
        cmocka_unit_test(words_are_one_of_a_few),
        cmocka_unit_test(unknown_keys_are_errors),
        cmocka_unit_test(sections_have_their_form),
        cmocka_unit_test(a_section_has_so_many_tables_at_most),
        cmocka_unit_test(what_is_required_is_missed),
        cmocka_unit_test(names_and_addresses_are_checked),
        cmocka_unit_test(a_list_has_so_many_elements_at_most),
        cmocka_unit_test(a_match_is_in_the_form_of_requests),
        cmocka_unit_test(many_errors_are_all_told_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
