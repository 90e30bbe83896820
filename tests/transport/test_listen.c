/* The promises of proxy/transport/listen.h, on ports that the kernel chooses and on socket files of
 * a directory of the test's own. */
#include "transport/listen.h"

#include "support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/weir-listen-XXXXXX";
static char path[64];

static int make_directory(void **state) {
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    return rmdir(directory);
}

static int set_up(void **state) {
    snprintf(path, sizeof path, "%s/socket", directory);
    return 0;
}

static int tear_down(void **state) {
    unlink(path);
    return 0;
}

static struct config_address at_inet(struct sockaddr_in in) {
    struct config_address address = {
        .kind = ADDRESS_INET,
        .text = (char *)"the address",
        .port = ntohs(in.sin_port),
        .sockaddr_len = sizeof in,
    };

    memcpy(&address.sockaddr, &in, sizeof in);
    return address;
}

static struct config_address at_path(void) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct config_address address = {.kind = ADDRESS_UNIX, .text = path, .sockaddr_len = sizeof un};

    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    memcpy(&address.sockaddr, &un, sizeof un);
    return address;
}

/* A bound socket, and in @in where; it listens when @backlog > 0. */
static int occupy(struct sockaddr_in *in, bool may_share, int backlog) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    socklen_t len = sizeof *in;

    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (may_share)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)in, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)in, &len), 0);
    if (backlog > 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

/* An address that was free a moment ago. */
static struct sockaddr_in free_address(void) {
    struct sockaddr_in in;

    close(occupy(&in, false, 0));
    return in;
}

static int connect_silently(const void *address, socklen_t len) {
    int fd = socket(((const struct sockaddr *)address)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, address, len) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

/* And says something. */
static int connect_to(const void *address, socklen_t len) {
    int fd = connect_silently(address, len);

    if (fd >= 0)
        SAY(fd, "?");
    return fd;
}

static bool has_client(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) == 1;
}

static void its_sockets_do_not_block_and_do_not_survive_exec(void **state) {
    struct sockaddr_in in = free_address();
    struct config_address address = at_inet(in);
    char *why = NULL;
    int fd;

    assert_int_equal(listen_open(&address, &fd, 1, &why), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(accept(fd, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
}

static void each_loop_has_a_queue_of_its_own(void **state) {
    struct sockaddr_in in = free_address();
    struct config_address address = at_inet(in);
    char *why = NULL;
    int fds[4], clients[64];
    unsigned used = 0;

    assert_int_equal(listen_open(&address, fds, 4, &why), 0);
    for (unsigned i = 0; i < 64; i++)
        assert_true((clients[i] = connect_to(&in, sizeof in)) >= 0);
    for (unsigned i = 0; i < 4; i++)
        used += has_client(fds[i]);
    assert_true(used > 1); /* the kernel spreads them */
    for (unsigned i = 0; i < 64; i++)
        close(clients[i]);
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
}

/* There is nothing to do for one until it speaks; but one that does not is not forgotten. */
static void a_client_comes_with_its_first_bytes(void **state) {
    struct sockaddr_in in = free_address();
    struct config_address address = at_inet(in);
    char *why = NULL;
    int fd, client;

    assert_int_equal(listen_open(&address, &fd, 1, &why), 0);
    client = connect_silently(&in, sizeof in);
    assert_true(client >= 0);
    assert_false(has_client(fd));
    assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000), 1);
    close(client);
    close(fd);
}

static void a_busy_port_is_found_out(void **state) {
    for (unsigned may_share = 0; may_share < 2; may_share++) {
        struct sockaddr_in in;
        int other = occupy(&in, may_share, 1), fds[2] = {-1, -1};
        struct config_address address = at_inet(in);
        char *why = NULL;

        assert_int_equal(listen_open(&address, fds, 2, &why), -EADDRINUSE);
        assert_non_null(why);
        assert_non_null(strstr(why, "cannot listen on 'the address'"));
        assert_non_null(strstr(why, "another process has it"));
        free(why);
        assert_int_equal(fds[0], -1); /* written only on success */
        close(other);
    }
}

static void every_address_means_both_families(void **state) {
    struct sockaddr_in in = free_address();
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = in.sin_port},
                        loopback = {.sin6_family = AF_INET6,
                                    .sin6_port = in.sin_port,
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct config_address address = {.kind = ADDRESS_INET,
                                     .text = (char *)":port",
                                     .port = ntohs(in.sin_port),
                                     .is_any = true,
                                     .sockaddr_len = sizeof any};
    int probe = connect_to(&loopback, sizeof loopback); /* refused, or there is no IPv6 at all */
    char *why = NULL;
    int fd, client;

    memcpy(&address.sockaddr, &any, sizeof any);
    assert_int_equal(listen_open(&address, &fd, 1, &why), 0);
    client = connect_to(&in, sizeof in);
    assert_true(client >= 0);
    assert_true(has_client(fd));
    close(client);
    if (probe == -ECONNREFUSED) {
        client = connect_to(&loopback, sizeof loopback);
        assert_true(client >= 0);
        close(client);
    }
    close(fd);
}

static void an_address_that_is_not_ours_says_so(void **state) {
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(8080),
                             .sin_addr.s_addr = htonl(0xc0000201)}; /* 192.0.2.1, for documents */
    struct config_address address = at_inet(in);
    char *why = NULL;
    int fd;

    assert_int_equal(listen_open(&address, &fd, 1, &why), -EADDRNOTAVAIL);
    assert_non_null(strstr(why, strerror(EADDRNOTAVAIL)));
    free(why);
}

static void a_unix_socket_is_shared_by_all_loops(void **state) {
    struct config_address address = at_path();
    char *why = NULL;
    int fds[3], client;

    assert_int_equal(listen_open(&address, fds, 3, &why), 0);
    client = connect_to(&address.sockaddr, address.sockaddr_len);
    assert_true(client >= 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(has_client(fds[i])); /* one queue */
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    }
    close(client);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
}

static void a_stale_socket_file_is_replaced(void **state) {
    struct config_address address = at_path();
    char *why = NULL;
    int fd, client;

    assert_int_equal(listen_open(&address, &fd, 1, &why), 0);
    close(fd); /* as by a crash: the file stays */
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(listen_open(&address, &fd, 1, &why), 0);
    client = connect_to(&address.sockaddr, address.sockaddr_len);
    assert_true(client >= 0);
    close(client);
    close(fd);
}

static void a_socket_file_that_somebody_listens_on_is_left_alone(void **state) {
    struct config_address address = at_path();
    char *why = NULL;
    int fd, other, client;

    assert_int_equal(listen_open(&address, &fd, 1, &why), 0);
    assert_int_equal(listen_open(&address, &other, 1, &why), -EADDRINUSE);
    assert_non_null(strstr(why, "another process has it"));
    free(why);
    client = connect_to(&address.sockaddr, address.sockaddr_len);
    assert_true(client >= 0);
    close(client);
    close(fd);
}

/* Even one that is too busy to say yes. */
static void a_socket_file_with_a_full_backlog_is_left_alone(void **state) {
    struct config_address address = at_path();
    int busy = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), clients[8], fd;
    unsigned count = 0;
    char *why = NULL;

    assert_int_equal(bind(busy, (struct sockaddr *)&address.sockaddr, address.sockaddr_len), 0);
    assert_int_equal(listen(busy, 0), 0);
    for (; count < 8; count++) {
        clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(clients[count], (struct sockaddr *)&address.sockaddr, address.sockaddr_len) < 0)
            break;
    }
    assert_true(count < 8);
    assert_int_equal(listen_open(&address, &fd, 1, &why), -EADDRINUSE);
    free(why);
    assert_int_equal(access(path, F_OK), 0);
    for (unsigned i = 0; i <= count; i++)
        close(clients[i]);
    close(busy);
}

static void a_file_that_is_no_socket_is_never_removed(void **state) {
    struct config_address address = at_path();
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), fd;
    char *why = NULL;
    struct stat st;

    assert_true(file >= 0);
    close(file);
    assert_int_equal(listen_open(&address, &fd, 1, &why), -EADDRINUSE);
    free(why);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

#define AT_PATH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_sockets_do_not_block_and_do_not_survive_exec),
        cmocka_unit_test(each_loop_has_a_queue_of_its_own),
        cmocka_unit_test(a_client_comes_with_its_first_bytes),
        cmocka_unit_test(a_busy_port_is_found_out),
        cmocka_unit_test(every_address_means_both_families),
        cmocka_unit_test(an_address_that_is_not_ours_says_so),
        AT_PATH(a_unix_socket_is_shared_by_all_loops),
        AT_PATH(a_stale_socket_file_is_replaced),
        AT_PATH(a_socket_file_that_somebody_listens_on_is_left_alone),
        AT_PATH(a_socket_file_with_a_full_backlog_is_left_alone),
        AT_PATH(a_file_that_is_no_socket_is_never_removed),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
