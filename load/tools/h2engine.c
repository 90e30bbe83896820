/* The HTTP/2 upstream of the load scenarios: h2c by prior knowledge, single-threaded, one send for
 * all that a read has led to, so that what is measured is the proxy in front of it.
 *
 *   application/grpc  /load.Engine/Unary: one message for one message. /load.Engine/StreamN: N
 *                     messages, each in its own DATA frame. /load.Engine/Echo: a message for each,
 *                     at once. Status 0; 3 when the request was not made of whole messages of the
 *                     kind that h2loadgen sends, 12 for another method
 *   anything else     13 bytes of text
 *
 * With --concurrency N --service-ms MS [--slowdown P] unary calls are answered by a server of known
 * capacity, as engine.c has it.
 *
 * It has no limits, no timeouts and no TLS. */
#include "h2wire.h"
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
#include <unistd.h>

enum { EVENTS_MAX = 256, PATH_MAX_BYTES = 64 };

#define SERVICE "/load.Engine/"

enum method { METHOD_UNKNOWN, METHOD_UNARY, METHOD_STREAM, METHOD_ECHO };

struct conn {
    int fd;
    bool is_waiting; /* for the socket to take more */
    nghttp2_session *ng;
    struct h2_out out;
};

struct stream {
    struct conn *conn; /* borrowed; NULL: it was closed while it has its turn */
    int32_t id;
    bool has_turn;            /* waits for service, or is in service */
    uint64_t due_ns;          /* in service: its end */
    struct stream *next_turn; /* waiting: behind it; in service: due no sooner */
    bool is_grpc, is_ended, is_wrong, is_deferred, is_answered;
    enum method method;
    char path[PATH_MAX_BYTES];
    uint64_t seen; /* bytes of content */
    uint64_t owed; /* messages that are still to be sent */
    size_t at;     /* bytes of the first of them that are out */
    struct stream *next_free;
};

static struct {
    int epoll, listener;
    uint8_t *buffer;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    struct stream *free;
    struct stream *turns, **turns_end, *serving;
    uint64_t concurrency, service_ns, slowdown, in_service, queued;
    struct wire_services services;
} engine = {.turns_end = &engine.turns};

static void prepare(void);
static void accept_all(void);
static void conn_event(struct conn *conn);
static void conn_flush(struct conn *conn);
static void conn_close(struct conn *conn);
static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx);
static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                   void *ctx);
static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx);
static void stream_free(struct stream *stream);
static void take_turn(struct stream *stream);
static void begin_service(void);
static void serve_due(void);
static void choose_method(struct stream *stream);
static void answer(nghttp2_session *ng, int32_t id, struct stream *stream);
static ssize_t read_text(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *ctx);
static ssize_t read_message(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *ctx);
static void submit_status(nghttp2_session *ng, int32_t id, const struct stream *stream);

int main(int argc, char **argv) {
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                            {"concurrency", required_argument, NULL, 'c'},
                                            {"service-ms", required_argument, NULL, 's'},
                                            {"slowdown", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct epoll_event events[EVENTS_MAX];
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
                    "usage: h2engine --listen IPV4:PORT [--concurrency N --service-ms MS "
                    "[--slowdown PERCENT]]\n");
            return option == 'h' ? 0 : 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    prepare();
    engine.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(engine.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(engine.listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!address.sin_family || bind(engine.listener, (void *)&address, sizeof address) < 0 ||
        listen(engine.listener, 4096) < 0) {
        fprintf(stderr, "h2engine: cannot listen: %s\n", strerror(errno));
        return 1;
    }
    epoll_ctl(engine.epoll, EPOLL_CTL_ADD, engine.listener,
              &(struct epoll_event){.events = EPOLLIN});
    for (;;) {
        struct timespec timeout = wire_until(engine.serving ? engine.serving->due_ns : 0);
        int count =
            epoll_pwait2(engine.epoll, events, EVENTS_MAX, engine.serving ? &timeout : NULL, NULL);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                conn_event(events[i].data.ptr);
            else
                accept_all();
        }
        serve_due();
    }
}

static void prepare(void) {
    nghttp2_session_callbacks *callbacks;

    engine.epoll = epoll_create1(EPOLL_CLOEXEC);
    wire_exact_timers();
    engine.buffer = malloc(WIRE_BUFFER_BYTES);
    if (!engine.buffer || nghttp2_session_callbacks_new(&engine.callbacks) ||
        nghttp2_option_new(&engine.options)) {
        fprintf(stderr, "h2engine: out of memory\n");
        exit(1);
    }
    callbacks = engine.callbacks;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_closed_streams(engine.options, 1);
}

static void accept_all(void) {
    int fd;

    while ((fd = accept4(engine.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *conn = calloc(1, sizeof *conn);

        assert(conn);
        conn->fd = fd;
        nghttp2_session_server_new2(&conn->ng, engine.callbacks, conn, engine.options);
        h2_submit_settings(conn->ng);
        epoll_ctl(engine.epoll, EPOLL_CTL_ADD, fd,
                  &(struct epoll_event){.events = EPOLLIN, .data.ptr = conn});
        conn_flush(conn);
    }
}

/* May end the connection. */
static void conn_event(struct conn *conn) {
    ssize_t n = recv(conn->fd, engine.buffer, WIRE_BUFFER_BYTES, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN) ||
        (n > 0 && nghttp2_session_mem_recv(conn->ng, engine.buffer, (size_t)n) < 0))
        conn_close(conn);
    else
        conn_flush(conn);
}

static void conn_flush(struct conn *conn) {
    int outcome = h2_send(conn->fd, conn->ng, &conn->out);
    bool is_waiting = outcome == 1;

    if (outcome < 0 ||
        (!nghttp2_session_want_read(conn->ng) && !nghttp2_session_want_write(conn->ng))) {
        conn_close(conn);
        return;
    }
    if (is_waiting != conn->is_waiting)
        epoll_ctl(engine.epoll, EPOLL_CTL_MOD, conn->fd,
                  &(struct epoll_event){.events = EPOLLIN | (is_waiting ? EPOLLOUT : 0),
                                        .data.ptr = conn});
    conn->is_waiting = is_waiting;
}

/* nghttp2 does not tell of the streams that end with their session: what they were is left alone.
 */
static void conn_close(struct conn *conn) {
    for (struct stream *stream = engine.turns; stream; stream = stream->next_turn)
        stream->conn = stream->conn == conn ? NULL : stream->conn;
    for (struct stream *stream = engine.serving; stream; stream = stream->next_turn)
        stream->conn = stream->conn == conn ? NULL : stream->conn;
    close(conn->fd);
    nghttp2_session_del(conn->ng);
    h2_out_free(&conn->out);
    free(conn);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct stream *stream = engine.free;

    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    if (stream)
        engine.free = stream->next_free;
    else
        stream = malloc(sizeof *stream);
    assert(stream);
    *stream = (struct stream){.conn = ctx, .id = frame->hd.stream_id};
    nghttp2_session_set_stream_user_data(ng, frame->hd.stream_id, stream);
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

    if (stream && name_len == 5 && !memcmp(name, ":path", 5) && len < sizeof stream->path)
        memcpy(stream->path, value, len);
    else if (stream && name_len == 12 && !memcmp(name, "content-type", 12))
        stream->is_grpc = len >= 16 && !memcmp(value, "application/grpc", 16);
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                   void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, id);
    long messages;

    if (!stream || !stream->is_grpc)
        return 0;
    messages = h2_messages(&stream->seen, bytes, len);
    if (messages < 0)
        stream->is_wrong = true;
    else if (stream->method == METHOD_ECHO)
        stream->owed += (uint64_t)messages;
    if (stream->is_deferred && stream->owed > 0) {
        stream->is_deferred = false;
        nghttp2_session_resume_data(ng, id);
    }
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

    if (!stream || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        choose_method(stream);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        stream->is_ended = true;
        stream->is_wrong |= stream->is_grpc && stream->seen % H2_MESSAGE_BYTES != 0;
    }
    if (!stream->is_answered && (stream->is_ended || stream->method == METHOD_ECHO)) {
        stream->is_answered = true;
        if (engine.concurrency && stream->method == METHOD_UNARY)
            take_turn(stream);
        else
            answer(ng, frame->hd.stream_id, stream);
    } else if (stream->is_ended && stream->is_deferred) {
        stream->is_deferred = false;
        nghttp2_session_resume_data(ng, frame->hd.stream_id);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx) {
    struct stream *stream = nghttp2_session_get_stream_user_data(ng, id);

    if (stream && stream->has_turn)
        stream->conn = NULL; /* as in most servers, nobody tells whoever works on it */
    else if (stream)
        stream_free(stream);
    return 0;
}

static void stream_free(struct stream *stream) {
    stream->next_free = engine.free;
    engine.free = stream;
}

static void take_turn(struct stream *stream) {
    stream->has_turn = true;
    stream->next_turn = NULL;
    *engine.turns_end = stream;
    engine.turns_end = &stream->next_turn;
    engine.queued++;
    if (engine.in_service < engine.concurrency)
        begin_service();
}

static void begin_service(void) {
    struct stream *stream = engine.turns, **at = &engine.serving;

    engine.turns = stream->next_turn;
    if (!engine.turns)
        engine.turns_end = &engine.turns;
    engine.queued--;
    engine.in_service++;
    stream->due_ns =
        wire_service_begin(&engine.services, wire_now_ns(),
                           engine.service_ns * (100 + engine.slowdown * engine.queued) / 100);
    while (*at && (*at)->due_ns <= stream->due_ns)
        at = &(*at)->next_turn;
    stream->next_turn = *at;
    *at = stream;
}

static void serve_due(void) {
    uint64_t now_ns = wire_now_ns();

    while (engine.serving && engine.serving->due_ns <= now_ns) {
        struct stream *stream = engine.serving;

        engine.serving = stream->next_turn;
        engine.in_service--;
        wire_service_end(&engine.services, stream->due_ns, now_ns);
        if (engine.turns)
            begin_service();
        stream->has_turn = false;
        if (stream->conn) {
            answer(stream->conn->ng, stream->id, stream);
            conn_flush(stream->conn);
        } else {
            stream_free(stream);
        }
    }
}

static void choose_method(struct stream *stream) {
    const char *name = stream->path + sizeof SERVICE - 1;

    if (!stream->is_grpc || strncmp(stream->path, SERVICE, sizeof SERVICE - 1) != 0)
        return;
    if (!strcmp(name, "Unary")) {
        stream->method = METHOD_UNARY;
        stream->owed = 1;
    } else if (!strncmp(name, "Stream", 6)) {
        stream->method = METHOD_STREAM;
        stream->owed = strtoull(name + 6, NULL, 10);
    } else if (!strcmp(name, "Echo")) {
        stream->method = METHOD_ECHO;
    }
}

static void answer(nghttp2_session *ng, int32_t id, struct stream *stream) {
    const nghttp2_nv text[] = {H2_NV(":status", "200"), H2_NV("content-type", "text/plain"),
                               H2_NV("content-length", "13")};
    const nghttp2_nv grpc[] = {H2_NV(":status", "200"), H2_NV("content-type", "application/grpc")};
    const nghttp2_data_provider provider = {
        .source.ptr = stream, .read_callback = stream->is_grpc ? read_message : read_text};

    if (stream->is_grpc)
        nghttp2_submit_response(ng, id, grpc, sizeof grpc / sizeof *grpc, &provider);
    else
        nghttp2_submit_response(ng, id, text, sizeof text / sizeof *text, &provider);
}

static ssize_t read_text(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *ctx) {
    assert(room >= H2_TEXT_BYTES);
    memcpy(to, H2_TEXT, H2_TEXT_BYTES);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return H2_TEXT_BYTES;
}

static ssize_t read_message(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *ctx) {
    struct stream *stream = source->ptr;
    size_t n = 0;

    if (stream->owed > 0 && !stream->is_wrong) {
        n = H2_MESSAGE_BYTES - stream->at;
        if (n > room) /* the window */
            n = room;
        memcpy(to, h2_message + stream->at, n);
        stream->at = (stream->at + n) % H2_MESSAGE_BYTES;
        stream->owed -= stream->at == 0;
    } else if (!stream->is_ended) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (stream->is_ended && (stream->owed == 0 || stream->is_wrong)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_status(ng, id, stream);
    }
    return (ssize_t)n;
}

static void submit_status(nghttp2_session *ng, int32_t id, const struct stream *stream) {
    nghttp2_nv status[] = {H2_NV("grpc-status", "0")};

    if (stream->is_wrong)
        status[0] = H2_NV("grpc-status", "3");
    else if (stream->method == METHOD_UNKNOWN)
        status[0] = H2_NV("grpc-status", "12");
    nghttp2_submit_trailer(ng, id, status, 1);
}
