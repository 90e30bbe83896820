/* See resolver_fixture.h. */
#include "resolver_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

size_t count_entries(const char *path) {
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

bool await_changes(struct listener *listener, size_t calls, int64_t timeout_ns) {
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

size_t count_changes(struct listener *listener) {
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

int set_up(void **state) {
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

int tear_down(void **state) {
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
void catch_log(struct world *world) {
    world->log = memfd_create("log", MFD_CLOEXEC);
    world->stderr_before = dup(STDERR_FILENO);
    dup2(world->log, STDERR_FILENO);
}

size_t count_logged(struct world *world, const char *text) {
    char lines[8192];
    ssize_t len = pread(world->log, lines, sizeof lines - 1, 0);
    size_t count = 0;

    assert_true(len >= 0);
    lines[len] = '\0';
    for (const char *at = strstr(lines, text); at != NULL; at = strstr(at + 1, text))
        count++;
    return count;
}

struct resolver_name name_of(struct world *world, const char *host, int64_t interval_ns) {
    return (struct resolver_name){
        .host = host,
        .port = 8080,
        .interval_ns = interval_ns,
        .changed = take_change,
        .ctx = &world->listener,
    };
}

void watch(struct world *world, const char *host, int64_t interval_ns,
           struct resolver_addresses *first) {
    struct resolver_name name = name_of(world, host, interval_ns);
    struct resolver_addresses ignored;
    const char *why = NULL;
    int err = resolver_watch(world->resolver, &name, PATIENCE_NS, first ? first : &ignored, &why);

    if (err)
        fail_msg("cannot watch '%s': %s", host, why);
}

void assert_not_watched(struct world *world, const char *host, int64_t timeout_ns, int err,
                        const char *text) {
    struct resolver_name name = name_of(world, host, SELDOM_NS);
    struct resolver_addresses first = {.count = 77};
    const char *why = NULL;

    assert_int_equal(resolver_watch(world->resolver, &name, timeout_ns, &first, &why), err);
    assert_string_equal(why, text);
    assert_int_equal(first.count, 77);
}

void set_v4(struct world *world, const char *host, uint32_t ttl_s, const char *address) {
    dns_server_set(world->dns, host, DNS_A,
                   (struct dns_records){.ttl_s = ttl_s, .addresses = {address}});
}

void set_v6(struct world *world, const char *host, uint32_t ttl_s, const char *address) {
    dns_server_set(world->dns, host, DNS_AAAA,
                   (struct dns_records){.ttl_s = ttl_s, .addresses = {address}});
}

void set_mode(struct world *world, const char *host, enum dns_type type, enum dns_mode mode) {
    dns_server_set(world->dns, host, type, (struct dns_records){.mode = mode});
}

const char *text_of(const struct resolver_addresses *addresses) {
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

void assert_last(struct world *world, const char *text) {
    pthread_mutex_lock(&world->listener.lock);
    assert_string_equal(text_of(&world->listener.last), text);
    pthread_mutex_unlock(&world->listener.lock);
}

void await_rounds(struct world *world, const char *host, enum dns_type type, size_t count) {
    size_t asked = dns_server_asked(world->dns, host, type);

    assert_true(dns_server_await(world->dns, host, type, asked + count, PATIENCE_NS) >= 0);
}
