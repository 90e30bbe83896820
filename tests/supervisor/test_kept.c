/* Tests of the sockets that are kept: what a plan changes, and what it must not touch. */
#include "supervisor/kept.h"

#include "support/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct kept_list kept;

static int close_kept(void **state) {
    kept_remove_files(&kept);
    kept_deinit(&kept);
    return 0;
}

/* A port that is free now. */
static unsigned free_port(void) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    close(fd);
    return ntohs(in.sin_port);
}

static struct run_plan plan_of(unsigned threads) {
    return (struct run_plan){.threads = threads};
}

static void add(struct run_plan *plan, const char *address) {
    struct run_listener *listener = &plan->listeners[plan->listener_count++];

    snprintf(listener->name, sizeof listener->name, "l%u", plan->listener_count);
    snprintf(listener->address, sizeof listener->address, "%s", address);
}

static void add_port(struct run_plan *plan, unsigned port) {
    char address[32];

    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    add(plan, address);
}

static void prepare(const struct run_plan *plan) {
    char *why = NULL;

    assert_int_equal(kept_prepare(&kept, plan, &why), 0);
}

static bool lets_in(unsigned port) {
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool is_in = connect(fd, (struct sockaddr *)&in, sizeof in) == 0;

    close(fd);
    return is_in;
}

static void there_is_a_socket_per_loop_and_nobody_is_let_in_yet(void **state) {
    unsigned port = free_port();
    struct run_plan plan = plan_of(3);

    add_port(&plan, port);
    prepare(&plan);
    assert_int_equal(kept.count, 1);
    assert_int_equal(kept.items[0].count, 3);
    assert_false(lets_in(port));
    for (unsigned i = 0; i < 3; i++)
        listen(kept.items[0].fds[i], 8);
    assert_true(lets_in(port));
}

static void the_number_of_sockets_only_grows(void **state) {
    struct run_plan plan = plan_of(2);
    int first;

    add_port(&plan, free_port());
    prepare(&plan);
    kept_commit(&kept);
    first = kept.items[0].fds[0];
    plan.threads = 4;
    prepare(&plan);
    assert_int_equal(kept.items[0].count, 4);
    kept_commit(&kept);
    plan.threads = 1;
    prepare(&plan);
    kept_commit(&kept);
    assert_int_equal(kept.items[0].count, 4);
    assert_int_equal(kept.items[0].fds[0], first);
}

static void what_was_prepared_can_be_forgotten(void **state) {
    struct run_plan plan = plan_of(2);
    unsigned old = free_port(), added = free_port();

    add_port(&plan, old);
    prepare(&plan);
    kept_commit(&kept);
    listen(kept.items[0].fds[0], 8);
    plan.threads = 3;
    add_port(&plan, added);
    prepare(&plan);
    assert_int_equal(kept.count, 2);
    kept_forget(&kept);
    assert_int_equal(kept.count, 1);
    assert_int_equal(kept.items[0].count, 2);
    assert_true(lets_in(old));
}

static void an_address_in_use_is_refused_and_changes_nothing(void **state) {
    struct run_plan plan = plan_of(1);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int busy = socket(AF_INET, SOCK_STREAM, 0);
    char *why = NULL;

    assert_int_equal(bind(busy, (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(busy, 1), 0);
    assert_int_equal(getsockname(busy, (struct sockaddr *)&in, &len), 0);
    add_port(&plan, free_port());
    prepare(&plan);
    kept_commit(&kept);
    add_port(&plan, free_port());
    add_port(&plan, ntohs(in.sin_port));
    assert_int_equal(kept_prepare(&kept, &plan, &why), -EADDRINUSE);
    assert_non_null(strstr(why, "listener 'l3'"));
    free(why);
    assert_int_equal(kept.count, 1);
    close(busy);
}

static void what_a_plan_leaves_out_is_closed_when_it_is_certain(void **state) {
    struct run_plan both = plan_of(1), one = plan_of(1);
    unsigned stays = free_port(), goes = free_port();

    add_port(&both, goes);
    add_port(&both, stays);
    add_port(&one, stays);
    prepare(&both);
    kept_commit(&kept);
    listen(kept.items[0].fds[0], 8);
    prepare(&one);
    assert_true(lets_in(goes));
    kept_commit(&kept);
    assert_false(lets_in(goes));
    assert_int_equal(kept.count, 1);
    assert_non_null(kept_find(&kept, one.listeners[0].address));
    assert_null(kept_find(&kept, both.listeners[0].address));
}

/* ":80" takes "127.0.0.1:80" in; both are ours, so neither is in the other's way. */
static void a_listener_may_widen_to_all_addresses(void **state) {
    struct run_plan narrow = plan_of(1), wide = plan_of(1);
    unsigned port = free_port();
    char address[32];

    add_port(&narrow, port);
    snprintf(address, sizeof address, ":%u", port);
    add(&wide, address);
    prepare(&narrow);
    kept_commit(&kept);
    listen(kept.items[0].fds[0], 8);
    prepare(&wide);
    kept_commit(&kept);
    assert_int_equal(kept.count, 1);
}

static void a_unix_socket_is_one_for_all_and_its_file_goes_with_it(void **state) {
    struct run_plan with = plan_of(3), without = plan_of(3);
    char directory[] = "/tmp/weir-kept-XXXXXX", address[64];

    assert_non_null(mkdtemp(directory));
    snprintf(address, sizeof address, "unix:%s/s", directory);
    add(&with, address);
    add_port(&without, free_port());
    prepare(&with);
    kept_commit(&kept);
    assert_int_equal(kept.items[0].count, 1);
    assert_int_equal(access(address + 5, F_OK), 0);
    prepare(&without);
    kept_commit(&kept);
    assert_int_equal(access(address + 5, F_OK), -1);
    assert_int_equal(rmdir(directory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(there_is_a_socket_per_loop_and_nobody_is_let_in_yet, close_kept),
        cmocka_unit_test_teardown(the_number_of_sockets_only_grows, close_kept),
        cmocka_unit_test_teardown(what_was_prepared_can_be_forgotten, close_kept),
        cmocka_unit_test_teardown(an_address_in_use_is_refused_and_changes_nothing, close_kept),
        cmocka_unit_test_teardown(what_a_plan_leaves_out_is_closed_when_it_is_certain, close_kept),
        cmocka_unit_test_teardown(a_listener_may_widen_to_all_addresses, close_kept),
        cmocka_unit_test_teardown(a_unix_socket_is_one_for_all_and_its_file_goes_with_it,
                                  close_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
