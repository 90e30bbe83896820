/* The text of `weir check`. */
#include "config/config.h"

#include "expect.h"

static void the_summary_shows_limits_and_sums_in_columns(void **state) {
    struct config *config =
        parse(LISTENER "[[listener]]\nname = 'second'\nlisten = 'unix:/run/weir.sock'\n"
                       "timeouts = { header = 0 }\n" PIPELINE
                       "[[pipeline]]\nname = 'jobs'\nendpoints = ['app:90', '10.0.0.1:90']\n"
                       "limits = { concurrency = 8, connections = 16 }\n"
                       "[[route]]\npipeline = 'p'\n"
                       "[[route]]\npipeline = 'jobs'\nlistener = 'l'\n"
                       "match = { host = 'a.b', exact = '/x', method = ['GET', 'PUT'], "
                       "header = { x-a = true, x-b = '1' } }\n");
    char *text = config_summary(config);

    assert_string_equal(
        text,
        "listeners\n"
        "  l        :80                  http1  header 10s  body 1m  idle 1m  stream idle 5m  head "
        "64KiB\n"
        "  second   unix:/run/weir.sock  http1  header off  body 1m  idle 1m  stream idle 5m  head "
        "64KiB\n"
        "  (admin)  127.0.0.1:9901\n"
        "\n"
        "pipelines\n"
        "  p     127.0.0.1:90  64 at once  406 connections per endpoint  1000 streams  queue of "
        "256  "
        "max wait 2s  deadline 30s\n"
        "  jobs  app:90        8 at once   16 connections per endpoint   1000 streams  queue of "
        "256  "
        "max wait 2s  deadline 30s\n"
        "        10.0.0.1:90\n"
        "\n"
        "routes\n"
        "  *:/      any listener  /                                    to p\n"
        "  l:a.b/x  l             GET,PUT a.b/x exactly with x-a, x-b  to jobs\n"
        "\n"
        "file descriptors (fds)\n"
        "          48  in reserve: admin, logs, files, 2 threads\n"
        "           4  to listen: 2 listeners x 2 threads\n"
        "         486  connections to upstreams\n"
        "         486  connections of clients\n"
        "           0  spare\n"
        "  ----------\n"
        "        1024  the limit\n");
    free(text);
    config_free(config);
}

static void streams_of_a_connection_are_shown(void **state) {
    struct config *config = parse(LISTENER ROUTE PIPELINE "protocol = 'http2'\n"
                                                          "limits = { connections = 3, "
                                                          "streams_per_connection = 7 }\n");
    char *text = config_summary(config);

    assert_non_null(strstr(text, "  3 HTTP/2 connections of 7 streams per endpoint  "));
    free(text);
    config_free(config);
}

static void an_admin_listener_that_is_off_says_so(void **state) {
    struct config *config = parse("[server]\nthreads = 1\n[admin]\nlisten = 'off'\n" REST);
    char *text = config_summary(config);

    assert_non_null(strstr(text, "\n  (admin)  off\n"));
    assert_non_null(strstr(text, "in reserve: admin, logs, files, 1 thread\n"));
    assert_non_null(strstr(text, "to listen: 1 listener x 1 thread\n"));
    free(text);
    config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_summary_shows_limits_and_sums_in_columns),
        cmocka_unit_test(streams_of_a_connection_are_shown),
        cmocka_unit_test(an_admin_listener_that_is_off_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
