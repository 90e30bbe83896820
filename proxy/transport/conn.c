/* The connection: see conn.h. The owner of the libuv callbacks, and so of the turns. */
#include "transport/conn_parts.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "transport/addresses.h"
#include "transport/inbox.h"
#include "transport/outbox.h"

#include <h2o.h>

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GATHERED_BYTES 4096 /* of several pieces, copied together before they are sent */

/* When the end of a new connection is watched for whose request is whole. Most are answered, and
 * closed if that is asked for, before; those cost two epoll_ctl() and a wake-up less. */
#define WATCH_LATER_NS (20 * NS_PER_MS)

static struct conn *make(struct loop *loop, bool is_unix, const struct conn_account *account);
static void adopt(struct conn *conn);
static void enrol(struct conn *conn);
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t status, const uv_buf_t *no_room);
static void on_connect(uv_connect_t *request, int status);
static void on_written(uv_write_t *request, int status);
static void on_closed(uv_handle_t *handle);
static void on_left(struct task *task);
static void end(struct conn *conn);
static void on_broken(struct conn *conn, int err);
static void on_later(struct timer *timer);
static struct slice ipv4_text(const unsigned char *octets, char *to);
static void hear(struct conn *conn);
static int send_or_queue(struct conn *conn, const uv_buf_t *bufs, unsigned count, size_t total);
static ssize_t send_now(struct conn *conn, const uv_buf_t *bufs, unsigned count, size_t total);
static ssize_t send_piece(struct conn *conn, const void *base, size_t len);
static ssize_t send_pieces(struct conn *conn, const uv_buf_t *bufs, unsigned count);
static int send_flags(const struct conn *conn);
static ssize_t outcome_of(ssize_t n);
static int write_queued(struct conn *conn);
static void shut_down(struct conn *conn);
static void linger_data(struct conn *conn, size_t len);
static bool may_read(const struct conn *conn);

struct conn *conn_open(struct loop *loop, int fd, bool is_unix, const union conn_address *peer,
                       const struct conn_account *account) {
    struct conn *conn = make(loop, is_unix, account);

    conn->fd = fd;
    if (peer)
        conn->peer = *peer;
    return conn;
}

void conn_start(struct conn *conn, const struct conn_events *events, void *codec) {
    conn->events = events;
    conn->codec = codec;
    if (conn->is_new)
        conn->is_reading = true;
    else
        conn_resume(conn);
}

void conn_look(struct conn *conn) {
    conn->is_new = false;
    if (!conn->is_reading)
        return;
    if (!conn->loop->in_turn) /* or what was heard last may still be in the buffer */
        hear(conn);
    if (!conn->is_reading || conn->is_watched || conn->is_closed)
        return;
    if (conn->is_satisfied)
        loop_timer_start(conn->loop, &conn->later, WATCH_LATER_NS);
    else
        conn_resume(conn);
}

int conn_dial(struct conn **out, struct loop *loop, const struct sockaddr *address,
              const struct conn_account *account, struct tls *tls, conn_ready_fn *on_ready,
              void *codec) {
    bool is_unix = address->sa_family == AF_UNIX;
    struct conn *conn = make(loop, is_unix, account);
    uv_connect_t *request = xcalloc(1, sizeof *request);
    int err = 0;

    conn->on_ready = on_ready;
    conn->tls = tls;
    conn->codec = codec;
    request->data = conn;
    if (is_unix) {
        uv_pipe_init(&loop->uv, &conn->uv.pipe, 0);
        uv_pipe_connect(request, &conn->uv.pipe, ((const struct sockaddr_un *)address)->sun_path,
                        on_connect);
    } else {
        uv_tcp_init(&loop->uv, &conn->uv.tcp);
        err = uv_tcp_connect(request, &conn->uv.tcp, address, on_connect);
        if (!err)
            uv_tcp_nodelay(&conn->uv.tcp, 1);
    }
    adopt(conn);
    if (err) {
        free(request);
        conn_close(conn);
        return err;
    }
    *out = conn;
    return 0;
}

int conn_send(struct conn *conn, const uv_buf_t *bufs, unsigned count) {
    return conn->tls ? conn_tls_send(conn, bufs, count) : conn_raw_send(conn, bufs, count);
}

int conn_raw_send(struct conn *conn, const uv_buf_t *bufs, unsigned count) {
    size_t total = 0;

    assert(count <= CONN_SEND_BUFS_MAX);
    for (unsigned i = 0; i < count; i++)
        total += bufs[i].len;
    if (conn->is_closed || conn->is_write_closed)
        return -EPIPE;
    if (total == 0)
        return conn->out.bytes ? CONN_QUEUED : CONN_SENT;
    if (outbox_hold(conn, bufs, count, total))
        return CONN_SENT;
    return send_or_queue(conn, bufs, count, total);
}

void conn_push(struct conn *conn) {
    if (conn->is_held)
        outbox_flush(conn->loop);
}

void conn_send_held(struct conn *conn, struct slice bytes) {
    ssize_t n = send_piece(conn, bytes.base, bytes.len);

    if (n == (ssize_t)bytes.len)
        return;
    if (n < 0) {
        conn->broken = (int)n;
        /* Who reads will come to the end by that. For who does not, libuv is to find out. */
        if (conn->is_watched)
            return;
        n = 0;
    }
    chunks_push(&conn->out, conn->loop, slice_skip(bytes, (size_t)n));
    write_queued(conn);
}

static int send_or_queue(struct conn *conn, const uv_buf_t *bufs, unsigned count, size_t total) {
    size_t sent = 0;

    if (conn->out.bytes == 0) {
        ssize_t n = send_now(conn, bufs, count, total);

        if (n < 0)
            return (int)n;
        sent = (size_t)n;
        if (sent == total)
            return CONN_SENT;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t skip = sent < bufs[i].len ? sent : bufs[i].len;

        chunks_push(&conn->out, conn->loop, slice_of(bufs[i].base + skip, bufs[i].len - skip));
        sent -= skip;
    }
    if (conn->in_flight == 0) {
        int err = write_queued(conn);

        if (err)
            return err;
    }
    return CONN_QUEUED;
}

void conn_pause(struct conn *conn) {
    if (conn->is_closed)
        return;
    if (conn->is_watched)
        uv_read_stop(&conn->uv.stream);
    conn->is_reading = conn->is_watched = false;
}

void conn_resume(struct conn *conn) {
    if (conn->is_watched || conn->is_closed || !may_read(conn))
        return;
    enrol(conn);
    conn->is_reading = conn->is_watched = uv_read_start(&conn->uv.stream, on_alloc, on_read) == 0;
}

void conn_finish(struct conn *conn) {
    conn->is_finishing = true;
    if (conn->tls)
        conn_tls_notify(conn);
    conn_push(conn);
    if (conn->out.bytes == 0)
        shut_down(conn);
}

void conn_linger(struct conn *conn, int64_t wait_ns, size_t bytes_max) {
    if (conn->is_closed || conn->is_lingering)
        return;
    conn->is_lingering = true;
    conn->linger_bytes_left = bytes_max;
    conn_finish(conn);
    if (!may_read(conn) && conn->out.bytes == 0) {
        conn_close(conn); /* the other side has closed already */
        return;
    }
    loop_timer_start(conn->loop, &conn->later, wait_ns);
    conn_resume(conn);
}

void conn_close(struct conn *conn) {
    if (conn->is_closed)
        return;
    conn_push(conn);
    conn->is_ending = true; /* a close_notify goes with it */
    if (conn->tls && conn->out.bytes == 0)
        conn_tls_notify(conn);
    conn->is_closed = true;
    loop_timer_stop(conn->loop, &conn->later);
    if (conn->sock) {
        h2o_socket_close(conn->sock);
    } else {
        close(conn->fd);
        loop_at_batch_end(conn->loop, &conn->left);
    }
}

void conn_reset(struct conn *conn) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    if (conn->is_closed)
        return;
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    conn->is_notified = true; /* a close_notify would say that it is whole */
    conn_close(conn);
}

int conn_export(struct conn *conn, struct conn_parcel *parcel) {
    h2o_socket_export_t export;
    int err;

    conn_push(conn);
    conn_pause(conn);
    enrol(conn);
    err = conn->has_arrivals || !conn_is_drained(conn) ? -EBUSY : 0;
    if (!err && h2o_socket_export(conn->sock, &export) != 0)
        err = -EMFILE;
    if (err) {
        conn_close(conn);
        return err;
    }
    /* h2o has duplicated the fd, without the flag, and closed its own socket. */
    fcntl(export.fd, F_SETFD, FD_CLOEXEC);
    conn->is_closed = true;
    fds_force(conn->account.fds, conn->account.fd_class);
    h2o_buffer_dispose(&export.input);
    *parcel = (struct conn_parcel){export.fd, conn->tls};
    conn->tls = NULL;
    return 0;
}

struct slice conn_address_text(const union conn_address *address, char *to) {
    const struct sockaddr_in6 *in6 = &address->in6;

    if (address->any.sa_family == AF_INET)
        return ipv4_text((const unsigned char *)&address->in.sin_addr, to);
    if (address->any.sa_family != AF_INET6)
        return SLICE("unix");
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        return ipv4_text(in6->sin6_addr.s6_addr + 12, to);
    inet_ntop(AF_INET6, &in6->sin6_addr, to, INET6_ADDRSTRLEN);
    return slice_str(to);
}

/* Every request needs one; inet_ntop() goes through printf and costs 1,700 instructions. */
static struct slice ipv4_text(const unsigned char *octets, char *to) {
    char *at = to;

    for (int i = 0; i < 4; i++) {
        unsigned octet = octets[i];

        if (i > 0)
            *at++ = '.';
        if (octet >= 100)
            *at++ = (char)('0' + octet / 100);
        if (octet >= 10)
            *at++ = (char)('0' + octet / 10 % 10);
        *at++ = (char)('0' + octet % 10);
    }
    return slice_of(to, (size_t)(at - to));
}

static struct conn *make(struct loop *loop, bool is_unix, const struct conn_account *account) {
    struct conn *conn = spares_take(&loop->spare_conns, sizeof *conn);

    memset(conn, 0, sizeof *conn);
    conn->loop = loop;
    conn->fd = -1;
    conn->account = *account;
    conn->is_unix = is_unix;
    loop->conns++;
    timer_init(&conn->later, on_later);
    task_init(&conn->left, on_left);
    return conn;
}

/* Makes the socket libuv's, if it is not yet: what it has to be to be watched, or written to later.
 */
static void enrol(struct conn *conn) {
    struct loop *loop = conn->loop;
    int err;

    if (conn->sock)
        return;
    if (conn->is_unix) {
        uv_pipe_init(&loop->uv, &conn->uv.pipe, 0);
        err = uv_pipe_open(&conn->uv.pipe, conn->fd);
    } else {
        uv_tcp_init(&loop->uv, &conn->uv.tcp);
        err = uv_tcp_open(&conn->uv.tcp, conn->fd);
    }
    assert(!err); /* a socket of our own, non-blocking, used for the first time */
    (void)err;
    adopt(conn);
}

/* Gives the libuv handle to h2o: from here on only h2o closes it. */
static void adopt(struct conn *conn) {
    uv_fileno(&conn->uv.handle, &conn->fd);
    conn->sock = h2o_uv_socket_create(&conn->uv.stream, on_closed);
    conn->sock->data = conn;
}

/* libuv says when something has come, but is given no room to read it to: it calls on_read() with
 * UV_ENOBUFS then, and nothing else (uv_alloc_cb). By recv(2) one read costs less than by its
 * read(2), and the end of what has come is known without a second one. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    *buf = (uv_buf_t){0};
}

static void on_read(uv_stream_t *stream, ssize_t status, const uv_buf_t *no_room) {
    struct conn *conn = CONTAINER_OF(stream, struct conn, uv.stream);

    if (conn->tls)
        hear(conn);
    else
        inbox_read(conn);
}

static void hear(struct conn *conn) {
    size_t ahead = conn->tls ? CONN_TLS_AHEAD : 0;
    char *base = conn->loop->read_buffer + ahead;
    ssize_t nread;

    loop_catch_up(conn->loop);
    nread = conn_receive(conn, base, LOOP_READ_BYTES - ahead);
    if (nread != 0)
        conn_heard(conn, base, nread);
}

void conn_heard(struct conn *conn, const char *base, ssize_t nread) {
    struct loop *loop = conn->loop;

    if (conn->is_closed)
        return;
    loop->now_ns = clock_now_ns();
    outbox_look(loop);
    if (nread == UV_EOF && conn->broken)
        nread = conn->broken;
    if (nread < 0) {
        conn_pause(conn);
        conn->is_eof = true;
    }
    if (conn->tls && !conn->is_lingering) {
        conn_tls_heard(conn, nread, base);
    } else if (conn->is_lingering) {
        if (nread > 0)
            linger_data(conn, (size_t)nread);
        else if (nread != UV_EOF || conn->out.bytes == 0)
            conn_close(conn); /* else once the queue is sent */
    } else if (nread > 0) {
        conn->events->on_data(conn, slice_of(base, (size_t)nread));
    } else if (nread == UV_EOF) {
        conn->events->on_eof(conn);
    } else {
        conn->events->on_error(conn, (int)nread);
    }
    loop_turn(loop);
}

static void on_connect(uv_connect_t *request, int status) {
    struct conn *conn = request->data;
    struct loop *loop = conn->loop;

    free(request);
    if (conn->is_closed)
        return;
    loop->now_ns = clock_now_ns();
    if (status == 0 && conn->tls) {
        status = conn_tls_start(conn, SLICE_NONE);
        if (status != 0)
            conn->on_ready(conn, status);
    } else {
        conn->on_ready(conn, status);
    }
    loop_turn(loop);
}

/* What the kernel takes of it, or -errno. */
static ssize_t send_now(struct conn *conn, const uv_buf_t *bufs, unsigned count, size_t total) {
    char gathered[GATHERED_BYTES];

    if (count == 1)
        return send_piece(conn, bufs->base, bufs->len);
    if (total > sizeof gathered)
        return send_pieces(conn, bufs, count);
    return send_piece(conn, gathered, conn_gather(gathered, bufs, count));
}

/* By send(2) and from one place: write(2) and writev(2), which uv_try_write() calls, do more for
 * the same, about 0.3 us for each exchange. This and conn_receive() go by libc's functions of those
 * names, which make ready for pthread_cancel() around each call in a process that has threads. */
static ssize_t send_piece(struct conn *conn, const void *base, size_t len) {
    ssize_t n;

    do
        n = syscall(SYS_sendto, conn->fd, base, len, send_flags(conn), NULL, 0);
    while (n < 0 && errno == EINTR);
    return outcome_of(n);
}

static ssize_t send_pieces(struct conn *conn, const uv_buf_t *bufs, unsigned count) {
    struct msghdr message = {.msg_iov = (struct iovec *)bufs, .msg_iovlen = count};
    ssize_t n;

    do
        n = sendmsg(conn->fd, &message, send_flags(conn));
    while (n < 0 && errno == EINTR);
    return outcome_of(n);
}

static int send_flags(const struct conn *conn) {
    return MSG_NOSIGNAL | (conn->is_ending ? MSG_MORE : 0);
}

static ssize_t outcome_of(ssize_t n) {
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
}

ssize_t conn_receive(struct conn *conn, char *to, size_t room) {
    ssize_t n;

    do
        n = syscall(SYS_recvfrom, conn->fd, to, room, 0, NULL, NULL);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return n;
    if (n == 0)
        return UV_EOF;
    return errno == EAGAIN ? 0 : -errno;
}

static int write_queued(struct conn *conn) {
    uv_buf_t bufs[CONN_SEND_BUFS_MAX];
    unsigned count = chunks_peek(&conn->out, bufs, CONN_SEND_BUFS_MAX);

    enrol(conn);
    conn->in_flight = 0;
    for (unsigned i = 0; i < count; i++)
        conn->in_flight += bufs[i].len;
    /* uv_write() by its other name: the one of that name is ours (uv_cure.h). */
    return uv_write2(&conn->write, &conn->uv.stream, bufs, count, NULL, on_written);
}

static void on_written(uv_write_t *request, int status) {
    struct conn *conn = CONTAINER_OF(request, struct conn, write);
    struct loop *loop = conn->loop;

    if (conn->is_closed)
        return;
    loop->now_ns = clock_now_ns();
    if (status == 0) {
        chunks_drop(&conn->out, loop, conn->in_flight);
        conn->in_flight = 0;
        if (conn->out.bytes > 0)
            status = write_queued(conn);
    }
    if (status < 0) {
        on_broken(conn, conn->broken ? conn->broken : status);
    } else if (conn->out.bytes == 0) {
        if (conn->is_finishing)
            shut_down(conn);
        if (conn->is_lingering && !may_read(conn))
            conn_close(conn);
        else if (!conn->is_lingering && (!conn->tls || conn->is_secured))
            conn->events->on_drained(conn);
    }
    loop_turn(loop);
}

static void on_broken(struct conn *conn, int err) {
    if (conn->is_lingering)
        conn_close(conn);
    else if (conn->tls && !conn->is_secured)
        conn->on_ready(conn, err);
    else
        conn->events->on_error(conn, err);
}

static void on_closed(uv_handle_t *handle) {
    /* h2o has freed its socket and left handle->data dangling. */
    struct conn *conn = CONTAINER_OF(handle, struct conn, uv.handle);
    struct loop *loop = conn->loop;

    end(conn);
    loop_turn(loop);
}

/* Of one that has never been libuv's. */
static void on_left(struct task *task) {
    end(CONTAINER_OF(task, struct conn, left));
}

static void end(struct conn *conn) {
    struct loop *loop = conn->loop;
    struct conn_account account = conn->account;

    chunks_clear(&conn->out, loop);
    tls_free(conn->tls);
    conn->tls = NULL;
    if (conn->events)
        conn->events->on_closed(conn);
    if (account.addresses)
        addresses_leave(account.addresses, &conn->peer);
    spares_give(&loop->spare_conns, conn, CONN_SPARES_MAX);
    loop->conns--;
    fds_release(account.fds, account.fd_class);
    if (account.right)
        gate_leave(account.right, NULL, loop);
}

static void on_later(struct timer *timer) {
    struct conn *conn = CONTAINER_OF(timer, struct conn, later);

    if (conn->is_lingering)
        conn_close(conn);
    else if (conn->is_reading)
        conn_resume(conn);
}

static void linger_data(struct conn *conn, size_t len) {
    if (len > conn->linger_bytes_left)
        conn_close(conn);
    else
        conn->linger_bytes_left -= len;
}

static void shut_down(struct conn *conn) {
    if (conn->is_write_closed || conn->is_closed)
        return;
    conn->is_write_closed = true;
    shutdown(conn->fd, SHUT_WR);
}

/* libuv would tell of the end again with each uv_read_start(). */
static bool may_read(const struct conn *conn) {
    return !conn->is_eof && (!conn->sock || uv_is_readable(&conn->uv.stream));
}
