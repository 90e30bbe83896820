/* How the file descriptors are spent, and what happens when they do not suffice. */
#include "config/plan.h"

#include "expect.h"

static struct config *plan(const char *text, unsigned fd_limit) {
    return parse_with(text, &(struct config_options){.fd_limit = fd_limit, .cores = 2});
}

static uint64_t sum(const struct config *config) {
    return config->admission.fd_reserve + config->listener_count * config->server.threads +
           config->admission.fd_upstream + (uint64_t)config->admission.max_connections;
}

static void the_limit_is_shared_out_whole(void **state) {
    static const struct {
        unsigned limit, upstream, clients, connections;
    } cases[] = {
        /* reserve 32 + 2 x 8 = 48, listening 1 x 2 = 2; wanted upstream 64 + 1000 */
        {64, 7, 7, 7},
        {256, 103, 103, 103},
        {1024, 487, 487, 487},
        {20000, 1064, 18886, 1064},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *config = plan(REST, cases[i].limit);

        assert_int_equal(config->admission.fd_limit, cases[i].limit);
        assert_int_equal(config->admission.fd_reserve, 48);
        assert_int_equal(config->admission.fd_upstream, cases[i].upstream);
        assert_int_equal(config->admission.max_connections, cases[i].clients);
        assert_int_equal(config->pipelines[0].limits.connections, cases[i].connections);
        assert_int_equal(sum(config), cases[i].limit);
        config_free(config);
    }
}

static void threads_follow_the_cores(void **state) {
    static const unsigned cases[][2] = {{0, 1}, {1, 1}, {7, 7}, {64, 64}, {500, 64}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *config =
            parse_with(REST, &(struct config_options){.fd_limit = 4096, .cores = cases[i][0]});

        assert_int_equal(config->server.threads, cases[i][1]);
        assert_int_equal(config->admission.fd_reserve, 32 + 8 * cases[i][1]);
        config_free(config);
    }
}

static void pipelines_share_by_what_they_want(void **state) {
    static const char text[] =
        LISTENER ROUTE "[[pipeline]]\nname = 'p'\nendpoints = ['127.0.0.1:1', '127.0.0.1:2']\n"
                       "limits = { concurrency = 100, streams = 100 }\n"
                       "[[pipeline]]\nname = 'q'\nendpoints = ['name:1']\n"
                       "limits = { concurrency = 40, streams = 10 }\n"
                       "[[pipeline]]\nname = 'r'\nendpoints = ['127.0.0.1:3']\n"
                       "limits = { connections = 20 }\n";
    struct config *config = plan(text, 1024);

    /* 2 x 200 + 4 x 50 + 20 = 620 are wanted, (1024 - 50) / 2 = 487 there: 487 - 20 for 600. */
    assert_int_equal(config->admission.fd_upstream, 487);
    assert_int_equal(config->pipelines[0].limits.connections, 155);
    assert_int_equal(config->pipelines[1].limits.connections, 39);
    assert_int_equal(config->pipelines[2].limits.connections, 20);
    assert_in_range(155 * 2 + 39 * 4 + 20, 480, 487);
    config_free(config);

    config = plan(text, 4096);
    assert_int_equal(config->admission.fd_upstream, 620);
    assert_int_equal(config->pipelines[0].limits.connections, 200);
    assert_int_equal(config->pipelines[1].limits.connections, 50);
    config_free(config);
}

static void a_connection_of_many_streams_is_wanted_less_often(void **state) {
    struct config *config =
        plan(LISTENER ROUTE PIPELINE "protocol = 'http2'\n"
                                     "limits = { concurrency = 250, streams = 1000, "
                                     "streams_per_connection = 50 }\n",
             1024);

    /* 25 full ones, and for each of 2 threads one that is not. */
    assert_int_equal(config->pipelines[0].limits.connections, 27);
    assert_int_equal(config->admission.fd_upstream, 27);
    config_free(config);

    /* One that suffices for everything is all there is to share out. */
    config = parse_with(LISTENER ROUTE PIPELINE "protocol = 'http2'\n"
                                                "limits.streams_per_connection = 10000\n",
                        &(struct config_options){.fd_limit = 1024, .cores = 1});
    assert_int_equal(config->pipelines[0].limits.connections, 1);
    config_free(config);
}

static void what_the_file_asks_for_comes_first(void **state) {
    struct config *config =
        plan("[admission]\nmax_connections = 900\nfd_reserve = 50\n" REST, 1024);

    assert_int_equal(config->admission.max_connections, 900);
    assert_int_equal(config->admission.fd_reserve, 50);
    assert_int_equal(config->admission.fd_upstream, 72);
    assert_int_equal(config->pipelines[0].limits.connections, 72);
    assert_int_equal(sum(config), 1024);
    config_free(config);

    config = plan("[admission]\nmax_connections = 10\n" REST, 20000);
    assert_int_equal(config->admission.fd_upstream, 1064);
    assert_true(sum(config) < 20000);
    config_free(config);

    /* More than half, because the file says so. */
    config = plan(LISTENER ROUTE PIPELINE "limits.connections = 900\n", 1024);
    assert_int_equal(config->admission.fd_upstream, 900);
    assert_int_equal(config->admission.max_connections, 74);
    config_free(config);
}

static void the_least_that_works_is_one_of_each(void **state) {
    struct config *config = plan(REST, 52);

    assert_int_equal(config->admission.fd_upstream, 1);
    assert_int_equal(config->admission.max_connections, 1);
    assert_int_equal(config->pipelines[0].limits.connections, 1);
    config_free(config);
    expect_errors_with(REST, &(struct config_options){.fd_limit = 51, .cores = 2},
                       "t:1:1: admission: found a need of 52 fds = 48 in reserve + 2 to listen (1 "
                       "listener x 2 threads) + 1 to upstreams + 1 for clients, expected at most "
                       "the fd limit of 51: raise the limit (ulimit -n, LimitNOFILE=) to 52\n");
}

static void a_sum_beyond_the_limit_is_shown(void **state) {
    expect_errors("[server]\nthreads = 4\n[admission]\nmax_connections = 20000\n" REST,
                  "t:4:19: admission.max_connections: found a need of 20069 fds = 64 in reserve + "
                  "4 to listen (1 listener x 4 threads) + 1 to upstreams + 20000 for clients, "
                  "expected at most the fd limit of 1024: lower admission.max_connections or "
                  "server.threads, or raise the limit (ulimit -n, LimitNOFILE=) to 20069\n");
    expect_errors(
        LISTENER ROUTE PIPELINE "limits = { connections = 1000000 }\n",
        "t:9:26: pipeline.limits.connections: found a need of 1000051 fds = 48 in reserve "
        "+ 2 to listen (1 listener x 2 threads) + 1000000 to upstreams + 1 for clients, "
        "expected at most the fd limit of 1024: lower pipeline.limits.connections, or "
        "raise the limit (ulimit -n, LimitNOFILE=) to 1000051\n");
    expect_errors(
        "[admission]\nfd_reserve = 1000000\n" REST,
        "t:2:14: admission.fd_reserve: found a need of 1000004 fds = 1000000 in reserve + "
        "2 to listen (1 listener x 2 threads) + 1 to upstreams + 1 for clients, expected "
        "at most the fd limit of 1024: lower admission.fd_reserve, or raise the limit "
        "(ulimit -n, LimitNOFILE=) to 1000004\n");
}

static void the_sum_does_not_hide_other_errors(void **state) {
    expect_errors(
        "[log]\nlevl = 'info'\n[admission]\nmax_connections = 5000\n" REST,
        "t:2:1: log.levl: found an unknown key, expected one of level, file, access; did "
        "you mean \"level\"?\n"
        "t:4:19: admission.max_connections: found a need of 5051 fds = 48 in reserve + 2 "
        "to listen (1 listener x 2 threads) + 1 to upstreams + 5000 for clients, expected "
        "at most the fd limit of 1024: lower admission.max_connections, or raise the limit "
        "(ulimit -n, LimitNOFILE=) to 5051\n");
}

static void the_largest_numbers_do_not_overflow(void **state) {
    struct config *config = plan(LISTENER ROUTE "[[pipeline]]\nname = 'p'\nendpoints = ['a:1']\n"
                                                "limits = { concurrency = 1000000, streams = "
                                                "1000000 }\n",
                                 UINT32_MAX);

    assert_int_equal(config->admission.fd_upstream, 8000000);
    assert_int_equal(config->pipelines[0].limits.connections, 2000000);
    assert_int_equal(sum(config), UINT32_MAX);
    config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_is_shared_out_whole),
        cmocka_unit_test(threads_follow_the_cores),
        cmocka_unit_test(pipelines_share_by_what_they_want),
        cmocka_unit_test(a_connection_of_many_streams_is_wanted_less_often),
        cmocka_unit_test(what_the_file_asks_for_comes_first),
        cmocka_unit_test(the_least_that_works_is_one_of_each),
        cmocka_unit_test(a_sum_beyond_the_limit_is_shown),
        cmocka_unit_test(the_sum_does_not_hide_other_errors),
        cmocka_unit_test(the_largest_numbers_do_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
