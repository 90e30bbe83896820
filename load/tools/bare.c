/* What a proxy costs at the least, and what a hand-over to a thread adds to that: bytes that come
 * from a client go to the upstream, one connection for each, and the other way, unread. With
 * --hand-over what comes from clients waits for a worker to have seen it, as a request waits for a
 * handler in weir: all that one turn of the loop has brought is handed over at once by a futex, and
 * comes back by an eventfd if the loop is about to sleep. Nothing is done there.
 *
 * With --one-each a client sends one request, whose answer ends its connection: it is accepted when
 * the request has come, and never watched; the connections to the upstream are kept.
 *
 *   bare [--hand-over | --one-each] LISTEN-PORT UPSTREAM-PORT
 *
 * It believes that what it sends fits into a socket's buffer, and ends when that does not hold. */
#include "wire.h"

#include <linux/futex.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CONNS_MAX = 1024, EVENTS_MAX = 512, SENT_BYTES_MAX = 192 * 1024 };

/* One end of a pair; a socket's number is its place. */
struct end {
    int other; /* the socket on the other side */
    bool is_client;
    char *held; /* owned: what the worker is to see first */
    size_t held_len;
};

static struct {
    struct end ends[4 * CONNS_MAX];
    int epoll, listener, wake;
    struct sockaddr_in upstream;
    char *buffer;
    bool has_worker, is_one_each;
    int spares[CONNS_MAX]; /* with --one-each: upstreams that wait for a client */
    unsigned spare_count;
    int held[CONNS_MAX]; /* clients whose bytes the worker sees now, or is to see next */
    unsigned held_count, out_count;
} bare;

static _Atomic uint32_t bell;
static _Atomic bool is_back, is_asleep;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void *work(void *unused) {
    for (;;) {
        while (atomic_exchange(&bell, 0) == 0)
            futex(&bell, FUTEX_WAIT_PRIVATE, 0);
        atomic_store(&is_back, true);
        if (atomic_load(&is_asleep) && atomic_exchange(&is_asleep, false))
            eventfd_write(bare.wake, 1);
    }
    return unused;
}

static void watch(int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    int one = 1, sent = SENT_BYTES_MAX;

    if (fd < 0 || fd >= 4 * CONNS_MAX || epoll_ctl(bare.epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sent, sizeof sent);
}

static int dial(void) {
    int upstream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(upstream, (void *)&bare.upstream, sizeof bare.upstream) < 0)
        fail("cannot reach the upstream");
    watch(upstream, EPOLLIN);
    return upstream;
}

static void begin(void) {
    int client = accept4(bare.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int upstream = dial();

    if (client < 0)
        fail("accept4");
    watch(client, EPOLLIN);
    bare.ends[client] = (struct end){.other = upstream, .is_client = true};
    bare.ends[upstream] = (struct end){.other = client};
}

static void end(int fd) {
    int other = bare.ends[fd].other;

    close(fd);
    close(other);
    free(bare.ends[fd].held);
    free(bare.ends[other].held);
    bare.ends[fd] = bare.ends[other] = (struct end){.other = -1};
}

static void pass_on(int to, const char *bytes, size_t len, int flags) {
    if (send(to, bytes, len, MSG_NOSIGNAL | flags) != (ssize_t)len)
        fail("send");
}

static void begin_one(void) {
    int client = accept4(bare.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ssize_t got = recv(client, bare.buffer, WIRE_BUFFER_BYTES, MSG_DONTWAIT);
    char *option;
    int upstream;

    if (got <= 0) { /* who only looks whether it can be reached */
        close(client);
        return;
    }
    option = memmem(bare.buffer, (size_t)got, "Connection: close", 17);
    if (option)
        memcpy(option, "Connection: stays", 17); /* the upstream's does */
    upstream = bare.spare_count > 0 ? bare.spares[--bare.spare_count] : dial();
    bare.ends[upstream] = (struct end){.other = client};
    pass_on(upstream, bare.buffer, (size_t)got, 0);
}

static void end_one(int upstream, size_t got) {
    int client = bare.ends[upstream].other;

    if (bare.spare_count == CONNS_MAX)
        fail("too many connections");
    pass_on(client, bare.buffer, got, MSG_MORE);
    close(client);
    bare.ends[upstream].other = -1;
    bare.spares[bare.spare_count++] = upstream;
}

static void hear(int fd) {
    struct end *from = &bare.ends[fd];
    ssize_t got = from->other < 0 ? -1 : recv(fd, bare.buffer, WIRE_BUFFER_BYTES, MSG_DONTWAIT);

    if (from->other < 0)
        return; /* it ended in this batch of events */
    if (got <= 0) {
        end(fd);
    } else if (bare.is_one_each) {
        end_one(fd, (size_t)got);
    } else if (!from->is_client || !bare.has_worker) {
        pass_on(from->other, bare.buffer, (size_t)got, 0);
    } else if (from->held_len == 0 && bare.held_count < CONNS_MAX) {
        from->held = realloc(from->held, (size_t)got);
        from->held_len = (size_t)got;
        memcpy(from->held, bare.buffer, (size_t)got);
        bare.held[bare.held_count++] = fd;
    }
}

/* Those that the worker has seen go on; the next ones are handed over. */
static void take_turn(void) {
    if (bare.out_count > 0 && atomic_exchange(&is_back, false)) {
        for (unsigned i = 0; i < bare.out_count; i++) {
            struct end *from = &bare.ends[bare.held[i]];

            if (from->held_len > 0)
                pass_on(from->other, from->held, from->held_len, 0);
            from->held_len = 0;
        }
        bare.held_count -= bare.out_count;
        memmove(bare.held, bare.held + bare.out_count, bare.held_count * sizeof *bare.held);
        bare.out_count = 0;
    }
    if (bare.out_count == 0 && bare.held_count > 0) {
        bare.out_count = bare.held_count;
        atomic_store(&bell, 1);
        futex(&bell, FUTEX_WAKE_PRIVATE, 1);
    }
}

static void run(void) {
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int count;

        take_turn();
        atomic_store(&is_asleep, true);
        while (atomic_load(&is_back)) {
            atomic_store(&is_asleep, false);
            take_turn();
            atomic_store(&is_asleep, true);
        }
        count = epoll_wait(bare.epoll, events, EVENTS_MAX, -1);
        atomic_store(&is_asleep, false);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == bare.listener && bare.is_one_each)
                begin_one();
            else if (events[i].data.fd == bare.listener)
                begin();
            else if (events[i].data.fd != bare.wake)
                hear(events[i].data.fd);
        }
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pthread_t worker;
    int one = 1, deferred;

    bare.has_worker = argc > 1 && strcmp(argv[1], "--hand-over") == 0;
    bare.is_one_each = argc > 1 && strcmp(argv[1], "--one-each") == 0;
    deferred = bare.is_one_each;
    if (bare.has_worker || bare.is_one_each) {
        argc--;
        argv++;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: bare [--hand-over | --one-each] LISTEN-PORT UPSTREAM-PORT\n");
        return 2;
    }
    bare.upstream = address;
    address.sin_port = htons((uint16_t)wire_number("LISTEN-PORT", argv[1]));
    bare.upstream.sin_port = htons((uint16_t)wire_number("UPSTREAM-PORT", argv[2]));
    bare.buffer = malloc(WIRE_BUFFER_BYTES);
    bare.epoll = epoll_create1(EPOLL_CLOEXEC);
    bare.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bare.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(bare.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(bare.listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &deferred, sizeof deferred);
    if (bind(bare.listener, (void *)&address, sizeof address) < 0 ||
        listen(bare.listener, CONNS_MAX) < 0)
        fail("cannot listen");
    watch(bare.wake, EPOLLIN | EPOLLET);
    watch(bare.listener, EPOLLIN);
    if (bare.has_worker && pthread_create(&worker, NULL, work, NULL) != 0)
        fail("pthread_create");
    run();
}
