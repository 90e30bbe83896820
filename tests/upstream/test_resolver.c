/* The promises of proxy/upstream/resolver.h, against a name server on loopback. */
#include "base/clock.h"
#include "dns_server.h"
#include "upstream/resolver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_NS (10 * NS_PER_S)
#define OFTEN_NS (20 * NS_PER_MS)
#define SELDOM_NS INT64_MAX /* counts as RESOLVER_INTERVAL_MAX_NS */

/* Takes changed() calls; the test's thread waits for them. */
struct listener {
    pthread_mutex_t lock;
    pthread_cond_t has_changed;
    struct resolver_addresses last;
    size_t calls;
    char thread[16];
    bool are_signals_blocked;
};

/* What most tests need; made anew for each. */
struct world {
    struct dns_server *dns;
    struct resolver *resolver;
    struct listener listener;
    size_t fds_before;
    int stderr_before; /* -1: the log is not caught */
    int log;
};

static size_t count_entries(const char *path) {
    DIR *dir = opendir(path);
    size_t count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void take_change(void *ctx, const struct resolver_addresses *addresses) {
    struct listener *listener = ctx;
    sigset_t blocked;

    pthread_mutex_lock(&listener->lock);
    listener->last = *addresses;
    listener->calls++;
    pthread_getname_np(pthread_self(), listener->thread, sizeof listener->thread);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    listener->are_signals_blocked =
        sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGUSR1);
    pthread_cond_broadcast(&listener->has_changed);
    pthread_mutex_unlock(&listener->lock);
}

static bool await_changes(struct listener *listener, size_t calls, int64_t timeout_ns) {
    int64_t until_ns = clock_now_ns() + timeout_ns;
    struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
    bool did;

    pthread_mutex_lock(&listener->lock);
    while (listener->calls < calls && clock_now_ns() < until_ns)
        pthread_cond_timedwait(&listener->has_changed, &listener->lock, &until);
    did = listener->calls >= calls;
    pthread_mutex_unlock(&listener->lock);
    return did;
}

static size_t count_changes(struct listener *listener) {
    size_t calls;

    pthread_mutex_lock(&listener->lock);
    calls = listener->calls;
    pthread_mutex_unlock(&listener->lock);
    return calls;
}

static void open_resolver(struct world *world) {
    char servers[32];

    snprintf(servers, sizeof servers, "127.0.0.1:%u", dns_server_port(world->dns));
    assert_int_equal(resolver_open(&world->resolver, servers), 0);
}

static int set_up(void **state) {
    static struct world world;
    pthread_condattr_t attr;

    world = (struct world){.fds_before = count_entries("/proc/self/fd"), .stderr_before = -1};
    pthread_mutex_init(&world.listener.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&world.listener.has_changed, &attr);
    pthread_condattr_destroy(&attr);
    world.dns = dns_server_open(AF_INET);
    assert_non_null(world.dns);
    open_resolver(&world);
    *state = &world;
    return 0;
}

/* Nothing may be left: no fd here, no memory by LeakSanitizer. */
static int tear_down(void **state) {
    struct world *world = *state;

    resolver_close(world->resolver);
    dns_server_close(world->dns);
    if (world->stderr_before >= 0) {
        dup2(world->stderr_before, STDERR_FILENO);
        close(world->stderr_before);
        close(world->log);
    }
    pthread_cond_destroy(&world->listener.has_changed);
    pthread_mutex_destroy(&world->listener.lock);
    assert_int_equal(count_entries("/proc/self/fd"), world->fds_before);
    return 0;
}

/* Before log_open() lines go to stderr. */
static void catch_log(struct world *world) {
    world->log = memfd_create("log", MFD_CLOEXEC);
    world->stderr_before = dup(STDERR_FILENO);
    dup2(world->log, STDERR_FILENO);
}

static size_t count_logged(struct world *world, const char *text) {
    char lines[8192];
    ssize_t len = pread(world->log, lines, sizeof lines - 1, 0);
    size_t count = 0;

    assert_true(len >= 0);
    lines[len] = '\0';
    for (const char *at = strstr(lines, text); at != NULL; at = strstr(at + 1, text))
        count++;
    return count;
}

static struct resolver_name name_of(struct world *world, const char *host, int64_t interval_ns) {
    return (struct resolver_name){
        .host = host,
        .port = 8080,
        .interval_ns = interval_ns,
        .changed = take_change,
        .ctx = &world->listener,
    };
}

static void watch(struct world *world, const char *host, int64_t interval_ns,
                  struct resolver_addresses *first) {
    struct resolver_name name = name_of(world, host, interval_ns);
    struct resolver_addresses ignored;
    const char *why = NULL;
    int err = resolver_watch(world->resolver, &name, PATIENCE_NS, first ? first : &ignored, &why);

    if (err)
        fail_msg("cannot watch '%s': %s", host, why);
}

static void assert_not_watched(struct world *world, const char *host, int64_t timeout_ns, int err,
                               const char *text) {
    struct resolver_name name = name_of(world, host, SELDOM_NS);
    struct resolver_addresses first = {.count = 77};
    const char *why = NULL;

    assert_int_equal(resolver_watch(world->resolver, &name, timeout_ns, &first, &why), err);
    assert_string_equal(why, text);
    assert_int_equal(first.count, 77);
}

static void set_v4(struct world *world, const char *host, uint32_t ttl_s, const char *address) {
    dns_server_set(world->dns, host, DNS_A,
                   (struct dns_records){.ttl_s = ttl_s, .addresses = {address}});
}

static void set_v6(struct world *world, const char *host, uint32_t ttl_s, const char *address) {
    dns_server_set(world->dns, host, DNS_AAAA,
                   (struct dns_records){.ttl_s = ttl_s, .addresses = {address}});
}

static void set_mode(struct world *world, const char *host, enum dns_type type,
                     enum dns_mode mode) {
    dns_server_set(world->dns, host, type, (struct dns_records){.mode = mode});
}

/* The addresses as one text, in their order: "10.0.0.1:8080 [::1]:8080". */
static const char *text_of(const struct resolver_addresses *addresses) {
    static char text[RESOLVER_ADDRESSES_MAX * (INET6_ADDRSTRLEN + 10)];
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < addresses->count; i++) {
        const struct sockaddr_in *in = (const void *)&addresses->list[i];
        const struct sockaddr_in6 *in6 = (const void *)&addresses->list[i];
        bool is_v4 = in->sin_family == AF_INET;
        char host[INET6_ADDRSTRLEN];

        inet_ntop(in->sin_family, is_v4 ? (const void *)&in->sin_addr : &in6->sin6_addr, host,
                  sizeof host);
        at += (size_t)snprintf(text + at, sizeof text - at, is_v4 ? "%s%s:%u" : "%s[%s]:%u",
                               i > 0 ? " " : "", host, ntohs(in->sin_port));
    }
    return text;
}

static void assert_last(struct world *world, const char *text) {
    pthread_mutex_lock(&world->listener.lock);
    assert_string_equal(text_of(&world->listener.last), text);
    pthread_mutex_unlock(&world->listener.lock);
}

/* Lets @host be resolved @count times more. */
static void await_rounds(struct world *world, const char *host, enum dns_type type, size_t count) {
    size_t asked = dns_server_asked(world->dns, host, type);

    assert_true(dns_server_await(world->dns, host, type, asked + count, PATIENCE_NS) >= 0);
}

static void watch_gives_both_families_sorted_and_with_the_port(void **state) {
    struct world *world = *state;
    struct resolver_addresses first;

    dns_server_set(world->dns, "api.test", DNS_A,
                   (struct dns_records){.ttl_s = 60, .addresses = {"10.0.0.2", "10.0.0.1"}});
    dns_server_set(world->dns, "api.test", DNS_AAAA,
                   (struct dns_records){.ttl_s = 60, .addresses = {"fd00::2", "fd00::1"}});
    watch(world, "api.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first),
                        "10.0.0.1:8080 10.0.0.2:8080 [fd00::1]:8080 [fd00::2]:8080");
    assert_int_equal(count_changes(&world->listener), 0);
}

static void watch_needs_one_family_only(void **state) {
    struct world *world = *state;
    struct resolver_addresses first;

    set_v4(world, "four.test", 60, "10.0.0.1");
    set_v6(world, "six.test", 60, "fd00::1");
    set_v4(world, "half.test", 60, "10.0.0.3");
    set_mode(world, "half.test", DNS_AAAA, DNS_SERVFAIL);
    watch(world, "four.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "10.0.0.1:8080");
    watch(world, "six.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "[fd00::1]:8080");
    watch(world, "half.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "10.0.0.3:8080");
}

static void watch_takes_the_half_that_came_in_time(void **state) {
    struct world *world = *state;
    struct resolver_name name = name_of(world, "api.test", SELDOM_NS);
    struct resolver_addresses first;
    const char *why;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_mode(world, "api.test", DNS_AAAA, DNS_SILENCE);
    assert_int_equal(resolver_watch(world->resolver, &name, 300 * NS_PER_MS, &first, &why), 0);
    assert_string_equal(text_of(&first), "10.0.0.1:8080");
}

static void watch_says_why_a_name_does_not_resolve(void **state) {
    struct world *world = *state;

    set_mode(world, "empty.test", DNS_A, DNS_ANSWER);
    set_mode(world, "empty.test", DNS_AAAA, DNS_ANSWER);
    set_mode(world, "broken.test", DNS_A, DNS_SERVFAIL);
    set_mode(world, "broken.test", DNS_AAAA, DNS_SERVFAIL);
    set_mode(world, "private.test", DNS_A, DNS_REFUSED);
    set_mode(world, "private.test", DNS_AAAA, DNS_REFUSED);
    assert_not_watched(world, "missing.test", PATIENCE_NS, -ENOENT, "no such name");
    assert_not_watched(world, "empty.test", PATIENCE_NS, -ENODATA, "the name has no address");
    assert_not_watched(world, "broken.test", PATIENCE_NS, -EIO, "the name server failed");
    assert_not_watched(world, "private.test", PATIENCE_NS, -EACCES, "the name server refused");
    assert_not_watched(world, "mal..formed.test", PATIENCE_NS, -EINVAL, "malformed name");
    dns_server_close(world->dns);
    world->dns = NULL;
    assert_not_watched(world, "api.test", PATIENCE_NS, -ECONNREFUSED, "no name server listens");
}

static void watch_blocks_no_longer_than_its_timeout(void **state) {
    struct world *world = *state;
    int64_t begin_ns = clock_now_ns();

    dns_server_set_all(world->dns, DNS_SILENCE);
    assert_not_watched(world, "api.test", 50 * NS_PER_MS, -ETIMEDOUT, "timed out");
    assert_in_range(clock_now_ns() - begin_ns, 50 * NS_PER_MS, NS_PER_S);
}

static void a_silent_server_is_given_up_after_its_tries(void **state) {
    struct world *world = *state;

    set_mode(world, "api.test", DNS_A, DNS_SILENCE);
    set_mode(world, "api.test", DNS_AAAA, DNS_SILENCE);
    assert_not_watched(world, "api.test", PATIENCE_NS, -ETIMEDOUT, "timed out");
    assert_int_equal(dns_server_asked(world->dns, "api.test", DNS_A), RESOLVER_TRIES);
}

static void a_name_that_did_not_resolve_is_not_watched_and_needs_no_thread(void **state) {
    struct world *world = *state;
    size_t threads = count_entries("/proc/self/task");

    assert_not_watched(world, "missing.test", PATIENCE_NS, -ENOENT, "no such name");
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_int_equal(count_entries("/proc/self/task"), threads);
}

static void names_beyond_the_limit_are_refused(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    for (int i = 0; i < RESOLVER_NAMES_MAX; i++)
        watch(world, "api.test", SELDOM_NS, NULL);
    assert_not_watched(world, "api.test", PATIENCE_NS, -ENOSPC, "too many names");
}

static void cnames_are_followed(void **state) {
    struct world *world = *state;
    struct resolver_addresses first;

    dns_server_alias(world->dns, "www.test", "edge.test", 60);
    dns_server_alias(world->dns, "edge.test", "origin.test", 60);
    set_v4(world, "origin.test", 60, "10.0.0.1");
    set_v6(world, "origin.test", 60, "fd00::1");
    watch(world, "www.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "10.0.0.1:8080 [fd00::1]:8080");
}

static void a_truncated_answer_is_fetched_over_tcp(void **state) {
    static char texts[DNS_RECORDS_MAX][16];
    struct world *world = *state;
    struct dns_records records = {.ttl_s = 60};
    struct resolver_addresses first;

    catch_log(world); /* too many addresses, too */
    for (int i = 0; i < DNS_RECORDS_MAX; i++) {
        snprintf(texts[i], sizeof texts[i], "10.0.0.%d", DNS_RECORDS_MAX - i);
        records.addresses[i] = texts[i];
    }
    dns_server_set(world->dns, "api.test", DNS_A, records);
    watch(world, "api.test", SELDOM_NS, &first);
    assert_true(dns_server_spoke_tcp(world->dns));
    assert_int_equal(first.count, RESOLVER_ADDRESSES_MAX);
}

static void addresses_beyond_the_limit_are_left_out_and_logged_once(void **state) {
    static char texts[20][16];
    struct world *world = *state;
    struct dns_records records = {.ttl_s = 60};
    struct resolver_addresses first;

    catch_log(world);
    for (int i = 0; i < 20; i++) {
        snprintf(texts[i], sizeof texts[i], "10.0.0.%d", i + 1);
        records.addresses[i] = texts[i];
    }
    dns_server_rotate(world->dns); /* the same ones, whatever the order */
    dns_server_set(world->dns, "api.test", DNS_A, records);
    watch(world, "api.test", OFTEN_NS, &first);
    assert_int_equal(first.count, RESOLVER_ADDRESSES_MAX);
    assert_string_equal(text_of(&first) + strlen(text_of(&first)) - strlen(" 10.0.0.16:8080"),
                        " 10.0.0.16:8080");
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "api.test", DNS_A, 5);
    assert_int_equal(count_changes(&world->listener), 0);
    assert_int_equal(count_logged(world, "'api.test', leaving out 4"), 1);
}

static void etc_hosts_is_honoured(void **state) {
    struct world *world = *state;
    static char line[1024], host[256];
    struct resolver_addresses first;
    FILE *hosts = fopen("/etc/hosts", "re");
    char address[64] = "";

    host[0] = '\0';
    while (hosts != NULL && fgets(line, sizeof line, hosts))
        if (sscanf(line, "%63[0-9.] %255s", address, host) == 2 && strcmp(host, "localhost") != 0)
            break;
        else
            host[0] = '\0';
    if (hosts != NULL)
        fclose(hosts);
    if (host[0] == '\0')
        skip();
    set_v4(world, host, 60, "10.0.0.1");
    watch(world, host, OFTEN_NS, &first);
    assert_true(first.count >= 1);
    assert_null(strstr(text_of(&first), "10.0.0.1:8080"));
    assert_int_equal(dns_server_asked(world->dns, NULL, DNS_A), 0);
}

static void changed_is_called_on_the_resolver_thread_with_signals_blocked(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    set_v4(world, "api.test", 60, "10.0.0.2");
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.2:8080");
    assert_string_equal(world->listener.thread, "weir-resolver");
    assert_true(world->listener.are_signals_blocked);
}

static void an_equal_set_in_another_order_is_no_change(void **state) {
    struct world *world = *state;

    dns_server_set(
        world->dns, "api.test", DNS_A,
        (struct dns_records){.ttl_s = 60, .addresses = {"10.0.0.1", "10.0.0.2", "10.0.0.2"}});
    dns_server_rotate(world->dns);
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "api.test", DNS_A, 6);
    assert_int_equal(count_changes(&world->listener), 0);
}

/* How long after the first question the second came. */
static int64_t second_question_ns(struct world *world, const char *host) {
    int64_t second_ns = dns_server_await(world->dns, host, DNS_A, 2, PATIENCE_NS);

    assert_true(second_ns >= 0);
    return second_ns - dns_server_await(world->dns, host, DNS_A, 1, PATIENCE_NS);
}

static void names_are_resolved_again_when_the_ttl_has_passed(void **state) {
    struct world *world = *state;

    set_v4(world, "zero.test", 0, "10.0.0.1");
    set_v4(world, "one.test", 1, "10.0.0.1");
    set_v6(world, "six.test", 1, "fd00::1"); /* the lower one counts */
    set_v4(world, "six.test", 3600, "10.0.0.1");
    dns_server_alias(world->dns, "www.test", "origin.test", 1); /* and so does the alias's */
    set_v4(world, "origin.test", 3600, "10.0.0.1");
    set_v4(world, "odd.test", UINT32_MAX, "10.0.0.1"); /* RFC 2181: zero */
    set_v4(world, "long.test", INT32_MAX, "10.0.0.1");
    watch(world, "zero.test", SELDOM_NS, NULL);
    watch(world, "one.test", SELDOM_NS, NULL);
    watch(world, "six.test", SELDOM_NS, NULL);
    watch(world, "www.test", SELDOM_NS, NULL);
    watch(world, "odd.test", SELDOM_NS, NULL);
    watch(world, "long.test", SELDOM_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_in_range(second_question_ns(world, "zero.test"), RESOLVER_TTL_MIN_NS, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "one.test"), NS_PER_S, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "six.test"), NS_PER_S, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "www.test"), NS_PER_S, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "odd.test"), NS_PER_S, 3 * NS_PER_S);
    assert_int_equal(dns_server_asked(world->dns, "long.test", DNS_A), 1);
}

static void names_are_resolved_again_after_their_interval_at_the_latest(void **state) {
    struct world *world = *state;

    set_v4(world, "long.test", INT32_MAX, "10.0.0.1");
    set_v4(world, "zero.test", 0, "10.0.0.1");
    watch(world, "long.test", 100 * NS_PER_MS, NULL);
    watch(world, "zero.test", 100 * NS_PER_MS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_in_range(second_question_ns(world, "long.test"), 100 * NS_PER_MS, NS_PER_S);
    assert_in_range(second_question_ns(world, "zero.test"), 100 * NS_PER_MS, NS_PER_S);
}

static void the_shortest_interval_is_bounded(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", 0, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_in_range(second_question_ns(world, "api.test"), RESOLVER_INTERVAL_MIN_NS, NS_PER_S);
}

static void a_name_that_stops_resolving_keeps_its_addresses_and_is_logged_once(void **state) {
    static const enum dns_mode modes[] = {DNS_SERVFAIL, DNS_NXDOMAIN, DNS_REFUSED};
    struct world *world = *state;

    catch_log(world);
    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        dns_server_set_all(world->dns, modes[i]);
        await_rounds(world, "api.test", DNS_AAAA, 4);
    }
    assert_int_equal(count_changes(&world->listener), 0);
    set_v4(world, "api.test", 60, "10.0.0.2");
    dns_server_set_all(world->dns, DNS_ANSWER);
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.2:8080");
    await_rounds(world, "api.test", DNS_A, 3);
    assert_int_equal(count_changes(&world->listener), 1);
    assert_int_equal(count_logged(world, "cannot resolve 'api.test'"), 1);
    assert_int_equal(count_logged(world, "keeping its 1 addresses: the name server failed"), 1);
    assert_int_equal(count_logged(world, "resolved 'api.test' again"), 1);
}

static void a_failing_name_is_tried_again_with_backoff(void **state) {
    struct world *world = *state;
    int64_t first_ns, second_ns, third_ns;

    catch_log(world);
    set_v4(world, "api.test", 0, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
    dns_server_set_all(world->dns, DNS_NXDOMAIN);
    assert_int_equal(resolver_start(world->resolver), 0);
    first_ns = dns_server_await(world->dns, "api.test", DNS_A, 2, PATIENCE_NS);
    second_ns = dns_server_await(world->dns, "api.test", DNS_A, 3, PATIENCE_NS);
    third_ns = dns_server_await(world->dns, "api.test", DNS_A, 4, PATIENCE_NS);
    assert_in_range(second_ns - first_ns, RESOLVER_BACKOFF_MIN_NS / 2, 2 * RESOLVER_BACKOFF_MIN_NS);
    assert_in_range(third_ns - second_ns, RESOLVER_BACKOFF_MIN_NS, 4 * RESOLVER_BACKOFF_MIN_NS);
}

static void a_family_that_fails_keeps_its_addresses(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    set_mode(world, "api.test", DNS_A, DNS_SERVFAIL);
    await_rounds(world, "api.test", DNS_A, 8);
    assert_int_equal(count_changes(&world->listener), 0);
    set_v6(world, "api.test", 60, "fd00::2"); /* the other one goes on */
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080 [fd00::2]:8080");
}

static void a_family_that_is_gone_is_removed(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    set_mode(world, "api.test", DNS_AAAA, DNS_ANSWER);
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080");
    set_v6(world, "api.test", 60, "fd00::1");
    assert_true(await_changes(&world->listener, 2, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080 [fd00::1]:8080");
}

static void a_family_lost_for_a_moment_stays(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", 100 * NS_PER_MS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    for (int i = 0; i < 3; i++) {
        size_t asked = dns_server_asked(world->dns, "api.test", DNS_AAAA);

        dns_server_set(world->dns, "api.test", DNS_AAAA,
                       (struct dns_records){.mode = DNS_EVERY_OTHER, .addresses = {"fd00::1"}});
        assert_true(dns_server_await(world->dns, "api.test", DNS_AAAA, asked + 2, PATIENCE_NS) > 0);
        set_v6(world, "api.test", 60, "fd00::1"); /* in time for the third */
        await_rounds(world, "api.test", DNS_AAAA, 2);
    }
    assert_int_equal(count_changes(&world->listener), 0);
}

/* As with search domains, or a name that was moved into /etc/hosts: the two never agree. */
static void a_family_that_only_its_own_question_finds_is_removed_at_last(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", OFTEN_NS, NULL);
    dns_server_set(world->dns, "api.test", DNS_AAAA,
                   (struct dns_records){.mode = DNS_EVERY_OTHER, .addresses = {"fd00::1"}});
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080");
    assert_in_range(dns_server_asked(world->dns, "api.test", DNS_AAAA), 5, 6);
}

static void only_so_many_names_are_under_way_at_once(void **state) {
    static char hosts[RESOLVER_LOOKUPS_MAX + 6][16];
    struct world *world = *state;

    for (size_t i = 0; i < RESOLVER_LOOKUPS_MAX + 6; i++) {
        snprintf(hosts[i], sizeof hosts[i], "n%zu.test", i);
        set_v4(world, hosts[i], 60, "10.0.0.1");
        watch(world, hosts[i], 500 * NS_PER_MS, NULL);
    }
    dns_server_set_all(world->dns, DNS_SILENCE);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_true(dns_server_await(world->dns, NULL, DNS_AAAA, 2 * RESOLVER_LOOKUPS_MAX + 6,
                                 PATIENCE_NS) >= 0);
    /* Well before c-ares asks again. */
    assert_int_equal(
        dns_server_await(world->dns, NULL, DNS_AAAA, 2 * RESOLVER_LOOKUPS_MAX + 7, 200 * NS_PER_MS),
        -1);
    dns_server_set_all(world->dns, DNS_ANSWER);
    for (size_t i = 0; i < RESOLVER_LOOKUPS_MAX + 6; i++)
        assert_true(dns_server_await(world->dns, hosts[i], DNS_A, 3, PATIENCE_NS) >= 0);
}

static void close_with_a_question_under_way_is_fast_and_the_last_word(void **state) {
    struct world *world = *state;
    int64_t begin_ns;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", OFTEN_NS, NULL);
    set_mode(world, "api.test", DNS_AAAA, DNS_SILENCE);
    set_v4(world, "api.test", 60, "10.0.0.2"); /* half the answer is here */
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "api.test", DNS_AAAA, 1);
    begin_ns = clock_now_ns();
    resolver_close(world->resolver);
    world->resolver = NULL;
    assert_in_range(clock_now_ns() - begin_ns, 0, 100 * NS_PER_MS);
    assert_int_equal(count_changes(&world->listener), 0);
}

static void close_accepts_null_and_what_was_never_started(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
    resolver_close(world->resolver);
    world->resolver = NULL;
    resolver_close(NULL);
}

static void malformed_lists_of_servers_are_refused(void **state) {
    static const char *const lists[] = {
        "",
        ",",
        "1.2.3.4,",
        "ns.example.com",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:x",
        "1.2.3",
        "1.2.3.4:65536",
        "1.2.3.4 5",
        "[::1",
        "[::1]53",
        "[::1]:",
        "[]:53",
        "[1.2.3.4]:53",
        ":53",
        "1.2.3.4:-53",
        "1.2.3.4:053x",
        "1,2,3",
        "1.2.3.4:00000000000000000000000000000000000000000000000000000000000000053",
        "1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9",
    };
    static const char *const good[] = {
        "1.2.3.4",
        "1.2.3.4:53, [::1]:5353",
        "::1",
        "[::1]",
        "1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8",
    };

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct resolver *resolver = NULL;

        if (resolver_open(&resolver, lists[i]) != -EINVAL || resolver != NULL)
            fail_msg("'%s' was taken", lists[i]);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct resolver *resolver;

        if (resolver_open(&resolver, good[i]))
            fail_msg("'%s' was refused", good[i]);
        resolver_close(resolver);
    }
}

static void without_a_list_the_servers_are_the_systems(void **state) {
    struct resolver *resolver;

    assert_int_equal(resolver_open(&resolver, NULL), 0);
    resolver_close(resolver);
}

static void a_server_that_fails_hands_over_to_the_next(void **state) {
    struct world *world = *state;
    struct dns_server *broken = dns_server_open(AF_INET);
    char servers[64];

    dns_server_set_all(broken, DNS_SERVFAIL);
    resolver_close(world->resolver);
    snprintf(servers, sizeof servers, "127.0.0.1:%u,127.0.0.1:%u", dns_server_port(broken),
             dns_server_port(world->dns));
    assert_int_equal(resolver_open(&world->resolver, servers), 0);
    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
    assert_true(dns_server_asked(broken, "api.test", DNS_A) <= 1);
    dns_server_close(broken);
}

static void a_server_may_be_ipv6(void **state) {
    struct world *world = *state;
    char servers[64];

    dns_server_close(world->dns);
    world->dns = dns_server_open(AF_INET6);
    if (world->dns == NULL)
        skip(); /* no IPv6 here */
    resolver_close(world->resolver);
    snprintf(servers, sizeof servers, "[::1]:%u", dns_server_port(world->dns));
    assert_int_equal(resolver_open(&world->resolver, servers), 0);
    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    static const struct CMUnitTest tests[] = {
        TEST(watch_gives_both_families_sorted_and_with_the_port),
        TEST(watch_needs_one_family_only),
        TEST(watch_takes_the_half_that_came_in_time),
        TEST(watch_says_why_a_name_does_not_resolve),
        TEST(watch_blocks_no_longer_than_its_timeout),
        TEST(a_silent_server_is_given_up_after_its_tries),
        TEST(a_name_that_did_not_resolve_is_not_watched_and_needs_no_thread),
        TEST(names_beyond_the_limit_are_refused),
        TEST(cnames_are_followed),
        TEST(a_truncated_answer_is_fetched_over_tcp),
        TEST(addresses_beyond_the_limit_are_left_out_and_logged_once),
        TEST(etc_hosts_is_honoured),
        TEST(changed_is_called_on_the_resolver_thread_with_signals_blocked),
        TEST(an_equal_set_in_another_order_is_no_change),
        TEST(names_are_resolved_again_when_the_ttl_has_passed),
        TEST(names_are_resolved_again_after_their_interval_at_the_latest),
        TEST(the_shortest_interval_is_bounded),
        TEST(a_name_that_stops_resolving_keeps_its_addresses_and_is_logged_once),
        TEST(a_failing_name_is_tried_again_with_backoff),
        TEST(a_family_that_fails_keeps_its_addresses),
        TEST(a_family_that_is_gone_is_removed),
        TEST(a_family_lost_for_a_moment_stays),
        TEST(a_family_that_only_its_own_question_finds_is_removed_at_last),
        TEST(only_so_many_names_are_under_way_at_once),
        TEST(close_with_a_question_under_way_is_fast_and_the_last_word),
        TEST(close_accepts_null_and_what_was_never_started),
        TEST(malformed_lists_of_servers_are_refused),
        TEST(without_a_list_the_servers_are_the_systems),
        TEST(a_server_that_fails_hands_over_to_the_next),
        TEST(a_server_may_be_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
