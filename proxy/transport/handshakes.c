/* Handshakes; see handshakes.h.
 *
 *   SILENT --first bytes--> LINE --a right--> SHAKING --done--> the codec's
 *     |                       (or at once)       `---failed, timeout--> ENDED (closing)
 *     `--plain HTTP--> a codec's, which says so */
#include "transport/handshakes.h"

#include "base/alloc.h"
#include "base/buffer.h"

#include <assert.h>
#include <stdlib.h>

enum handshake_state { SILENT, LINE, SHAKING, ENDED };

struct handshake {
    struct handshakes *all;
    struct list link;  /* in all->all */
    struct conn *conn; /* owned, until a codec has it */
    enum handshake_state state;
    bool is_over;
    struct gate_ticket ticket;
    struct buffer first; /* what came before the right did */
    struct task begin;   /* the right has come */
    struct timer timer;
};

static void on_data(struct conn *conn, struct slice bytes);
static void on_eof(struct conn *conn);
static void on_error(struct conn *conn, int err);
static void on_drained(struct conn *conn);
static void on_closed(struct conn *conn);
static bool is_plain_http(struct slice first);
static void end_plain(struct handshake *handshake);
static void on_granted(struct gate_ticket *ticket, void *gift);
static void on_begin(struct task *task);
static void begin(struct handshake *handshake, struct slice first);
static void on_ready(struct conn *conn, int err);
static void on_timeout(struct timer *timer);
static void fail(struct handshake *handshake, int err);
static void leave(struct handshake *handshake);
static void result(struct handshake *handshake, enum handshake_result result, const char *why);
static void release(struct handshake *handshake);

static const struct conn_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

void handshakes_init(struct handshakes *handshakes, const struct handshakes_options *options) {
    handshakes->o = *options;
    gate_desk_init(&handshakes->desk, options->gate, options->loop, on_granted);
    list_init(&handshakes->all);
    atomic_init(&handshakes->count, 0);
}

void handshakes_start(struct handshakes *handshakes, struct conn *conn, bool is_over) {
    struct handshake *handshake = xcalloc(1, sizeof *handshake);

    handshake->all = handshakes;
    handshake->conn = conn;
    handshake->is_over = is_over;
    task_init(&handshake->begin, on_begin);
    timer_init(&handshake->timer, on_timeout);
    list_push_back(&handshakes->all, &handshake->link);
    handshakes->count++;
    loop_timer_start(handshakes->o.loop, &handshake->timer, handshakes->o.timeout_ns);
    conn_start(conn, &events, handshake);
}

void handshakes_abort_all(struct handshakes *handshakes) {
    for (struct list *link = handshakes->all.next; link != &handshakes->all; link = link->next) {
        struct handshake *handshake = CONTAINER_OF(link, struct handshake, link);

        leave(handshake);
        conn_close(handshake->conn);
    }
}

const char *handshake_result_name(enum handshake_result result) {
    static const char *const names[HANDSHAKE_RESULTS] = {
        "ok", "resumed", "timeout", "client_gone", "client_certificate", "alert", "protocol"};

    return names[result];
}

/* The first bytes; all others are the engine's. */
static void on_data(struct conn *conn, struct slice bytes) {
    struct handshake *handshake = conn->codec;

    if (handshake->state != SILENT)
        return;
    if (is_plain_http(bytes)) {
        end_plain(handshake);
        return;
    }
    if (gate_enter(&handshake->all->desk, &handshake->ticket) == GATE_IN) {
        begin(handshake, bytes);
        return;
    }
    handshake->state = LINE;
    loop_timer_stop(conn->loop, &handshake->timer);
    conn_pause(conn);
    buffer_append(&handshake->first, bytes);
}

static void on_eof(struct conn *conn) {
    on_error(conn, -ECONNRESET);
}

static void on_error(struct conn *conn, int err) {
    struct handshake *handshake = conn->codec;

    if (handshake->state != SILENT) /* whoever only looked whether somebody listens began none */
        result(handshake, HANDSHAKE_GONE, NULL);
    leave(handshake);
    conn_close(conn);
}

static void on_drained(struct conn *conn) {
}

static void on_closed(struct conn *conn) {
    struct handshake *handshake = conn->codec;

    leave(handshake);
    release(handshake);
}

/* A method begins with a letter, usually a capital, a TLS record with 20 to 23 (RFC 8446 section
 * 5.1). Who speaks HTTP/2 could not read an answer. */
static bool is_plain_http(struct slice first) {
    return first.base[0] >= 'A' && first.base[0] <= 'Z' && !slice_starts(first, SLICE("PRI "));
}

static void end_plain(struct handshake *handshake) {
    const struct handshakes_options *o = &handshake->all->o;
    struct conn *conn = handshake->conn;

    leave(handshake);
    result(handshake, HANDSHAKE_PROTOCOL, "it speaks plain HTTP");
    release(handshake);
    o->on_plain(o->ctx, conn);
}

/* Perhaps in the middle of somebody's turn, whose bytes are in the loop's read buffer. */
static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct handshake *handshake = CONTAINER_OF(ticket, struct handshake, ticket);

    loop_wake(handshake->all->o.loop, &handshake->begin);
}

static void on_begin(struct task *task) {
    struct handshake *handshake = CONTAINER_OF(task, struct handshake, begin);
    struct buffer first = handshake->first;

    handshake->first = (struct buffer){0};
    begin(handshake, buffer_slice(&first));
    buffer_deinit(&first);
}

static void begin(struct handshake *handshake, struct slice first) {
    const struct handshakes_options *o = &handshake->all->o;
    int err;

    handshake->state = SHAKING;
    loop_timer_start(o->loop, &handshake->timer, o->timeout_ns);
    err = conn_secure(handshake->conn, tls_server_accept(o->server), first, on_ready);
    if (err)
        fail(handshake, err);
}

static void on_ready(struct conn *conn, int err) {
    struct handshake *handshake = conn->codec;
    const struct handshakes_options *o = &handshake->all->o;
    bool is_over;

    assert(handshake->state == SHAKING);
    if (err) {
        fail(handshake, err);
        return;
    }
    leave(handshake);
    result(handshake, tls_is_resumed(conn->tls) ? HANDSHAKE_RESUMED : HANDSHAKE_OK, NULL);
    is_over = handshake->is_over;
    release(handshake);
    o->on_secured(o->ctx, conn, is_over);
}

static void on_timeout(struct timer *timer) {
    struct handshake *handshake = CONTAINER_OF(timer, struct handshake, timer);

    result(handshake, HANDSHAKE_TIMEOUT, "it was not through in time");
    leave(handshake);
    conn_close(handshake->conn);
}

static void fail(struct handshake *handshake, int err) {
    enum handshake_result what = HANDSHAKE_GONE;
    const char *why = NULL;

    if (err == TLS_ERR_PROTOCOL)
        what = HANDSHAKE_PROTOCOL;
    else if (err == TLS_ERR_CERTIFICATE)
        what = HANDSHAKE_CERTIFICATE;
    else if (err == TLS_ERR_ALERT)
        what = HANDSHAKE_ALERT;
    if (what != HANDSHAKE_GONE)
        why = tls_why(handshake->conn->tls);
    result(handshake, what, why);
    leave(handshake);
    if (what == HANDSHAKE_PROTOCOL || what == HANDSHAKE_CERTIFICATE)
        conn_linger(handshake->conn, HANDSHAKES_LINGER_NS, HANDSHAKES_LINGER_BYTES_MAX);
    else
        conn_close(handshake->conn);
}

/* Out of the line, or back with the right; no more time is taken. */
static void leave(struct handshake *handshake) {
    struct handshakes *all = handshake->all;
    void *gift;

    handshake->state = ENDED;
    loop_timer_stop(all->o.loop, &handshake->timer);
    task_cancel(&handshake->begin);
    if (gate_cancel(&handshake->ticket, &gift) == GATE_OWED)
        gate_leave(all->o.gate, NULL, all->o.loop);
}

static void result(struct handshake *handshake, enum handshake_result result, const char *why) {
    const struct handshakes_options *o = &handshake->all->o;

    o->on_result(o->ctx, result, handshake->conn, why);
}

static void release(struct handshake *handshake) {
    list_remove(&handshake->link);
    handshake->all->count--;
    buffer_deinit(&handshake->first);
    free(handshake);
}
