/* A connection, to a client or to an upstream: bytes in, bytes out, and its end. Every one that
 * lasts is an h2o_socket_t, which gives it its life cycle; the bytes move on the socket's own libuv
 * stream: reading is left on (no epoll_ctl per request), into the loop's one read buffer, and
 * writing is tried at once. A new one whose client has sent all that is needed, and which is closed
 * before it has to be watched, is neither: that saves it two system calls. With TLS the engine of
 * tls.h stands between (conn_tls.c): plain bytes and queues work as without, a half-close is a
 * close_notify, and an end without one is an error, because anybody on the way could have made it
 * (RFC 9112 section 9.8). Codecs see none of this. Home: loop. */
#pragma once

#include "base/slice.h"
#include "fds/fds.h"
#include "loop/chunks.h"
#include "loop/gate.h"
#include "loop/loop.h"
#include "transport/tls.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <uv.h>

/* How long a closing connection usually waits for the other side to read the last message and close
 * its own (RFC 9112 section 9.6), and how much it throws away meanwhile. */
#define CONN_LINGER_NS (5 * NS_PER_S)
#define CONN_LINGER_BYTES_MAX (64 * 1024 * 1024)

#define CONN_SPARES_MAX 256   /* closed ones whose memory a loop keeps */
#define CONN_SEND_BUFS_MAX 32 /* buffers of one conn_send() */

struct addresses;
struct conn;

/* The connection is there, handshake included, or it failed (-errno, or one of tls.h). */
typedef void conn_ready_fn(struct conn *conn, int err);

/* What a codec hears. None of these is called from within a call of the codec into the conn. */
struct conn_events {
    /* @bytes are borrowed until the end of the loop's turn (loop.h). */
    void (*on_data)(struct conn *conn, struct slice bytes);
    /* The other side has closed its sending side; no more on_data(). */
    void (*on_eof)(struct conn *conn);
    /* The connection is broken (-errno): close it. */
    void (*on_error)(struct conn *conn, int err);
    /* All that was queued is sent. */
    void (*on_drained)(struct conn *conn);
    /* After conn_close(): nobody holds it any more, its memory goes away after this. The codec
     * frees what is its own. */
    void (*on_closed)(struct conn *conn);
};

union conn_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* What a connection counts against until its close is complete. */
struct conn_account {
    struct fds *fds; /* borrowed: gateway; one of fd_class is entered */
    enum fd_class fd_class;
    struct gate *right;          /* borrowed; one right is left at the end; NULL: none */
    struct addresses *addresses; /* borrowed; the peer is counted there; NULL: it is not */
};

/* What every event needs stands in front, in as few cache lines as it takes: with many connections
 * none of them is in the cache. */
struct conn {
    struct loop *loop;                /* borrowed */
    const struct conn_events *events; /* borrowed: static */
    void *codec;                      /* borrowed: the codec's own */
    int fd;                           /* owned; sock closes it if there is one; -1: not dialled */
    bool is_reading : 1;              /* not paused */
    bool is_watched : 1;              /* by libuv, for bytes that come */
    bool is_new : 1;                  /* conn_look() is still to come */
    bool is_satisfied : 1;            /* conn_has_all() was called */
    bool is_eof : 1;          /* no more is to be read: the other side has closed, or broke */
    bool is_closed : 1;       /* conn_close() was called */
    bool is_write_closed : 1; /* our side is shut down */
    bool is_finishing : 1;    /* shut down once `out` is empty */
    bool is_ending : 1;       /* conn_end_follows() was called */
    bool is_lingering : 1;
    bool is_held : 1;      /* something of it is in the outbox */
    bool has_arrivals : 1; /* something for it is in the inbox */
    bool is_unix : 1;
    bool is_secured : 1;     /* the TLS handshake is through */
    bool is_notified : 1;    /* our close_notify is said, or nothing may be said any more */
    struct tls *tls;         /* owned; NULL: plain */
    struct chunks out;       /* what the socket has not taken yet */
    union conn_address peer; /* AF_UNSPEC on unix sockets */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct st_h2o_socket_t *sock; /* owned; NULL: it is not libuv's yet */
    uv_write_t write;
    size_t in_flight;   /* bytes of `out` under way in `write` */
    int broken;         /* -errno of a send that was held; 0: none */
    struct task left;   /* the end of one that was never libuv's */
    struct timer later; /* the end of lingering, or the begin of watching */
    size_t linger_bytes_left;
    conn_ready_fn *on_ready; /* while dialling or in a TLS handshake */
    struct conn_account account;
};

/* A connection on its way to another loop. */
struct conn_parcel {
    int fd;
    struct tls *tls; /* owned; NULL: plain */
};

/* Takes over an accepted (or handed over) socket; the account is charged already. Reading is on
 * after conn_start(). */
struct conn *conn_open(struct loop *loop, int fd, bool is_unix, const union conn_address *peer,
                       const struct conn_account *account);
void conn_start(struct conn *conn, const struct conn_events *events, void *codec);
/* Behind conn_start() of a conn that is_new: what its client has sent already is read and told
 * now, without waiting for libuv to see it. */
void conn_look(struct conn *conn);
/* The codec needs nothing more from the other side for now: a new connection need not be watched
 * before conn_resume(), or it takes long. */
static inline void conn_has_all(struct conn *conn) {
    conn->is_satisfied = true;
}

/* Starts to connect, and behind that the handshake of @tls (the conn's from now on; NULL: none);
 * on_ready() is called once, unless the conn is closed first. -errno when it cannot even start. */
int conn_dial(struct conn **out, struct loop *loop, const struct sockaddr *address,
              const struct conn_account *account, struct tls *tls, conn_ready_fn *on_ready,
              void *codec);

/* Starts the server's side of a handshake on a plain, started conn: @tls is the conn's from now on,
 * @first is what the client has sent already. 0: on_ready() will be called, and its codec calls
 * conn_start() again; -errno or one of tls.h: it has failed already. */
int conn_secure(struct conn *conn, struct tls *tls, struct slice first, conn_ready_fn *on_ready);

/* Of a TLS connection; plain ones have none of these. */
static inline bool conn_is_secure(const struct conn *conn) {
    return conn->is_secured;
}
static inline struct slice conn_protocol(const struct conn *conn) {
    return conn->tls ? tls_protocol(conn->tls) : SLICE_NONE;
}
static inline struct slice conn_certificate_text(const struct conn *conn) {
    return conn->tls ? tls_certificate_text(conn->tls) : SLICE_NONE;
}
/* The name in it. */
static inline struct slice conn_subject_text(const struct conn *conn) {
    return conn->tls ? tls_subject_text(conn->tls) : SLICE_NONE;
}

enum conn_send_outcome {
    CONN_SENT,   /* all of it is in the kernel, or will be at the end of the batch */
    CONN_QUEUED, /* some of it was copied and waits: on_drained() will follow */
};

/* Sends @count buffers (at most CONN_SEND_BUFS_MAX). An outcome, or -errno: broken, close it. */
int conn_send(struct conn *conn, const uv_buf_t *bufs, unsigned count);

/* What is sent from now on is the last: in the same turn the connection is finished, made to linger
 * or closed. So its end (FIN) goes with the last bytes, not in a packet of its own. */
static inline void conn_end_follows(struct conn *conn) {
    conn->is_ending = true;
}

/* Sends now what waits for the end of the batch: for who has to know whether the socket takes it.
 */
void conn_push(struct conn *conn);

/* Is nothing queued, so that a send may go out at once? */
static inline bool conn_is_drained(const struct conn *conn) {
    return conn->out.bytes == 0;
}

/* What was read before is still told. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* Closes our sending side once everything queued is sent (a half-close). */
void conn_finish(struct conn *conn);

/* Sends what is queued, closes the sending side, throws away what still comes, and closes when the
 * other side has, or after @wait_ns, or after @bytes_max more bytes: so the other side reads the
 * last message instead of a reset. To the codec this is conn_close(). */
void conn_linger(struct conn *conn, int64_t wait_ns, size_t bytes_max);

/* Closes now; unsent bytes are dropped. The codec hears only on_closed() afterwards. Idempotent. */
void conn_close(struct conn *conn);

/* As conn_close(), but with a reset, so that nobody takes what was sent for whole. */
void conn_reset(struct conn *conn);

/* Closes the conn here and puts its socket, entered in the fd ledger, and its TLS into @parcel, for
 * conn_open() and conn_adopt_tls() on another loop; -errno when that fails (the conn is closed all
 * the same), -EBUSY while something is queued, or read and not told yet. */
int conn_export(struct conn *conn, struct conn_parcel *parcel);

/* Takes over the TLS of a parcel, before conn_start(). NULL: none. */
void conn_adopt_tls(struct conn *conn, struct tls *tls);

/* "192.0.2.1" or "[2001:db8::1]"-less text of the peer into @to (INET6_ADDRSTRLEN); "unix" for unix
 * sockets. IPv4-mapped addresses as IPv4. */
struct slice conn_address_text(const union conn_address *address, char *to);
