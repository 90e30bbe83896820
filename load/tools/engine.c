/* The upstream of the load scenarios: a single-threaded epoll server that costs next to nothing, so
 * that what is measured is the proxy in front of it.
 *
 *   GET  /bytes/N     N bytes of the pattern with a Content-Length; ?rate=R paces them to R bytes/s
 *   GET  /chunked/N   the same, chunked
 *   GET  /delay/MS    13 bytes after MS milliseconds
 *   GET  /stats       counters of this server as JSON
 *   POST anything     the content is read (?rate=R: at R bytes/s) and checked against the pattern;
 * the answer is its length in 13 digits, or 422 when a byte was wrong
 *
 * With --concurrency N --service-ms MS it becomes a server of known capacity: at most N requests
 * are in service at a time, each for MS milliseconds, the others wait their turn. As in most real
 * servers a request whose client has left still takes its turn; /stats counts that as wasted. With
 * --slowdown P each one that waits makes those that begin take P percent longer, which is what
 * memory, locks and context switches do to a server that takes on more than it can do. GET
 * /service/MS changes what each takes from then on.
 *
 * It refuses pipelining, and reads no more than a head's worth of memory per connection. */
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 512,
    ANSWER_BYTES = 13,
    PACE_BYTES = 64 * 1024, /* a paced connection moves in steps of this size */
    CHUNK_BYTES = 16 * 1024,
    OUT_HEAD_MAX = 1024,
};

enum conn_state { CONN_HEAD, CONN_CONTENT, CONN_WAITING, CONN_ANSWER };

struct conn {
    int fd; /* -1 once its client has left while it still has its turn in the capacity model */
    enum conn_state state;
    uint32_t armed; /* what epoll watches */
    char *in;       /* owned; an incomplete head, else NULL */
    size_t in_len;

    /* the request */
    struct wire_chunks chunks;
    uint64_t received, expected;
    bool is_chunked_in, is_wrong, is_close;
    uint64_t rate, pace_start_ns, paced;

    /* the answer */
    char head[OUT_HEAD_MAX];
    size_t head_len, head_sent;
    uint64_t content, sent;
    size_t piece; /* content that goes out now */
    bool is_chunked_out, is_last;
    char own[16]; /* an answer that is not the pattern */
    bool is_own;

    uint64_t delay_ns;
    bool has_turn, is_in_service; /* in the capacity model: waiting or in service; in service */
    uint64_t end_ns;              /* of its service */
    uint64_t due_ns;
    size_t heap_at; /* 1-based; 0: not in the heap */
    struct conn *next_turn;
};

static struct {
    int epoll, listener;
    uint64_t now_ns;
    char *buffer;
    struct conn **heap; /* 1-based binary heap on due_ns */
    size_t heap_len, heap_room;
    struct conn *turns, **turns_end; /* waiting for their turn */
    unsigned long long concurrency, service_ns, slowdown;
    struct wire_services services;
    unsigned long long accepted, open, open_max, requests, bad, in_service, queued, wasted;
} engine = {.turns_end = &engine.turns};

static void serve(void);
static void accept_all(void);
static void conn_event(struct conn *conn, uint32_t events);
static void conn_close(struct conn *conn);
static void conn_free(struct conn *conn);
static void take_bytes(struct conn *conn, struct wire_slice data);
static void take_head(struct conn *conn, struct wire_slice *data);
static void take_content(struct conn *conn, struct wire_slice *data);
static bool route(struct conn *conn, const struct wire_head *head);
static void answer_later(struct conn *conn);
static void begin_service(struct conn *conn);
static void end_service(struct conn *conn);
static void answer(struct conn *conn);
static void send_more(struct conn *conn);
static bool next_piece(struct conn *conn);
static void answered(struct conn *conn);
static bool pace(struct conn *conn);
static void watch(struct conn *conn, uint32_t events);
static void timer_set(struct conn *conn, uint64_t due_ns);
static void timer_clear(struct conn *conn);
static void timers_run(void);
static void heap_place(size_t at, struct conn *conn);
static void heap_up(size_t at);
static void heap_down(size_t at);

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},
        {"concurrency", required_argument, NULL, 'c'},
        {"service-ms", required_argument, NULL, 's'},
        {"slowdown", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct sockaddr_in address = {0};
    int option, one = 1;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'l' && !wire_address(optarg, &address)) {
            continue;
        } else if (option == 'c') {
            engine.concurrency = wire_number("--concurrency", optarg);
        } else if (option == 's') {
            engine.service_ns = wire_number("--service-ms", optarg) * 1000000;
        } else if (option == 'd') {
            engine.slowdown = wire_number("--slowdown", optarg);
        } else {
            fprintf(option == 'h' ? stdout : stderr,
                    "usage: engine --listen IPV4:PORT [--concurrency N --service-ms MS "
                    "[--slowdown PERCENT]]\n");
            return option == 'h' ? 0 : 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    wire_exact_timers();
    engine.buffer = malloc(WIRE_BUFFER_BYTES);
    assert(engine.buffer);
    engine.epoll = epoll_create1(EPOLL_CLOEXEC);
    engine.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(engine.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(engine.listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!address.sin_family || bind(engine.listener, (void *)&address, sizeof address) < 0 ||
        listen(engine.listener, 4096) < 0) {
        fprintf(stderr, "engine: cannot listen: %s\n", strerror(errno));
        return 1;
    }
    epoll_ctl(engine.epoll, EPOLL_CTL_ADD, engine.listener,
              &(struct epoll_event){.events = EPOLLIN});
    serve();
}

static void serve(void) {
    static struct epoll_event events[EVENTS_MAX];

    for (;;) {
        struct timespec timeout;
        int count;

        /* To the microsecond, or an engine of 20 ms would take 21. */
        if (engine.heap_len)
            timeout = wire_until(engine.heap[1]->due_ns);
        count =
            epoll_pwait2(engine.epoll, events, EVENTS_MAX, engine.heap_len ? &timeout : NULL, NULL);
        engine.now_ns = wire_now_ns();
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                conn_event(events[i].data.ptr, events[i].events);
            else
                accept_all();
        }
        timers_run();
    }
}

static void accept_all(void) {
    int fd;

    while ((fd = accept4(engine.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *conn = calloc(1, sizeof *conn);

        assert(conn);
        conn->fd = fd;
        conn->armed = EPOLLIN;
        epoll_ctl(engine.epoll, EPOLL_CTL_ADD, fd,
                  &(struct epoll_event){.events = EPOLLIN, .data.ptr = conn});
        engine.accepted++;
        if (++engine.open > engine.open_max)
            engine.open_max = engine.open;
    }
}

/* An event can end the connection, so nothing may touch it after the call that handles one. */
static void conn_event(struct conn *conn, uint32_t events) {
    ssize_t n;
    size_t room = conn->rate ? (size_t)PACE_BYTES : (size_t)WIRE_BUFFER_BYTES;

    if (events & EPOLLOUT && conn->state == CONN_ANSWER) {
        send_more(conn);
        return;
    }
    n = recv(conn->fd, engine.buffer, room, 0);
    if (n > 0) {
        take_bytes(conn, (struct wire_slice){engine.buffer, (size_t)n});
    } else if (n == 0 || errno != EAGAIN) {
        conn_close(conn);
    }
}

/* Closes the socket. The connection itself lives on while it has its turn. */
static void conn_close(struct conn *conn) {
    if (conn->fd >= 0) {
        close(conn->fd);
        conn->fd = -1;
        engine.open--;
    }
    if (!conn->has_turn)
        conn_free(conn);
}

static void conn_free(struct conn *conn) {
    timer_clear(conn);
    free(conn->in);
    free(conn);
}

static void take_bytes(struct conn *conn, struct wire_slice data) {
    if (conn->state == CONN_HEAD)
        take_head(conn, &data);
    if (conn->state == CONN_CONTENT)
        take_content(conn, &data);
    if (data.len) { /* pipelined, or not HTTP */
        engine.bad++;
        conn_close(conn);
        return;
    }
    if (conn->state == CONN_CONTENT && conn->rate)
        pace(conn);
    else if (conn->state == CONN_WAITING)
        answer_later(conn);
}

static void take_head(struct conn *conn, struct wire_slice *data) {
    struct wire_head head;
    struct wire_slice all = *data;
    size_t before = conn->in_len;
    long len;

    if (before) {
        if (before + data->len > 2 * WIRE_HEAD_MAX)
            return; /* left in data: the caller refuses it */
        memcpy(conn->in + before, data->at, data->len);
        all = (struct wire_slice){conn->in, before + data->len};
    }
    len = wire_head(all.at, all.len, &head);
    if (len < 0)
        return;
    if (!len) {
        if (!conn->in)
            conn->in = malloc(2 * WIRE_HEAD_MAX);
        assert(conn->in);
        if (!before && data->len > WIRE_HEAD_MAX)
            return;
        if (!before)
            memcpy(conn->in, data->at, data->len);
        conn->in_len = all.len;
        data->len = 0;
        return;
    }
    if (!route(conn, &head))
        return;
    data->at += (size_t)len - before;
    data->len -= (size_t)len - before;
    conn->in_len = 0;
    free(conn->in);
    conn->in = NULL;
    conn->state = conn->is_chunked_in || conn->expected ? CONN_CONTENT : CONN_WAITING;
}

static void take_content(struct conn *conn, struct wire_slice *data) {
    struct wire_slice piece = *data;

    if (!conn->is_chunked_in) {
        if (piece.len > conn->expected - conn->received)
            piece.len = (size_t)(conn->expected - conn->received);
        data->at += piece.len;
        data->len -= piece.len;
        conn->is_wrong |= memcmp(piece.at, wire_pattern(conn->received), piece.len) != 0;
        conn->received += piece.len;
        if (conn->received == conn->expected)
            conn->state = CONN_WAITING;
        return;
    }
    while (wire_chunks_next(&conn->chunks, data, &piece)) {
        conn->is_wrong |= memcmp(piece.at, wire_pattern(conn->received), piece.len) != 0;
        conn->received += piece.len;
    }
    if (conn->chunks.state == CHUNK_END)
        conn->state = CONN_WAITING;
}

/* Reads from the head what is asked and what will come. False: nothing we serve. */
static bool route(struct conn *conn, const struct wire_head *head) {
    char target[256];
    const char *rate;

    if (head->first[1].len >= sizeof target)
        return false;
    memcpy(target, head->first[1].at, head->first[1].len);
    target[head->first[1].len] = '\0';

    conn->received = conn->sent = conn->delay_ns = conn->head_len = conn->head_sent = 0;
    conn->paced = conn->due_ns = 0;
    conn->pace_start_ns = engine.now_ns;
    conn->chunks = (struct wire_chunks){0};
    conn->is_wrong = conn->is_own = conn->is_chunked_out = conn->is_last = false;
    conn->piece = 0;
    conn->is_close = head->is_close;
    conn->is_chunked_in = head->is_chunked;
    conn->expected = head->content_bytes > 0 ? (uint64_t)head->content_bytes : 0;
    conn->content = ANSWER_BYTES;
    rate = strstr(target, "?rate=");
    conn->rate = rate ? strtoull(rate + 6, NULL, 10) : 0;

    if (!strncmp(target, "/bytes/", 7)) {
        conn->content = strtoull(target + 7, NULL, 10);
    } else if (!strncmp(target, "/chunked/", 9)) {
        conn->content = strtoull(target + 9, NULL, 10);
        conn->is_chunked_out = true;
    } else if (!strncmp(target, "/delay/", 7)) {
        conn->delay_ns = strtoull(target + 7, NULL, 10) * 1000000;
    } else if (!strncmp(target, "/service/", 9)) {
        engine.service_ns = strtoull(target + 9, NULL, 10) * 1000000;
        conn->content = 0;
        conn->is_own = true;
    } else if (!strcmp(target, "/stats")) {
        conn->content = 0; /* its answer is written whole, see answer() */
        conn->is_own = true;
    }
    if (head->first[0].len == 4 && !memcmp(head->first[0].at, "POST", 4)) {
        conn->is_own = true;
        conn->content = ANSWER_BYTES;
        conn->is_chunked_out = false;
    }
    return true;
}

/* The request is complete: the answer goes out now, after its delay, or when its turn has come. */
static void answer_later(struct conn *conn) {
    engine.requests++;
    if (engine.concurrency && !(conn->is_own && !conn->content)) { /* /stats jumps the queue */
        conn->has_turn = true;
        conn->next_turn = NULL;
        *engine.turns_end = conn;
        engine.turns_end = &conn->next_turn;
        engine.queued++;
        if (engine.in_service < engine.concurrency)
            begin_service(engine.turns);
    } else if (conn->delay_ns) {
        timer_set(conn, engine.now_ns + conn->delay_ns);
    } else {
        answer(conn);
    }
}

static void begin_service(struct conn *conn) {
    engine.turns = conn->next_turn;
    if (!engine.turns)
        engine.turns_end = &engine.turns;
    engine.queued--;
    engine.in_service++;
    conn->is_in_service = true;
    conn->end_ns = wire_service_begin(
        &engine.services, engine.now_ns,
        engine.service_ns * (100 + engine.slowdown * engine.queued) / 100 + conn->delay_ns);
    timer_set(conn, conn->end_ns);
}

static void end_service(struct conn *conn) {
    conn->has_turn = conn->is_in_service = false;
    wire_service_end(&engine.services, conn->end_ns, engine.now_ns);
    engine.in_service--;
    if (engine.turns)
        begin_service(engine.turns);
    if (conn->fd < 0) {
        engine.wasted++;
        conn_free(conn);
        return;
    }
    answer(conn);
}

static void answer(struct conn *conn) {
    const char *connection = conn->is_close ? "Connection: close\r\n" : "";

    conn->state = CONN_ANSWER;
    conn->pace_start_ns = engine.now_ns;
    conn->paced = 0;
    if (conn->is_chunked_out) {
        conn->head_len =
            (size_t)snprintf(conn->head, sizeof conn->head,
                             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n", connection);
    } else if (conn->is_own && !conn->content) {
        char body[512];
        int len = snprintf(body, sizeof body,
                           "{\"accepted\":%llu,\"open\":%llu,\"open_max\":%llu,\"requests\":%llu,"
                           "\"bad\":%llu,\"in_service\":%llu,\"queued\":%llu,\"wasted\":%llu}\n",
                           engine.accepted, engine.open, engine.open_max, engine.requests,
                           engine.bad, engine.in_service, engine.queued, engine.wasted);

        conn->head_len = (size_t)snprintf(conn->head, sizeof conn->head,
                                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                          "Content-Length: %d\r\n%s\r\n%s",
                                          len, connection, body);
    } else {
        if (conn->is_own)
            snprintf(conn->own, sizeof conn->own, "%0*llu", ANSWER_BYTES,
                     (unsigned long long)conn->received % 10000000000000ull);
        conn->head_len = (size_t)snprintf(
            conn->head, sizeof conn->head,
            "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %llu\r\n%s\r\n",
            conn->is_wrong ? "422 Unprocessable Content" : "200 OK",
            (unsigned long long)conn->content, connection);
        conn->piece = conn->content < PACE_BYTES ? (size_t)conn->content : PACE_BYTES;
    }
    send_more(conn);
}

/* Sends until all is out, the socket is full or the pace says wait. */
static void send_more(struct conn *conn) {
    for (;;) {
        struct iovec iov[2];
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t n;

        if (conn->head_sent == conn->head_len && !conn->piece && !next_piece(conn)) {
            answered(conn);
            return;
        }
        iov[0].iov_base = conn->head + conn->head_sent;
        iov[0].iov_len = conn->head_len - conn->head_sent;
        iov[1].iov_base = (char *)(conn->is_own ? conn->own : wire_pattern(conn->sent));
        iov[1].iov_len = conn->piece;
        n = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN)
                watch(conn, EPOLLIN | EPOLLOUT);
            else
                conn_close(conn);
            return;
        }
        if ((size_t)n < iov[0].iov_len) {
            conn->head_sent += (size_t)n;
            continue;
        }
        n -= (ssize_t)iov[0].iov_len;
        conn->head_sent = conn->head_len;
        conn->piece -= (size_t)n;
        conn->sent += (uint64_t)n;
        conn->paced += (uint64_t)n;
        if (conn->rate && conn->sent < conn->content && pace(conn))
            return;
    }
}

/* Sets up what goes out next: some content, before it the chunk's line, or the last chunk. */
static bool next_piece(struct conn *conn) {
    uint64_t left = conn->content - conn->sent;
    size_t step = conn->is_chunked_out ? CHUNK_BYTES
                  : conn->rate         ? (size_t)PACE_BYTES
                                       : (size_t)WIRE_BUFFER_BYTES;

    if (!left && (!conn->is_chunked_out || conn->is_last))
        return false;
    conn->is_last = !left;
    conn->piece = left < step ? (size_t)left : step;
    conn->head_len = conn->head_sent = 0;
    if (conn->is_chunked_out)
        conn->head_len =
            (size_t)snprintf(conn->head, sizeof conn->head, "%s%zx\r\n%s", conn->sent ? "\r\n" : "",
                             conn->piece, left ? "" : "\r\n");
    return true;
}

static void answered(struct conn *conn) {
    conn->state = CONN_HEAD;
    if (conn->is_close)
        conn_close(conn);
    else
        watch(conn, EPOLLIN);
}

/* Keeps a paced connection to its rate: true when it has to rest, and its timer goes on with it. */
static bool pace(struct conn *conn) {
    uint64_t moved = conn->state == CONN_CONTENT ? conn->received : conn->paced;
    uint64_t due_ns = conn->pace_start_ns + moved * 1000 / conn->rate * 1000000;

    engine.now_ns = wire_now_ns();
    if (due_ns <= engine.now_ns)
        return false;
    watch(conn, 0);
    timer_set(conn, due_ns);
    return true;
}

static void watch(struct conn *conn, uint32_t events) {
    if (conn->armed == events || conn->fd < 0)
        return;
    conn->armed = events;
    epoll_ctl(engine.epoll, EPOLL_CTL_MOD, conn->fd,
              &(struct epoll_event){.events = events, .data.ptr = conn});
}

static void timer_set(struct conn *conn, uint64_t due_ns) {
    timer_clear(conn);
    if (engine.heap_len + 2 > engine.heap_room) {
        engine.heap_room = engine.heap_room ? 2 * engine.heap_room : 256;
        engine.heap = realloc(engine.heap, engine.heap_room * sizeof *engine.heap);
        assert(engine.heap);
    }
    conn->due_ns = due_ns;
    heap_place(++engine.heap_len, conn);
    heap_up(engine.heap_len);
}

static void timer_clear(struct conn *conn) {
    size_t at = conn->heap_at;
    struct conn *last;

    if (!at)
        return;
    last = engine.heap[engine.heap_len--];
    conn->heap_at = 0;
    conn->due_ns = 0;
    if (last == conn)
        return;
    heap_place(at, last);
    heap_up(at);
    heap_down(last->heap_at);
}

static void timers_run(void) {
    while (engine.heap_len && engine.heap[1]->due_ns <= engine.now_ns) {
        struct conn *conn = engine.heap[1];

        timer_clear(conn);
        if (conn->is_in_service) {
            end_service(conn);
        } else if (conn->state == CONN_WAITING) {
            answer(conn);
        } else if (conn->state == CONN_CONTENT) {
            watch(conn, EPOLLIN);
        } else {
            watch(conn, EPOLLIN);
            send_more(conn);
        }
    }
}

static void heap_place(size_t at, struct conn *conn) {
    engine.heap[at] = conn;
    conn->heap_at = at;
}

static void heap_up(size_t at) {
    struct conn *conn = engine.heap[at];

    for (; at > 1 && engine.heap[at / 2]->due_ns > conn->due_ns; at /= 2)
        heap_place(at, engine.heap[at / 2]);
    heap_place(at, conn);
}

static void heap_down(size_t at) {
    struct conn *conn = engine.heap[at];

    while (2 * at <= engine.heap_len) {
        size_t child = 2 * at;

        if (child < engine.heap_len && engine.heap[child + 1]->due_ns < engine.heap[child]->due_ns)
            child++;
        if (engine.heap[child]->due_ns >= conn->due_ns)
            break;
        heap_place(at, engine.heap[child]);
        at = child;
    }
    heap_place(at, conn);
}
