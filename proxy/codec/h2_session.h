/* What the HTTP/2 sessions of both sides share: an nghttp2 session over a conn, fed from memory and
 * drained into memory, and the two ways between a stream and a struct body (RFC 9113). Home: loop.
 *
 * Output. Whoever gives nghttp2 something to send calls h2_session_touch(). At the end of the batch
 * a task has nghttp2 make frames, into a queue, and sends them, so that all answers of one poll go
 * out in one write, and what makes them is in the processor's caches from the second one on. Where
 * many are waiting, or large content, frames are made at the end of the turn already: what the
 * exchanges hold is still in the caches too, and content that lies in the read buffer is copied
 * once, not twice. Only while the conn has nothing queued are frames made: what a slow reader does
 * not take stays in the bodies, whose sources are held back.
 *
 * The end. A session that neither reads nor writes any more is over: on_over() is called, from the
 * top of the stack, and the owner closes the conn. */
#pragma once

#include "codec/h2_memory.h"
#include "exchange/exchange.h"
#include "transport/conn.h"

#include <nghttp2/nghttp2.h>

#define H2_WRITE_BYTES (64 * 1024)         /* frames that are made for one write */
#define H2_FILL_TOUCHES 16                 /* frames are made without waiting for more */
#define H2_COPY_BYTES 1024                 /* of content; more is not copied twice */
#define H2_STREAM_WINDOW BODY_WINDOW_BYTES /* bytes: a body never holds more */

/* Bytes of content that all streams of a connection may hold together. Below the sum of its
 * streams' windows on purpose: that sum is what a hostile client could have us hold. */
#define H2_CONNECTION_WINDOW (1024 * 1024)

/* How long after a GOAWAY that announces the end the other side may still open streams, at most: a
 * ping there and back tells that it has read it (RFC 9113 section 6.8). */
#define H2_NOTICE_NS NS_PER_S

#define H2_WHY_MAX 128 /* bytes of the reason of a connection error, with its NUL */

struct h2_session;

/* What every session of a loop and a side has in common: nghttp2's callbacks, options and memory.
 */
struct h2_library {
    nghttp2_session_callbacks *callbacks; /* owned */
    nghttp2_option *options;              /* owned */
    struct h2_memory memory;              /* of all its sessions; so it may not move */
};

/* nghttp2's user data is the struct h2_session; streams' is the owner's. The owner sets what else
 * it wants to hear, but not send_data and on_invalid_header, which are set: fields that nghttp2
 * would skip make their message malformed, because another reader may not skip them. */
void h2_library_init(struct h2_library *library);
void h2_library_deinit(struct h2_library *library);

struct h2_session {
    nghttp2_session *ng;                         /* owned */
    struct conn *conn;                           /* borrowed: the owner's */
    struct loop *loop;                           /* borrowed */
    void (*on_over)(struct h2_session *session); /* set before h2_session_open() */
    struct task fill, push;
    struct chunks out;   /* frames */
    unsigned touched;    /* times since frames were made */
    struct timer notice; /* while the end is announced */
    int32_t recent_id;   /* the stream that was asked for last; 0: none */
    void *recent;        /* borrowed: what its owner has set for it */
    size_t owed;         /* bytes that only the connection has no new credit for */
    bool is_deaf;        /* nothing that comes is read any more */
    bool is_told;        /* on_over() was called */
    bool is_shutting_down;
};

/* @settings are sent first. The session is on the conn, which the caller starts. */
void h2_session_open(struct h2_session *session, struct h2_library *library, struct conn *conn,
                     bool is_server, const nghttp2_settings_entry *settings, size_t count);

/* Frees it; streams hear nothing of that, so the owner has let go of their exchanges before. */
void h2_session_close(struct h2_session *session);

/* Bytes of the conn, borrowed until the end of the turn: DATA is handed on out of them. 0, or
 * nghttp2's error for what ends the session here and now (NGHTTP2_ERR_FLOODED, _BAD_CLIENT_MAGIC,
 * ...); other connection errors it answers itself. */
int h2_session_receive(struct h2_session *session, struct slice bytes);

/* What the owner has set for the stream; NULL: nothing, or there is no such stream any more. Frames
 * of a stream come one after the other: nghttp2, which searches a table, is asked once. */
static inline void *h2_session_stream(struct h2_session *session, int32_t id) {
    if (id != session->recent_id) {
        session->recent = nghttp2_session_get_stream_user_data(session->ng, id);
        session->recent_id = session->recent ? id : 0;
    }
    return session->recent;
}

/* Instead of nghttp2_session_set_stream_user_data(). */
static inline void h2_session_set_stream(struct h2_session *session, int32_t id, void *stream) {
    nghttp2_session_set_stream_user_data(session->ng, id, stream);
    session->recent = stream;
    session->recent_id = stream ? id : 0;
}

/* Owners call this from their on_stream_close for every stream. */
static inline void h2_session_forget(struct h2_session *session) {
    session->recent = NULL;
    session->recent_id = 0;
}

/* Something may be there to be sent. */
static inline void h2_session_touch(struct h2_session *session) {
    session->touched++;
    if (!session->is_told)
        loop_wake(session->loop, &session->fill);
}

/* The conn's on_drained(). */
#define h2_session_drained h2_session_touch

/* A connection error: GOAWAY with @code, then the end. Also from within nghttp2's callbacks, which
 * then return NGHTTP2_ERR_CALLBACK_FAILURE. */
void h2_session_fail(struct h2_session *session, uint32_t code);

/* Why @sent, a GOAWAY of ours, ends the connection: the name of its code, and what nghttp2 says. */
void h2_goaway_why(char why[H2_WHY_MAX], const nghttp2_goaway *sent);

/* No new streams; the session is over when the last one is through. A server announces it first and
 * refuses only what comes after that has been read. Idempotent. */
void h2_session_shut_down(struct h2_session *session);

/* Owners call this from their on_frame_recv for every PING. */
void h2_session_on_ping(struct h2_session *session, const nghttp2_ping *ping);

/* Resets a stream, whatever is still to be sent of it. */
void h2_session_reset(struct h2_session *session, int32_t stream_id, uint32_t code);

/* A body's bytes to DATA frames and its trailers; the body's sink. */
struct h2_outflow {
    struct h2_session *session; /* borrowed */
    struct body *body;          /* borrowed: the exchange's; NULL: closed */
    struct h2_block *scratch;   /* borrowed: the loop's */
    int32_t stream_id;
    bool is_deferred; /* nghttp2 waits until there is more */
    /* The content will never be whole: nothing more is sent of it, the owner resets the stream.
     * NULL: somebody else sees to that. */
    void (*on_reset)(struct h2_outflow *flow);
};

/* Becomes the sink of @body. The provider is for nghttp2_submit_request() or _response(). */
nghttp2_data_provider h2_outflow_open(struct h2_outflow *flow, struct body *body);
void h2_outflow_close(struct h2_outflow *flow);

/* DATA frames to a body, and credit for what its sink has taken; the body's source. */
struct h2_inflow {
    struct h2_session *session; /* borrowed */
    struct body *body;          /* borrowed: the exchange's; NULL: nobody wants it */
    int32_t stream_id;
    size_t owed;   /* bytes received that the other side has no new credit for */
    bool is_ended; /* set by the owner: nothing follows, the stream needs no new credit */
};

/* Becomes the source of @body. */
void h2_inflow_open(struct h2_inflow *flow, struct body *body);
/* Also after the stream has ended; what is owed is credited, to the connection at least. */
void h2_inflow_close(struct h2_inflow *flow);
/* on_data_chunk_recv: borrowed bytes of h2_session_receive(). */
void h2_inflow_push(struct h2_inflow *flow, struct slice bytes);

/* The code of a RST_STREAM that tells a client what its exchange has suffered. */
uint32_t h2_code_of(enum fail fail);
/* What a stream that the upstream has reset with @code means for its exchange. */
enum fail h2_fail_of(uint32_t code);
