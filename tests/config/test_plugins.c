/* [[handler]]: its plugin, its own table, and the routes that name it. */
#include "config/plugins.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "expect.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDLER "[[handler]]\nname = 'h'\nplugin = './plugin.so'\n"
#define ERRORS_OF(table, error)                                 \
    expect_errors(HANDLER "[handler.config]\n" table "\n" REST, \
                  "t:5:5: handler.config: found " error         \
                  ", expected a value that JSON has, too: no date, no infinite number\n")

static char *write_plugin(const char *folder) {
    char *path = xasprintf("%s/plugin.so", folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    close(fd);
    return path;
}

static int enter_folder(void **state) {
    char *folder = xstrdup("/tmp/weir-plugins-XXXXXX");

    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    free(write_plugin("."));
    *state = folder;
    return 0;
}

static int leave_folder(void **state) {
    char *folder = *state;

    assert_int_equal(unlink("plugin.so"), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(folder), 0);
    free(folder);
    return 0;
}

static void expect_json(const char *table, const char *json) {
    char *text = xasprintf(HANDLER "%s\n" REST, table);
    struct config *config = parse(text);

    assert_string_equal(config->handlers[0].config, json);
    config_free(config);
    free(text);
}

static void everything_has_a_default(void **state) {
    struct config *config = parse(HANDLER REST);
    const struct config_handler *handler = config->handlers;

    assert_int_equal(config->handler_count, 1);
    assert_string_equal(handler->plugin, "././plugin.so");
    assert_int_equal(handler->timeout_ns, 250 * NS_PER_MS);
    assert_int_equal(handler->isolation, ISOLATION_THREAD);
    assert_true(handler->fault.quarantine_share == 0.5);
    assert_int_equal(handler->fault.min_calls, 20);
    assert_int_equal(handler->fault.window_ns, 60 * NS_PER_S);
    assert_true(handler->fault.demote);
    assert_int_equal(handler->process.memory, 512 << 20);
    assert_int_equal(handler->process.cpu_ns, NS_PER_S);
    assert_int_equal(handler->on_quarantine, QUARANTINE_REFUSE);
    assert_int_equal(handler->hold_ns, 30 * NS_PER_S);
    assert_int_equal(handler->queue, 256);
    assert_int_equal(handler->body_max, 1 << 20);
    assert_string_equal(handler->config, "{}");
    assert_int_equal(config->server.handler_threads, 4);
    assert_int_equal(config->server.handler_memory, 64 << 20);
    assert_int_equal(config->server.handler_loss, 64 << 20);
    assert_int_equal(config->routes[0].handler_count, 0);
    config_free(config);
}

static void all_keys_arrive(void **state) {
    struct config *config = parse(
        "server = { handler_threads = 7, handler_memory = '2MiB', handler_loss = '3MiB' }\n" HANDLER
        "timeout = '1s'\nisolation = 'process'\nfault = { quarantine_share = 0, min_calls = "
        "3, window = '5s', demote = false }\non_quarantine = 'bypass'\nhold = '2s'\nqueue = "
        "9\nbody_max = '4KiB'\nprocess = { memory = '9MiB', cpu = '0s' }\n" REST);
    const struct config_handler *handler = config->handlers;

    assert_int_equal(config->server.handler_threads, 7);
    assert_int_equal(config->server.handler_memory, 2 << 20);
    assert_int_equal(config->server.handler_loss, 3 << 20);
    assert_int_equal(handler->timeout_ns, NS_PER_S);
    assert_int_equal(handler->isolation, ISOLATION_PROCESS);
    assert_true(handler->fault.quarantine_share == 0);
    assert_int_equal(handler->fault.min_calls, 3);
    assert_int_equal(handler->fault.window_ns, 5 * NS_PER_S);
    assert_false(handler->fault.demote);
    assert_int_equal(handler->process.memory, 9 << 20);
    assert_int_equal(handler->process.cpu_ns, 0);
    assert_int_equal(handler->on_quarantine, QUARANTINE_BYPASS);
    assert_int_equal(handler->hold_ns, 2 * NS_PER_S);
    assert_int_equal(handler->queue, 9);
    assert_int_equal(handler->body_max, 4096);
    config_free(config);
}

static void without_handlers_there_are_no_workers(void **state) {
    struct config *config = parse("[server]\nhandler_threads = 7\n" REST);

    assert_int_equal(config->handler_count, 0);
    assert_int_equal(config->server.handler_threads, 0);
    config_free(config);
}

static void a_route_names_its_handlers_in_order(void **state) {
    struct config *config =
        parse("[[handler]]\nname = 'a'\nplugin = 'plugin.so'\n" HANDLER LISTENER PIPELINE ROUTE
              "handlers = ['h', 'a']\n");

    assert_int_equal(config->routes[0].handler_count, 2);
    assert_int_equal(config->routes[0].handlers[0], 1);
    assert_int_equal(config->routes[0].handlers[1], 0);
    config_free(config);
    expect_errors(HANDLER LISTENER PIPELINE ROUTE "handlers = ['h', 'hh', 'h']\n",
                  "t:12:18: route.handlers: found \"hh\" (string), expected the name of a "
                  "[[handler]]; did you mean \"h\"?\n"
                  "t:12:24: route.handlers: found \"h\" twice, expected each handler once\n");
    expect_errors(HANDLER LISTENER PIPELINE ROUTE "handlers = 'h'\n",
                  "t:12:12: route.handlers: found \"h\" (string), expected a list of at most 16 "
                  "names of [[handler]]s\n");
    expect_errors(HANDLER LISTENER PIPELINE ROUTE "handlers = [1]\n",
                  "t:12:13: route.handlers: found 1 (integer), expected the name of a "
                  "[[handler]]\n");
    expect_errors(HANDLER LISTENER PIPELINE ROUTE
                  "handlers = ['','','','','','','','','','','','','','','','','']\n",
                  "t:12:12: route.handlers: found an array, expected a list of at most 16 names of "
                  "[[handler]]s\n");
}

static void handlers_have_names_of_their_own(void **state) {
    expect_errors(HANDLER HANDLER REST,
                  "t:5:8: handler.name: found \"h\", expected another name than in line 2\n");
}

static void a_plugin_is_found_from_the_folder_of_the_file(void **state) {
    const char *text = HANDLER REST;
    struct config_errors errors = {0};
    struct config *config;
    char *path;

    assert_int_equal(mkdir("sub", 0755), 0);
    path = write_plugin("sub");
    assert_int_equal(unlink("plugin.so"), 0);
    assert_int_equal(
        config_parse(&config, "sub/weir.toml", text, strlen(text), &options_2_cores, &errors), 0);
    assert_string_equal(config->handlers[0].plugin, "sub/./plugin.so");
    assert_string_equal(config->folder, "sub/");
    config_free(config);
    unlink(path);
    free(path);
    assert_int_equal(rmdir("sub"), 0);
    free(write_plugin("."));
}

static void a_plugin_that_is_not_there_is_an_error(void **state) {
    expect_errors("[[handler]]\nname = 'h'\nplugin = '/none.so'\n" REST,
                  "t:3:10: handler.plugin: found \"/none.so\" (string), expected a plugin that can "
                  "be read ('/none.so': No such file or directory)\n");
    expect_errors("[[handler]]\nname = 'h'\nplugin = ''\n" REST,
                  "t:3:10: handler.plugin: found \"\" (string), expected the path of a plugin such "
                  "as \"./audit.so\", or the name of a built-in one\n");
    expect_errors("[[handler]]\nname = 'h'\n" REST, "t:1:1: handler.plugin: found nothing, "
                                                    "expected this key in every [[handler]]\n");
}

static void a_built_in_plugin_has_a_name(void **state) {
    char *folder = plugins_built_in_folder(), *expected;

    expected = xasprintf("t:3:10: handler.plugin: found \"no-such-plugin-at-all\" (string), "
                         "expected a path that ends in \".so\", or the name of a plugin in '%s'\n",
                         folder);
    expect_errors("[[handler]]\nname = 'h'\nplugin = 'no-such-plugin-at-all'\n" REST, expected);
    free(expected);
    free(folder);
}

static void any_table_becomes_json(void **state) {
    expect_json("config = {}", "{}");
    expect_json("config = { a = 1, b = -9223372036854775808, c = true, d = 'x\"y' }",
                "{\"a\":1,\"b\":-9223372036854775808,\"c\":true,\"d\":\"x\\\"y\"}");
    expect_json("config = { a = 2.0, b = 0.1, c = -1e300, d = 1e16 }",
                "{\"a\":2.0,\"b\":0.10000000000000001,\"c\":-1.0000000000000001e+300,"
                "\"d\":10000000000000000.0}");
    expect_json("[handler.config]\n\"k ey\" = []\n[handler.config.t]\nl = [1, [2], { m = 3 }]\n"
                "[[handler.config.u]]\nv = 4\n[[handler.config.u]]",
                "{\"k ey\":[],\"t\":{\"l\":[1,[2],{\"m\":3}]},\"u\":[{\"v\":4},{}]}");
}

static void what_json_has_not_is_an_error(void **state) {
    ERRORS_OF("a = 1979-05-27", "a date");
    ERRORS_OF("a = inf", "inf (float)");
    ERRORS_OF("a = nan", "nan (float)");
    expect_errors(HANDLER "config = 1\n" REST,
                  "t:4:10: handler.config: found 1 (integer), expected a table, for the plugin\n");
}

static void a_table_has_so_many_levels_at_most(void **state) {
    char open[PLUGINS_CONFIG_DEPTH_MAX + 1] = "", closed[PLUGINS_CONFIG_DEPTH_MAX + 1] = "";
    char *text;

    memset(open, '[', PLUGINS_CONFIG_DEPTH_MAX - 1); /* the table is a level too */
    memset(closed, ']', PLUGINS_CONFIG_DEPTH_MAX - 1);
    text = xasprintf(HANDLER "[handler.config]\na = %s%s\n" REST, open, closed);
    config_free(parse(text));
    free(text);
    text = xasprintf(HANDLER "[handler.config.t]\na = %s%s\n" REST, open, closed);
    expect_errors(text, "t:5:35: handler.config: found an array, expected at most 32 levels\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_has_a_default),
        cmocka_unit_test(all_keys_arrive),
        cmocka_unit_test(without_handlers_there_are_no_workers),
        cmocka_unit_test(a_route_names_its_handlers_in_order),
        cmocka_unit_test(handlers_have_names_of_their_own),
        cmocka_unit_test(a_plugin_is_found_from_the_folder_of_the_file),
        cmocka_unit_test(a_plugin_that_is_not_there_is_an_error),
        cmocka_unit_test(a_built_in_plugin_has_a_name),
        cmocka_unit_test(any_table_becomes_json),
        cmocka_unit_test(what_json_has_not_is_an_error),
        cmocka_unit_test(a_table_has_so_many_levels_at_most),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
