/* A closed- or open-loop HTTP/1.1 load generator that is cheap enough to share a core with the
 * upstream while the proxy has the other one: one thread, level-triggered epoll, one send and one
 * recv per request, heads parsed in place, content counted (and compared, with --verify) but not
 * kept.
 *
 * Closed loop: every connection sends its next request as soon as it has its answer. Open loop
 * (--rate): as plan.h has it.
 *
 * Every answer is checked: status, length, framing. --also 503 names a status that is counted apart
 * ("refused", with its own latencies and with how many of them carried Retry-After) instead of
 * being an error. The result is one JSON object on standard output (result.h).
 *
 * It follows no redirects, speaks no TLS and pipelines nothing. */
#include "plan.h"
#include "result.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 512,
    TICK_NS = 1000000,
};

enum failure {
    FAIL_CONNECT,
    FAIL_RESET,
    FAIL_CLOSED,  /* end of stream before the answer was complete */
    FAIL_FRAMING, /* not HTTP, no length, or bytes after the answer */
    FAIL_STATUS,
    FAIL_LENGTH,
    FAIL_CONTENT,
    FAIL_TIMEOUT,
    FAIL_COUNT,
};

static const char *const failure_names[FAIL_COUNT] = {
    "connect", "reset", "closed", "framing", "status", "length", "content", "timeout",
};

enum conn_state {
    CONN_CLOSED, /* no socket */
    CONN_SENDING,
    CONN_HEAD,
    CONN_CONTENT,
    CONN_EOF,  /* answered; the server has said that it closes */
    CONN_IDLE, /* open loop: waits for a request that is due */
};

struct conn {
    int fd; /* -1: none */
    enum conn_state state;
    uint32_t armed;
    uint64_t start_ns;
    uint64_t rest_until_ns;
    size_t sent;
    char *in; /* owned; an incomplete head, else NULL */
    size_t in_len;
    struct wire_chunks chunks;
    uint64_t received, expected;
    int status;
    bool is_chunked, is_close, is_explained, was_used;
    struct conn *next_idle;
};

static struct {
    const char *path, *field;
    uint64_t sources, first_source, post;
    int expect_status, also_status;
    bool is_new, is_verified;
} config = {
    .path = "/bytes/13",
    .sources = 1,
    .first_source = 1,
    .expect_status = 200,
};

static struct plan plan;
static struct result result = {.failures = failure_names, .failure_count = FAIL_COUNT};

static struct {
    char *buffer;
    struct conn *conns, *idle;
    char digits[14]; /* the answer to a POST */
    char head[1024]; /* of every request; its content is the pattern */
    size_t request_bytes, head_bytes;
} load;

static void parse_options(int argc, char **argv);
static void prepare_request(void);
static void run(void);
static bool is_over(void);
static void tick(void);
static void dispatch(void);
static void conn_begin(struct conn *conn, uint64_t start_ns);
static bool conn_open(struct conn *conn);
static void conn_send(struct conn *conn);
static void conn_event(struct conn *conn, uint32_t events);
static void take_head(struct conn *conn, struct wire_slice *data);
static bool take_answer(struct conn *conn, const struct wire_head *head);
static void take_content(struct conn *conn, struct wire_slice *data);
static bool is_content_right(struct conn *conn, struct wire_slice piece);
static void conn_answered(struct conn *conn);
static void conn_next(struct conn *conn);
static void conn_fail(struct conn *conn, enum failure failure);
static void conn_shut(struct conn *conn);
static void watch(struct conn *conn, uint32_t events);

int main(int argc, char **argv) {
    parse_options(argc, argv);
    prepare_request();
    load.buffer = malloc(WIRE_BUFFER_BYTES);
    load.conns = calloc(plan.connections, sizeof *load.conns);
    assert(load.buffer && load.conns);
    run();
    result_print(&result);
    return 0;
}

static void usage(FILE *out) {
    fputs("usage: loadgen [OPTION...] IPV4:PORT\n"
          "  --path P          target of every request (default /bytes/13)\n"
          "  --post N          POST with N bytes of content instead of GET\n"
          "  --connections N   (default 64)\n"
          "  --sources N       spread them over N client addresses from 127.0.0.1 on\n"
          "  --first-source N  the first is 127.0.0.N\n"
          "  --field TEXT      a further field of every request, \"name: value\"\n"
          "  --new             a new connection for each request\n"
          "  --status N        the status to expect (default 200)\n"
          "  --also N          a status that is a refusal, not an error\n"
          "  --verify          compare the content with the engine's pattern\n" PLAN_USAGE,
          out);
}

static void parse_options(int argc, char **argv) {
    static const struct option options[] = {
        {"path", 1, NULL, 'p'},
        {"post", 1, NULL, 'P'},
        {"sources", 1, NULL, 'S'},
        {"first-source", 1, NULL, 'F'},
        {"field", 1, NULL, 'f'},
        {"new", 0, NULL, 'n'},
        {"status", 1, NULL, 'x'},
        {"also", 1, NULL, 'a'},
        {"verify", 0, NULL, 'v'},
        {"help", 0, NULL, 'h'},
        PLAN_OPTIONS,
        {0},
    };
    int option;

    plan = plan_default(64);
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            config.path = optarg;
            break;
        case 'P':
            config.post = wire_number("--post", optarg);
            break;
        case 'S':
            config.sources = wire_number("--sources", optarg);
            break;
        case 'F':
            config.first_source = wire_number("--first-source", optarg);
            break;
        case 'f':
            config.field = optarg;
            break;
        case 'n':
            config.is_new = true;
            break;
        case 'x':
            config.expect_status = (int)wire_number("--status", optarg);
            break;
        case 'a':
            config.also_status = (int)wire_number("--also", optarg);
            break;
        case 'v':
            config.is_verified = true;
            break;
        default:
            if (plan_option(&plan, option, optarg))
                break;
            usage(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (!plan_address(&plan, argc, argv) || !config.sources || !config.first_source ||
        config.first_source + config.sources > 255) {
        usage(stderr);
        exit(2);
    }
}

static void prepare_request(void) {
    const char *field = config.field ? config.field : "";
    int len;

    if (config.post)
        len = snprintf(load.head, sizeof load.head,
                       "POST %s HTTP/1.1\r\nHost: load.test\r\nContent-Type: text/plain\r\n"
                       "Content-Length: %llu\r\n%s%s%s\r\n",
                       config.path, (unsigned long long)config.post, config.field ? field : "",
                       config.field ? "\r\n" : "", config.is_new ? "Connection: close\r\n" : "");
    else
        len = snprintf(load.head, sizeof load.head,
                       "GET %s HTTP/1.1\r\nHost: load.test\r\n%s%s%s\r\n", config.path,
                       config.field ? field : "", config.field ? "\r\n" : "",
                       config.is_new ? "Connection: close\r\n" : "");
    assert(len > 0 && (size_t)len < sizeof load.head);
    snprintf(load.digits, sizeof load.digits, "%013llu",
             (unsigned long long)config.post % 10000000000000ull);
    load.head_bytes = (size_t)len;
    load.request_bytes = load.head_bytes + config.post;
}

static void run(void) {
    static struct epoll_event events[EVENTS_MAX];
    uint64_t ticked_ns;

    plan.epoll = epoll_create1(EPOLL_CLOEXEC);
    plan.tick_ns = TICK_NS;
    plan_begin(&plan);
    result_begin(&result, &plan);
    ticked_ns = plan.now_ns;
    for (uint64_t i = plan.connections; i-- > 0;) {
        struct conn *conn = &load.conns[i];

        conn->fd = -1;
        conn_next(conn);
    }
    while (!is_over()) {
        int count = plan_wait(&plan, events, EVENTS_MAX, load.idle != NULL);

        for (int i = 0; i < count; i++)
            conn_event(events[i].data.ptr, events[i].events);
        if (plan.rate > 0)
            dispatch();
        if (plan.now_ns - ticked_ns >= PLAN_REST_NS) {
            ticked_ns = plan.now_ns;
            tick();
        }
    }
    plan_end(&plan);
    result_end(&result);
}

static bool is_over(void) {
    if (plan_opens_window(&plan))
        result_open_window(&result);
    return plan_is_over(&plan, result_answered(&result));
}

/* Ends what takes too long and wakes what has rested after an error. */
static void tick(void) {
    for (uint64_t i = 0; i < plan.connections; i++) {
        struct conn *conn = &load.conns[i];

        if (conn->rest_until_ns && plan.now_ns >= conn->rest_until_ns) {
            conn->rest_until_ns = 0;
            conn_next(conn);
        } else if (conn->state != CONN_CLOSED && conn->state != CONN_IDLE &&
                   plan.now_ns - conn->start_ns > plan.timeout_ns) {
            conn_fail(conn, FAIL_TIMEOUT);
        }
    }
}

/* Open loop: hands what is due to the connections that are free. */
static void dispatch(void) {
    uint64_t start_ns;

    while (load.idle && plan_take(&plan, &start_ns)) {
        struct conn *conn = load.idle;

        load.idle = conn->next_idle;
        conn_begin(conn, start_ns);
    }
}

static void conn_begin(struct conn *conn, uint64_t start_ns) {
    if (plan_is_used_up(&plan)) {
        conn->state = conn->fd < 0 ? CONN_CLOSED : CONN_IDLE;
        return;
    }
    plan.started++;
    conn->start_ns = start_ns;
    conn->sent = conn->in_len = 0;
    conn->received = conn->expected = 0;
    conn->chunks = (struct wire_chunks){0};
    if (conn->fd < 0 && !conn_open(conn))
        return;
    conn->state = CONN_SENDING;
    conn_send(conn);
}

static bool conn_open(struct conn *conn) {
    struct sockaddr_in from = {.sin_family = AF_INET};

    from.sin_addr.s_addr =
        htonl(INADDR_LOOPBACK +
              (uint32_t)(config.first_source - 1 + (uint64_t)(conn - load.conns) % config.sources));
    conn->fd =
        wire_connect(&plan.address, config.sources > 1 || config.first_source > 1 ? &from : NULL);
    result.opened++;
    conn->was_used = false;
    if (conn->fd < 0) {
        conn_fail(conn, FAIL_CONNECT);
        return false;
    }
    conn->armed = EPOLLIN;
    epoll_ctl(plan.epoll, EPOLL_CTL_ADD, conn->fd,
              &(struct epoll_event){.events = EPOLLIN, .data.ptr = conn});
    return true;
}

/* On loopback the connection stands by the time connect() returns, so this sends at once. */
static void conn_send(struct conn *conn) {
    while (conn->sent < load.request_bytes) {
        struct iovec iov[2] = {0};
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        uint64_t content = 0;
        ssize_t n;

        if (conn->sent < load.head_bytes) {
            iov[0].iov_base = load.head + conn->sent;
            iov[0].iov_len = load.head_bytes - conn->sent;
        } else {
            content = conn->sent - load.head_bytes;
        }
        iov[1].iov_base = (char *)wire_pattern(content);
        iov[1].iov_len =
            config.post - content < WIRE_BUFFER_BYTES ? config.post - content : WIRE_BUFFER_BYTES;
        n = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN)
                watch(conn, EPOLLIN | EPOLLOUT);
            else
                conn_fail(conn, conn->was_used ? FAIL_RESET : FAIL_CONNECT);
            return;
        }
        conn->sent += (size_t)n;
    }
    conn->was_used = true;
    conn->state = CONN_HEAD;
    watch(conn, EPOLLIN);
}

static void conn_event(struct conn *conn, uint32_t events) {
    struct wire_slice data;
    ssize_t n;

    if (conn->fd < 0)
        return; /* closed earlier in this batch */
    if (events & EPOLLOUT && conn->state == CONN_SENDING) {
        conn_send(conn);
        return;
    }
    n = recv(conn->fd, load.buffer, WIRE_BUFFER_BYTES, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (conn->state == CONN_EOF) {
            conn_shut(conn);
            conn_next(conn);
        } else if (conn->state == CONN_IDLE) {
            conn_shut(conn); /* an idle connection may be closed: the next request opens another */
            result.reopened++;
        } else if (n < 0) {
            conn_fail(conn, conn->was_used ? FAIL_RESET : FAIL_CONNECT);
        } else {
            conn_fail(conn, FAIL_CLOSED);
        }
        return;
    }
    result.bytes += (uint64_t)n;
    data = (struct wire_slice){load.buffer, (size_t)n};
    /* An answer that comes before the request is out ends the connection's use after it. */
    if (conn->state == CONN_SENDING) {
        conn->state = CONN_HEAD;
        conn->is_close = true;
    }
    if (conn->state == CONN_HEAD)
        take_head(conn, &data);
    else if (conn->state == CONN_CONTENT)
        take_content(conn, &data);
    else
        conn_fail(conn, FAIL_FRAMING);
}

static void take_head(struct conn *conn, struct wire_slice *data) {
    struct wire_slice all = *data;
    struct wire_head head;
    size_t before = conn->in_len;
    long len;

    if (before) {
        if (before + data->len > 2 * WIRE_BUFFER_BYTES) {
            conn_fail(conn, FAIL_FRAMING);
            return;
        }
        memcpy(conn->in + before, data->at, data->len);
        all = (struct wire_slice){conn->in, before + data->len};
    }
    len = wire_head(all.at, all.len, &head);
    if (!len) {
        if (!conn->in)
            conn->in = malloc(2 * WIRE_BUFFER_BYTES);
        assert(conn->in);
        if (!before)
            memcpy(conn->in, data->at, data->len);
        conn->in_len = all.len;
        return;
    }
    if (len < 0 || !take_answer(conn, &head)) {
        conn_fail(conn, FAIL_FRAMING);
        return;
    }
    all.at += len;
    all.len -= (size_t)len;
    conn->in_len = 0;
    if (conn->status < 200) { /* interim: the answer is still to come */
        if (all.len)
            take_head(conn, &all);
        return;
    }
    conn->state = CONN_CONTENT;
    take_content(conn, &all);
}

static bool take_answer(struct conn *conn, const struct wire_head *head) {
    conn->status = wire_status(head);
    conn->is_close = head->is_close;
    conn->is_chunked = head->is_chunked;
    conn->is_explained = head->retry_after.len > 0;
    conn->expected = head->content_bytes > 0 ? (uint64_t)head->content_bytes : 0;
    return conn->status >= 100 && conn->status < RESULT_STATUS_MAX &&
           (conn->is_chunked || head->content_bytes >= 0 || conn->status < 200 ||
            conn->status == 204 || conn->status == 304);
}

static void take_content(struct conn *conn, struct wire_slice *data) {
    struct wire_slice piece = *data;
    bool is_done;

    if (conn->is_chunked) {
        while (wire_chunks_next(&conn->chunks, data, &piece)) {
            if (!is_content_right(conn, piece))
                return;
        }
        is_done = conn->chunks.state == CHUNK_END;
    } else {
        if (piece.len > conn->expected - conn->received)
            piece.len = (size_t)(conn->expected - conn->received);
        if (!is_content_right(conn, piece))
            return;
        data->len -= piece.len;
        is_done = conn->received == conn->expected;
    }
    if (is_done && data->len)
        conn_fail(conn, FAIL_FRAMING);
    else if (is_done)
        conn_answered(conn);
}

static bool is_content_right(struct conn *conn, struct wire_slice piece) {
    const char *wanted = wire_pattern(conn->received);

    if (config.post) /* the engine answers how many bytes it has got */
        wanted = conn->received < sizeof load.digits ? load.digits + conn->received : NULL;
    if (config.is_verified && conn->status == config.expect_status &&
        (!wanted || memcmp(piece.at, wanted, piece.len) != 0)) {
        conn_fail(conn, FAIL_CONTENT);
        return false;
    }
    conn->received += piece.len;
    return true;
}

static void conn_answered(struct conn *conn) {
    uint64_t now_ns = wire_now_ns();

    result_status(&result, conn->status);
    if (conn->status == config.expect_status) {
        if (plan.expect_bytes >= 0 && conn->received != (uint64_t)plan.expect_bytes) {
            conn_fail(conn, FAIL_LENGTH);
            return;
        }
        result_ok(&result, conn->start_ns, now_ns);
    } else if (conn->status == config.also_status) {
        result_refused(&result, conn->start_ns, now_ns, conn->is_explained);
    } else {
        conn_fail(conn, FAIL_STATUS);
        return;
    }
    plan.now_ns = now_ns;
    if (conn->is_close || config.is_new) {
        conn->state = CONN_EOF; /* the server closes: waiting for it checks that it does */
        return;
    }
    conn_next(conn);
}

static void conn_next(struct conn *conn) {
    if (plan.rate == 0) {
        conn_begin(conn, plan.now_ns);
        return;
    }
    conn->state = CONN_IDLE;
    conn->next_idle = load.idle;
    load.idle = conn;
}

static void conn_fail(struct conn *conn, enum failure failure) {
    result_failed(&result, failure);
    plan.started--;
    conn_shut(conn);
    conn->rest_until_ns = plan.now_ns + PLAN_REST_NS;
}

static void conn_shut(struct conn *conn) {
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->state = CONN_CLOSED;
    free(conn->in);
    conn->in = NULL;
    conn->in_len = 0;
}

static void watch(struct conn *conn, uint32_t events) {
    if (conn->armed == events)
        return;
    conn->armed = events;
    epoll_ctl(plan.epoll, EPOLL_CTL_MOD, conn->fd,
              &(struct epoll_event){.events = events, .data.ptr = conn});
}
