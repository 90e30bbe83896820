#include "child/ready.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_HEAD 9 /* bytes; RFC 9113 section 4.1 */
#define FLAG_END_STREAM 1
#define FLAG_END_HEADERS 4

enum frame_type {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RESET = 3,
    FRAME_SETTINGS = 4,
    FRAME_GOAWAY = 7
};

static void begin(struct ready *ready, int64_t now_ns);
static bool is_connected(int fd, bool *is_over);
static void ask(struct ready *ready);
static const char *host_of(const struct ready *ready);
static void write_check(struct buffer *out, const char *host, struct slice service);
static void add_field(struct buffer *out, struct slice name, struct slice value);
static void add_frame(struct buffer *out, int type, int flags, int stream, struct slice content);
static bool hear(struct ready *ready, bool *is_over);
static bool is_success(struct slice answer, bool *is_over);
static bool is_serving(struct slice answer, bool *is_over);

void ready_init(struct ready *ready, const struct config_process *process,
                const struct config_address *address, int64_t now_ns) {
    *ready = (struct ready){.process = process, .address = address, .fd = -1, .next_ns = now_ns};
}

void ready_stop(struct ready *ready) {
    if (ready->fd >= 0)
        close(ready->fd);
    ready->fd = -1;
    buffer_deinit(&ready->answer);
}

bool ready_look(struct ready *ready, int64_t now_ns) {
    bool is_over = false, is_ready = false;

    if (ready->fd < 0 && now_ns >= ready->next_ns)
        begin(ready, now_ns);
    if (ready->fd < 0)
        return false;
    if (!ready->is_connected && is_connected(ready->fd, &is_over)) {
        ready->is_connected = true;
        if (ready->process->ready.check == READY_TCP)
            is_ready = true;
        else
            ask(ready);
    }
    if (ready->is_connected && !is_ready && !is_over)
        is_ready = hear(ready, &is_over);
    if (is_ready || is_over || now_ns >= ready->next_ns) {
        ready_stop(ready);
        ready->next_ns = now_ns + READY_AGAIN_NS;
    }
    return is_ready;
}

static void begin(struct ready *ready, int64_t now_ns) {
    const struct sockaddr *address = (const void *)&ready->address->sockaddr;

    ready->is_connected = false;
    ready->next_ns = now_ns + READY_TRY_NS;
    ready->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (ready->fd >= 0 && connect(ready->fd, address, ready->address->sockaddr_len) < 0 &&
        errno != EINPROGRESS) {
        ready_stop(ready);
        ready->next_ns = now_ns + READY_AGAIN_NS;
    }
}

static bool is_connected(int fd, bool *is_over) {
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    socklen_t len = sizeof(int);
    int err = 0;

    if (poll(&polled, 1, 0) <= 0)
        return false;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    *is_over = err != 0;
    return err == 0;
}

/* It fits the buffer of a new connection; if it does not, the try is given up in time. */
static void ask(struct ready *ready) {
    struct buffer out = {0};

    if (ready->process->ready.check == READY_GRPC)
        write_check(&out, host_of(ready), slice_str(ready->process->ready.service));
    else
        buffer_printf(
            &out, "GET %s HTTP/1.1\r\nhost: %s\r\nuser-agent: weir\r\nconnection: close\r\n\r\n",
            ready->process->ready.path, host_of(ready));
    send(ready->fd, out.base, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    buffer_deinit(&out);
}

static const char *host_of(const struct ready *ready) {
    return ready->address->kind == ADDRESS_UNIX ? "localhost" : ready->address->text;
}

/* RFC 9113: the preface, SETTINGS, a header section of literals (RFC 7541 section 6.2.2), and the
 * HealthCheckRequest, of which field 1 is the service. */
static void write_check(struct buffer *out, const char *host, struct slice service) {
    struct buffer fields = {0}, content = {0};

    if (service.len > 100)
        service.len = 100;
    add_field(&fields, SLICE(":method"), SLICE("POST"));
    add_field(&fields, SLICE(":scheme"), SLICE("http"));
    add_field(&fields, SLICE(":path"), SLICE("/grpc.health.v1.Health/Check"));
    add_field(&fields, SLICE(":authority"), slice_str(host));
    add_field(&fields, SLICE("content-type"), SLICE("application/grpc"));
    add_field(&fields, SLICE("te"), SLICE("trailers"));
    buffer_append(&content, slice_of("\0\0\0\0", 4)); /* not compressed, and a length below 256 */
    buffer_append_char(&content, (char)(service.len ? service.len + 2 : 0));
    if (service.len) {
        buffer_append_char(&content, 1 << 3 | 2);
        buffer_append_char(&content, (char)service.len);
        buffer_append(&content, service);
    }
    buffer_append(out, SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    add_frame(out, FRAME_SETTINGS, 0, 0, SLICE(""));
    add_frame(out, FRAME_HEADERS, FLAG_END_HEADERS, 1, buffer_slice(&fields));
    add_frame(out, FRAME_DATA, FLAG_END_STREAM, 1, buffer_slice(&content));
    buffer_deinit(&fields);
    buffer_deinit(&content);
}

/* Lengths are below 127: of literal names, of addresses, and of our own words. */
static void add_field(struct buffer *out, struct slice name, struct slice value) {
    if (value.len > 126)
        value.len = 126;
    buffer_append_char(out, 0);
    buffer_append_char(out, (char)name.len);
    buffer_append(out, name);
    buffer_append_char(out, (char)value.len);
    buffer_append(out, value);
}

static void add_frame(struct buffer *out, int type, int flags, int stream, struct slice content) {
    const char head[FRAME_HEAD] = {
        0,           (char)(content.len >> 8), (char)content.len, (char)type, (char)flags, 0, 0, 0,
        (char)stream};

    buffer_append(out, slice_of(head, sizeof head));
    buffer_append(out, content);
}

static bool hear(struct ready *ready, bool *is_over) {
    char *to = buffer_reserve(&ready->answer, READY_ANSWER_MAX);
    ssize_t n = recv(ready->fd, to, READY_ANSWER_MAX - ready->answer.len, MSG_DONTWAIT);
    bool is_ready;

    if (n > 0)
        ready->answer.len += (size_t)n;
    else
        *is_over = n == 0 || errno != EAGAIN;
    is_ready = ready->process->ready.check == READY_GRPC
                   ? is_serving(buffer_slice(&ready->answer), is_over)
                   : is_success(buffer_slice(&ready->answer), is_over);
    if (!is_ready && ready->answer.len == READY_ANSWER_MAX)
        *is_over = true;
    return is_ready;
}

/* Only as far as the status code. */
static bool is_success(struct slice answer, bool *is_over) {
    if (answer.len < sizeof "HTTP/1.1 200" - 1)
        return false;
    *is_over = true;
    return slice_starts(answer, SLICE("HTTP/1.")) && answer.base[8] == ' ' && answer.base[9] == '2';
}

/* The first content of the stream, if there is any, is a HealthCheckResponse: field 1 is the
 * status, 1 SERVING. */
static bool is_serving(struct slice answer, bool *is_over) {
    while (answer.len >= FRAME_HEAD) {
        const unsigned char *head = (const unsigned char *)answer.base;
        size_t len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];

        if (answer.len < FRAME_HEAD + len)
            return false;
        if (head[3] == FRAME_DATA && len > 0) {
            *is_over = true;
            return len >= 7 && head[FRAME_HEAD + 5] == 1 << 3 && head[FRAME_HEAD + 6] == 1;
        }
        /* It ends, or the whole connection does, without an answer. */
        if ((head[3] == FRAME_HEADERS && head[4] & FLAG_END_STREAM) || head[3] == FRAME_RESET ||
            head[3] == FRAME_GOAWAY)
            *is_over = true;
        answer = slice_skip(answer, FRAME_HEAD + len);
    }
    return false;
}
