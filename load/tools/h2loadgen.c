/* A closed- or open-loop HTTP/2 load generator (h2c by prior knowledge), the counterpart of
 * loadgen.c: one thread, level-triggered epoll, one send for all that a read has led to. Each of
 * --streams streams on each of --connections connections begins its next request as soon as it has
 * its answer, or, with
 * --rate, when the next one is due.
 *
 * Every answer is checked: status, length of the content, and of gRPC calls grpc-status (in the
 * trailers, or in a head that is the whole answer) and that the content is exactly --messages whole
 * messages of the kind that h2engine sends. --echo sends --messages messages, each when the one
 * before has been answered. --cpu-of reads the CPU clocks of the proxy's processes at the very
 * moments between which requests are counted. The result is one JSON object on standard output, of
 * the same form as loadgen's. */
#include "h2wire.h"
#include "measure.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    TICK_MS = 10,
    REST_NS = 10 * 1000000, /* after an error, before the connection is used again */
    CONNECTIONS_MAX = 1024,
    STATUS_MAX = 600,
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
    struct sockaddr_in address;
    const char *path, *authority;
    uint64_t connections, streams, messages, limit;
    uint64_t timeout_ns, duration_ns, warmup_ns;
    long long expect_bytes; /* -1: any */
    bool is_grpc, is_echo, may_refuse;
    double rate;
    uint64_t series_ms;
    struct pids pids;
} config = {
    .path = "/",
    .authority = "",
    .connections = 8,
    .streams = 32,
    .messages = 1,
    .timeout_ns = 10ull * 1000000000,
    .duration_ns = 2ull * 1000000000,
    .expect_bytes = -1,
};

static struct {
    int epoll;
    uint8_t *buffer;
    struct conn *conns;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    struct stream *idle;
    uint64_t dispatched; /* open loop: requests taken from the schedule */
    uint64_t now_ns, begin_ns, window_ns, end_ns;
    bool is_counting;
    uint64_t errors[FAIL_COUNT], statuses[STATUS_MAX];
    uint64_t bytes, opened, explained;
    uint64_t started; /* those that failed left out */
    struct histogram ok, refused;
    struct series series;
    double cpu_s, self_s;
} load;

static void parse_options(int argc, char **argv);
static void prepare(void);
static void run(void);
static bool is_over(void);
static void open_window(void);
static void tick(void);
static void conn_open(struct conn *conn);
static void conn_event(struct conn *conn);
static void conn_flush(struct conn *conn);
static void conn_fail(struct conn *conn, enum failure failure);
static void stream_ready(struct stream *stream);
static void stream_begin(struct stream *stream, uint64_t start_ns);
static void dispatch(void);
static uint64_t due_ns(void);
static bool is_refusal(const struct stream *stream);
static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *ctx);
static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                   void *ctx);
static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx);
static int check(const struct stream *stream, uint32_t code);
static ssize_t read_message(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *ctx);
static void print_result(void);

int main(int argc, char **argv) {
    parse_options(argc, argv);
    prepare();
    run();
    print_result();
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
          "  --seconds S       length of the counted window (default 2)\n"
          "  --warmup S        before it, not counted (default 0)\n"
          "  --count N         end after N answers\n"
          "  --timeout S       of one request (default 10)\n"
          "  --rate R          open loop: R requests per second\n"
          "  --may-refuse      status 503, or grpc-status 14, is a refusal, not an error\n"
          "  --series MS       also the results of each so many milliseconds, warm-up included\n"
          "  --bytes N         the content length to expect, unless --grpc\n"
          "  --cpu-of PID,...  processes whose CPU time is measured over the window\n",
          out);
}

static void parse_options(int argc, char **argv) {
    static const struct option options[] = {
        {"path", 1, NULL, 'p'},
        {"grpc", 0, NULL, 'g'},
        {"messages", 1, NULL, 'm'},
        {"echo", 0, NULL, 'e'},
        {"streams", 1, NULL, 'S'},
        {"seconds", 1, NULL, 's'},
        {"connections", 1, NULL, 'c'},
        {"warmup", 1, NULL, 'w'},
        {"count", 1, NULL, 'N'},
        {"timeout", 1, NULL, 't'},
        {"bytes", 1, NULL, 'b'},
        {"cpu-of", 1, NULL, 'C'},
        {"rate", 1, NULL, 'r'},
        {"may-refuse", 0, NULL, 'R'},
        {"series", 1, NULL, 'E'},
        {"help", 0, NULL, 'h'},
        {0},
    };
    int option;

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
        case 'c':
            config.connections = wire_number("--connections", optarg);
            break;
        case 'S':
            config.streams = wire_number("--streams", optarg);
            break;
        case 's':
            config.duration_ns = measure_seconds(optarg);
            break;
        case 'w':
            config.warmup_ns = measure_seconds(optarg);
            break;
        case 'N':
            config.limit = wire_number("--count", optarg);
            break;
        case 't':
            config.timeout_ns = measure_seconds(optarg);
            break;
        case 'b':
            config.expect_bytes = (long long)wire_number("--bytes", optarg);
            break;
        case 'r':
            config.rate = (double)wire_number("--rate", optarg);
            break;
        case 'R':
            config.may_refuse = true;
            break;
        case 'E':
            config.series_ms = wire_number("--series", optarg);
            break;
        case 'C':
            pids_parse(&config.pids, optarg);
            break;
        default:
            usage(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (optind + 1 != argc || wire_address(argv[optind], &config.address) < 0 ||
        !config.connections || config.connections > CONNECTIONS_MAX || !config.streams ||
        config.streams > H2_STREAMS_MAX) {
        usage(stderr);
        exit(2);
    }
    config.authority = argv[optind];
}

static void prepare(void) {
    nghttp2_session_callbacks *callbacks;

    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.buffer = malloc(WIRE_BUFFER_BYTES);
    load.conns = calloc(config.connections, sizeof *load.conns);
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
    for (uint64_t i = 0; i < config.connections; i++) {
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
    uint64_t begin_ns = wire_now_ns(), ticked_ns = begin_ns;

    wire_exact_timers();
    load.now_ns = load.begin_ns = begin_ns;
    series_begin(&load.series, config.series_ms * 1000000, begin_ns,
                 config.warmup_ns + config.duration_ns);
    load.window_ns = begin_ns + config.warmup_ns;
    load.end_ns = load.window_ns + config.duration_ns;
    for (uint64_t i = 0; i < config.connections; i++)
        conn_open(&load.conns[i]);
    if (!config.warmup_ns)
        open_window();
    while (!is_over()) {
        uint64_t tick_ns = load.now_ns + TICK_MS * 1000000ull;
        struct timespec timeout =
            wire_until(config.rate && load.idle && due_ns() < tick_ns ? due_ns() : tick_ns);
        int count = epoll_pwait2(load.epoll, events, EVENTS_MAX, &timeout, NULL);

        load.now_ns = wire_now_ns();
        for (int i = 0; i < count; i++)
            conn_event(events[i].data.ptr);
        if (config.rate)
            dispatch();
        if (load.now_ns - ticked_ns >= TICK_MS * 1000000ull) {
            ticked_ns = load.now_ns;
            tick();
        }
    }
    load.end_ns = wire_now_ns();
    load.cpu_s = pids_cpu_s(&config.pids) - load.cpu_s;
    load.self_s = measure_self_cpu_s() - load.self_s;
}

static bool is_over(void) {
    if (!load.is_counting && load.now_ns >= load.window_ns)
        open_window();
    if (config.limit && load.ok.total + load.refused.total >= config.limit)
        return true;
    return load.now_ns >= load.end_ns;
}

static void open_window(void) {
    load.is_counting = true;
    load.bytes = load.explained = 0;
    memset(load.statuses, 0, sizeof load.statuses);
    load.cpu_s = pids_cpu_s(&config.pids);
    load.self_s = measure_self_cpu_s();
    load.window_ns = load.now_ns = wire_now_ns();
    load.end_ns = load.window_ns + config.duration_ns;
}

/* Ends what takes too long and wakes what has rested after an error. */
static void tick(void) {
    for (uint64_t i = 0; i < config.connections; i++) {
        struct conn *conn = &load.conns[i];

        if (conn->rest_until_ns && load.now_ns >= conn->rest_until_ns)
            conn_open(conn);
        for (uint64_t k = 0; conn->fd >= 0 && k < config.streams; k++)
            if (conn->streams[k].id > 0 &&
                load.now_ns - conn->streams[k].start_ns > config.timeout_ns)
                conn_fail(conn, FAIL_TIMEOUT);
    }
}

/* On loopback the connection stands by the time connect() returns. */
static void conn_open(struct conn *conn) {
    int one = 1;

    conn->rest_until_ns = 0;
    conn->is_waiting = false;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 ||
        nghttp2_session_client_new2(&conn->ng, load.callbacks, conn, load.options)) {
        fprintf(stderr, "h2loadgen: cannot open a connection: %s\n", strerror(errno));
        exit(1);
    }
    load.opened++;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(conn->fd, (void *)&config.address, sizeof config.address) < 0 &&
        errno != EINPROGRESS) {
        conn_fail(conn, FAIL_CONNECT);
        return;
    }
    epoll_ctl(load.epoll, EPOLL_CTL_ADD, conn->fd,
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
        load.bytes += (uint64_t)n;
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
        epoll_ctl(load.epoll, EPOLL_CTL_MOD, conn->fd,
                  &(struct epoll_event){.events = EPOLLIN | (is_waiting ? EPOLLOUT : 0),
                                        .data.ptr = conn});
    conn->is_waiting = is_waiting;
}

/* All that is under way on it is lost. */
static void conn_fail(struct conn *conn, enum failure failure) {
    for (uint64_t k = 0; k < config.streams; k++) {
        load.errors[failure] += conn->streams[k].id > 0;
        load.started -= conn->streams[k].id > 0;
        conn->streams[k].id = 0;
    }
    load.errors[failure] += failure == FAIL_CONNECT;
    close(conn->fd);
    conn->fd = -1;
    nghttp2_session_del(conn->ng);
    h2_out_free(&conn->out);
    conn->rest_until_ns = load.now_ns + REST_NS;
}

/* Closed loop: begins the next request; open loop: waits for it. */
static void stream_ready(struct stream *stream) {
    if (!config.rate) {
        stream_begin(stream, load.now_ns);
    } else if (!stream->is_idle) {
        stream->is_idle = true;
        stream->next_idle = load.idle;
        load.idle = stream;
    }
}

/* Hands what is due to the streams that are free. */
static void dispatch(void) {
    while (load.idle && due_ns() <= load.now_ns) {
        struct stream *stream = load.idle;

        load.idle = stream->next_idle;
        stream->is_idle = false;
        if (stream->conn->fd < 0)
            continue; /* it is ready again when the connection is */
        stream->conn->is_dirty = true;
        stream_begin(stream, due_ns());
        load.dispatched++;
    }
    for (uint64_t i = 0; i < config.connections; i++) {
        struct conn *conn = &load.conns[i];

        if (conn->is_dirty && conn->fd >= 0)
            conn_flush(conn);
        conn->is_dirty = false;
    }
}

static uint64_t due_ns(void) {
    return load.begin_ns + (uint64_t)((double)load.dispatched * 1e9 / config.rate);
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

    /* Of --count requests each is answered, so that none is under way at the end. */
    if (config.limit && !config.warmup_ns && load.started == config.limit) {
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
    load.started += stream->id > 0;
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
                                         : STATUS_MAX;
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
    uint64_t now_ns = wire_now_ns(), spent_ns;
    int failure;

    if (!stream)
        return 0;
    spent_ns = now_ns > stream->start_ns ? now_ns - stream->start_ns : 0;
    failure = check(stream, code);
    if (stream->status > 0 && stream->status < STATUS_MAX)
        load.statuses[stream->status]++;
    if (failure >= 0 && is_refusal(stream)) {
        load.explained += stream->is_explained;
        series_add(&load.series, SERIES_REFUSED, now_ns, spent_ns);
        if (load.is_counting)
            histogram_add(&load.refused, spent_ns);
    } else if (failure >= 0) {
        series_add(&load.series, SERIES_ERROR, now_ns, spent_ns);
        load.errors[failure]++;
        load.started--;
    } else {
        series_add(&load.series, SERIES_OK, now_ns, spent_ns);
        if (load.is_counting)
            histogram_add(&load.ok, spent_ns);
    }
    load.now_ns = now_ns;
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
        return config.expect_bytes >= 0 && stream->received != (uint64_t)config.expect_bytes
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

static void print_result(void) {
    double seconds = (double)(load.end_ns - load.window_ns) / 1e9;
    uint64_t errors = 0, due = 0;

    for (int i = 0; i < FAIL_COUNT; i++)
        errors += load.errors[i];
    if (config.rate)
        due = (uint64_t)((double)(load.end_ns - load.begin_ns) / 1e9 * config.rate);
    printf("{\"seconds\":%.6f,\"per_second\":%.1f,\"cpu_s\":%.6f,\"self_cpu_s\":%.6f,"
           "\"bytes\":%llu,\"opened\":%llu,\"unsent\":%llu,\"explained\":%llu",
           seconds, (double)load.ok.total / seconds, load.cpu_s, load.self_s,
           (unsigned long long)load.bytes, (unsigned long long)load.opened,
           (unsigned long long)(due > load.dispatched ? due - load.dispatched : 0),
           (unsigned long long)load.explained);
    histogram_print("ok", &load.ok);
    histogram_print("refused", &load.refused);
    series_print(&load.series);
    printf(",\"errors\":%llu,\"failures\":{", (unsigned long long)errors);
    for (int i = 0, n = 0; i < FAIL_COUNT; i++) {
        if (load.errors[i])
            printf("%s\"%s\":%llu", n++ ? "," : "", failure_names[i],
                   (unsigned long long)load.errors[i]);
    }
    printf("},\"statuses\":{");
    for (int i = 0, n = 0; i < STATUS_MAX; i++) {
        if (load.statuses[i])
            printf("%s\"%d\":%llu", n++ ? "," : "", i, (unsigned long long)load.statuses[i]);
    }
    printf("}}\n");
}
