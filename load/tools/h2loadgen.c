/* A closed- or open-loop HTTP/2 load generator (h2c by prior knowledge), the counterpart of
 * loadgen.c: one thread, level-triggered epoll, one send for all that a read has led to. Each of
 * --streams streams on each of --connections connections begins its next request as soon as it has
 * its answer, or, with
 * --rate, when the next one is due.
 *
 * Every answer is checked: status, length of the content, and of gRPC calls grpc-status (in the
 * trailers, or in a head that is the whole answer) and that the content is exactly --messages whole
 * messages of the kind that h2engine sends. --echo sends --messages messages, each when the one
 * before has been answered. The result is one JSON object on standard output (result.h). */
#include "h2wire.h"
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
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    TICK_NS = 10 * 1000000,
    CONNECTIONS_MAX = 1024,
};

enum failure {
    FAIL_CONNECT,
    FAIL_CLOSED,      /* the connection ended with answers outstanding; counted once per answer */
    FAIL_PROTOCOL,    /* the connection is not HTTP/2 */
    FAIL_RESET,       /* RST_STREAM before the answer was whole */
    FAIL_STATUS,      /* not 200 */
    FAIL_LENGTH,      /* not --bytes */
    FAIL_CONTENT,     /* not made of the messages that the engine sends */
    FAIL_MESSAGES,    /* not --messages of them */
    FAIL_GRPC_STATUS, /* none, or not 0 */
    FAIL_TIMEOUT,
    FAIL_COUNT,
};

static const char *const failure_names[FAIL_COUNT] = {
    "connect", "closed",  "protocol", "reset",       "status",
    "length",  "content", "messages", "grpc-status", "timeout",
};

struct stream {
    struct conn *conn; /* borrowed */
    int32_t id;        /* 0: none under way */
    uint64_t start_ns;
    uint64_t received;       /* bytes of content */
    uint64_t messages;       /* received whole */
    uint64_t sent;           /* messages */
    size_t at;               /* bytes of the next one that are out */
    int status, grpc_status; /* -1: not seen */
    bool is_deferred, is_wrong, is_explained;
    bool is_idle; /* open loop: in the list of those that wait for a request that is due */
    struct stream *next_idle;
};

struct conn {
    int fd;                 /* -1: none */
    uint64_t rest_until_ns; /* 0: not resting */
    bool is_waiting;        /* for the socket to take more */
    bool is_dirty;          /* a request was submitted */
    nghttp2_session *ng;
    struct h2_out out;
    struct stream *streams; /* owned */
};

static struct {
    const char *path, *authority;
    uint64_t streams, messages;
    bool is_grpc, is_echo, may_refuse;
} config = {
    .path = "/",
    .authority = "",
    .streams = 32,
    .messages = 1,
};

static struct plan plan;
static struct result result = {.failures = failure_names, .failure_count = FAIL_COUNT};

static struct {
    uint8_t *buffer;
    struct conn *conns;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    struct stream *idle;
} load;

static void parse_options(int argc, char **argv);
static void prepare(void);
static void run(void);
static bool is_over(void);
static void tick(void);
static void conn_open(struct conn *conn);
static void conn_event(struct conn *conn);
static void conn_flush(struct conn *conn);
static void conn_fail(struct conn *conn, enum failure failure);
static void stream_ready(struct stream *stream);
static void stream_begin(struct stream *stream, uint64_t start_ns);
static void dispatch(void);
static struct stream *free_stream(void);
static bool is_refusal(const struct stream *stream);
static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx);
static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                   void *ctx);
static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx);
static int check(const struct stream *stream, uint32_t code);
static ssize_t read_message(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *ctx);

int main(int argc, char **argv) {
    parse_options(argc, argv);
    prepare();
    run();
    result_print(&result);
    return 0;
}

static void usage(FILE *out) {
    fputs("usage: h2loadgen [OPTION...] IPV4:PORT\n"
          "  --path P          of every request (default /)\n"
          "  --grpc            POST a message as gRPC, instead of GET\n"
          "  --messages N      to expect in the answer (default 1)\n"
          "  --echo            send so many too, each when the one before is answered\n"
          "  --connections N   (default 8)\n"
          "  --streams N       on each of them (default 32)\n"
          "  --may-refuse      status 503, or grpc-status 14, is a refusal, not an "
          "error\n" PLAN_USAGE,
          out);
}

static void parse_options(int argc, char **argv) {
    static const struct option options[] = {
        {"path", 1, NULL, 'p'},
        {"grpc", 0, NULL, 'g'},
        {"messages", 1, NULL, 'm'},
        {"echo", 0, NULL, 'e'},
        {"streams", 1, NULL, 'S'},
        {"may-refuse", 0, NULL, 'R'},
        {"help", 0, NULL, 'h'},
        PLAN_OPTIONS,
        {0},
    };
    int option;

    plan = plan_default(8);
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            config.path = optarg;
            break;
        case 'g':
            config.is_grpc = true;
            break;
        case 'm':
            config.messages = wire_number("--messages", optarg);
            break;
        case 'e':
            config.is_echo = true;
            break;
        case 'S':
            config.streams = wire_number("--streams", optarg);
            break;
        case 'R':
            config.may_refuse = true;
            break;
        default:
            if (plan_option(&plan, option, optarg))
                break;
            usage(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (!plan_address(&plan, argc, argv) || plan.connections > CONNECTIONS_MAX || !config.streams ||
        config.streams > H2_STREAMS_MAX) {
        usage(stderr);
        exit(2);
    }
    config.authority = argv[optind];
}

static void prepare(void) {
    nghttp2_session_callbacks *callbacks;

    plan.epoll = epoll_create1(EPOLL_CLOEXEC);
    plan.tick_ns = TICK_NS;
    load.buffer = malloc(WIRE_BUFFER_BYTES);
    load.conns = calloc(plan.connections, sizeof *load.conns);
    if (!load.buffer || !load.conns || nghttp2_session_callbacks_new(&load.callbacks) ||
        nghttp2_option_new(&load.options)) {
        fprintf(stderr, "h2loadgen: out of memory\n");
        exit(1);
    }
    callbacks = load.callbacks;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_closed_streams(load.options, 1);
    nghttp2_option_set_peer_max_concurrent_streams(load.options, H2_STREAMS_MAX);
    for (uint64_t i = 0; i < plan.connections; i++) {
        struct conn *conn = &load.conns[i];

        conn->fd = -1;
        conn->streams = calloc(config.streams, sizeof *conn->streams);
        assert(conn->streams);
        for (uint64_t k = 0; k < config.streams; k++)
            conn->streams[k].conn = conn;
    }
}

static void run(void) {
    static struct epoll_event events[EVENTS_MAX];
    uint64_t ticked_ns;

    plan_begin(&plan);
    result_begin(&result, &plan);
    ticked_ns = plan.now_ns;
    for (uint64_t i = 0; i < plan.connections; i++)
        conn_open(&load.conns[i]);
    while (!is_over()) {
        int count = plan_wait(&plan, events, EVENTS_MAX, load.idle != NULL);

        for (int i = 0; i < count; i++)
            conn_event(events[i].data.ptr);
        if (plan.rate > 0)
            dispatch();
        if (plan.now_ns - ticked_ns >= TICK_NS) {
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

        if (conn->rest_until_ns && plan.now_ns >= conn->rest_until_ns)
            conn_open(conn);
        for (uint64_t k = 0; conn->fd >= 0 && k < config.streams; k++)
            if (conn->streams[k].id > 0 &&
                plan.now_ns - conn->streams[k].start_ns > plan.timeout_ns)
                conn_fail(conn, FAIL_TIMEOUT);
    }
}

static void conn_open(struct conn *conn) {
    conn->rest_until_ns = 0;
    conn->is_waiting = false;
    conn->fd = wire_connect(&plan.address, NULL);
    if (nghttp2_session_client_new2(&conn->ng, load.callbacks, conn, load.options)) {
        fprintf(stderr, "h2loadgen: out of memory\n");
        exit(1);
    }
    result.opened++;
    if (conn->fd < 0) {
        conn_fail(conn, FAIL_CONNECT);
        return;
    }
    epoll_ctl(plan.epoll, EPOLL_CTL_ADD, conn->fd,
              &(struct epoll_event){.events = EPOLLIN, .data.ptr = conn});
    h2_submit_settings(conn->ng);
    for (uint64_t k = 0; k < config.streams; k++)
        stream_ready(&conn->streams[k]);
    conn_flush(conn);
}

static void conn_event(struct conn *conn) {
    ssize_t n;

    if (conn->fd < 0)
        return; /* closed earlier in this batch */
    n = recv(conn->fd, load.buffer, WIRE_BUFFER_BYTES, 0);
    if (n < 0 && errno == EAGAIN) {
        conn_flush(conn);
    } else if (n <= 0) {
        conn_fail(conn, FAIL_CLOSED);
    } else {
        result.bytes += (uint64_t)n;
        if (nghttp2_session_mem_recv(conn->ng, load.buffer, (size_t)n) < 0)
            conn_fail(conn, FAIL_PROTOCOL);
        else
            conn_flush(conn);
    }
}

static void conn_flush(struct conn *conn) {
    int outcome = h2_send(conn->fd, conn->ng, &conn->out);
    bool is_waiting = outcome == 1;

    if (outcome < 0 || !nghttp2_session_want_read(conn->ng)) {
        conn_fail(conn, FAIL_CLOSED);
        return;
    }
    if (is_waiting != conn->is_waiting)
        epoll_ctl(plan.epoll, EPOLL_CTL_MOD, conn->fd,
                  &(struct epoll_event){.events = EPOLLIN | (is_waiting ? EPOLLOUT : 0),
                                        .data.ptr = conn});
    conn->is_waiting = is_waiting;
}

/* All that is under way on it is lost. */
static void conn_fail(struct conn *conn, enum failure failure) {
    for (uint64_t k = 0; k < config.streams; k++) {
        if (conn->streams[k].id == 0)
            continue;
        result_failed(&result, failure);
        plan.started--;
        conn->streams[k].id = 0;
    }
    if (failure == FAIL_CONNECT)
        result_failed(&result, failure);
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    nghttp2_session_del(conn->ng);
    h2_out_free(&conn->out);
    conn->rest_until_ns = plan.now_ns + PLAN_REST_NS;
}

/* Closed loop: begins the next request; open loop: waits for it. */
static void stream_ready(struct stream *stream) {
    if (plan.rate == 0) {
        stream_begin(stream, plan.now_ns);
    } else if (!stream->is_idle) {
        stream->is_idle = true;
        stream->next_idle = load.idle;
        load.idle = stream;
    }
}

/* Hands what is due to the streams that are free. */
static void dispatch(void) {
    struct stream *stream;
    uint64_t start_ns;

    while ((stream = free_stream()) && plan_take(&plan, &start_ns)) {
        load.idle = stream->next_idle;
        stream->is_idle = false;
        stream->conn->is_dirty = true;
        stream_begin(stream, start_ns);
    }
    for (uint64_t i = 0; i < plan.connections; i++) {
        struct conn *conn = &load.conns[i];

        if (conn->is_dirty && conn->fd >= 0)
            conn_flush(conn);
        conn->is_dirty = false;
    }
}

/* The first that may carry a request. One whose connection has ended leaves the list: it is ready
 * again when that is. */
static struct stream *free_stream(void) {
    while (load.idle && load.idle->conn->fd < 0) {
        load.idle->is_idle = false;
        load.idle = load.idle->next_idle;
    }
    return load.idle;
}

static void stream_begin(struct stream *stream, uint64_t start_ns) {
    const nghttp2_nv head[] = {
        H2_NV(":method", "GET"),
        H2_NV(":scheme", "http"),
        h2_nv(":path", 5, config.path, strlen(config.path)),
        h2_nv(":authority", 10, config.authority, strlen(config.authority)),
        H2_NV("user-agent", "h2loadgen"),
    };
    const nghttp2_nv call[] = {
        H2_NV(":method", "POST"),
        head[1],
        head[2],
        head[3],
        H2_NV("content-type", "application/grpc"),
        H2_NV("user-agent", "grpc-h2loadgen"),
        H2_NV("te", "trailers"),
    };
    const nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_message};

    if (plan_is_used_up(&plan)) {
        stream->id = 0;
        return;
    }
    *stream = (struct stream){
        .conn = stream->conn, .start_ns = start_ns, .status = -1, .grpc_status = -1};
    if (config.is_grpc)
        stream->id = nghttp2_submit_request(stream->conn->ng, NULL, call,
                                            sizeof call / sizeof *call, &provider, stream);
    else
        stream->id = nghttp2_submit_request(stream->conn->ng, NULL, head,
                                            sizeof head / sizeof *head, NULL, stream);
    plan.started += stream->id > 0;
    if (stream->id < 0)
        stream->id = 0; /* the connection is ending: conn_flush() sees that */
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

    /* nghttp2 has seen to it that a status is three digits. */
    if (stream && name_len == 7 && !memcmp(name, ":status", 7))
        stream->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    else if (stream && name_len == 11 && !memcmp(name, "grpc-status", 11))
        stream->grpc_status = len == 1   ? value[0] - '0'
                              : len == 2 ? (value[0] - '0') * 10 + value[1] - '0'
                                         : RESULT_STATUS_MAX;
    else if (stream && ((name_len == 11 && !memcmp(name, "retry-after", 11)) ||
                        (name_len == 22 && !memcmp(name, "grpc-retry-pushback-ms", 22))))
        stream->is_explained = true;
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                   void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, id);
    long messages;

    if (!stream)
        return 0;
    if (!config.is_grpc) {
        stream->received += len;
        return 0;
    }
    messages = h2_messages(&stream->received, bytes, len);
    if (messages < 0)
        stream->is_wrong = true;
    else
        stream->messages += (uint64_t)messages;
    if (stream->is_deferred && stream->messages == stream->sent) {
        stream->is_deferred = false;
        nghttp2_session_resume_data(ng, id);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, id);
    int failure;

    if (!stream)
        return 0;
    plan.now_ns = wire_now_ns();
    failure = check(stream, code);
    result_status(&result, stream->status);
    if (failure < 0) {
        result_ok(&result, stream->start_ns, plan.now_ns);
    } else if (is_refusal(stream)) {
        result_refused(&result, stream->start_ns, plan.now_ns, stream->is_explained);
    } else {
        result_failed(&result, (unsigned)failure);
        plan.started--;
    }
    stream->id = 0;
    stream_ready(stream);
    return 0;
}

static bool is_refusal(const struct stream *stream) {
    return config.may_refuse && (stream->status == 503 || stream->grpc_status == 14);
}

/* What is wrong with an answer, or -1. */
static int check(const struct stream *stream, uint32_t code) {
    if (stream->status < 0 || (code != NGHTTP2_NO_ERROR))
        return FAIL_RESET;
    if (stream->status != 200)
        return FAIL_STATUS;
    if (!config.is_grpc)
        return plan.expect_bytes >= 0 && stream->received != (uint64_t)plan.expect_bytes
                   ? FAIL_LENGTH
                   : -1;
    if (stream->grpc_status != 0)
        return FAIL_GRPC_STATUS;
    if (stream->is_wrong || stream->received % H2_MESSAGE_BYTES != 0)
        return FAIL_CONTENT;
    return stream->messages == config.messages ? -1 : FAIL_MESSAGES;
}

/* The messages of a call. */
static ssize_t read_message(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *ctx) {
    struct stream *stream = source->ptr;
    uint64_t wanted = config.is_echo ? config.messages : 1;
    size_t n = H2_MESSAGE_BYTES - stream->at;

    if (config.is_echo && stream->at == 0 && stream->messages < stream->sent) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > room) /* the window */
        n = room;
    memcpy(to, h2_message + stream->at, n);
    stream->at = (stream->at + n) % H2_MESSAGE_BYTES;
    stream->sent += stream->at == 0;
    if (stream->sent == wanted)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}
