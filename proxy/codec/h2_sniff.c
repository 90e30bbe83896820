/* Telling HTTP/2 from HTTP/1: see h2_sniff.h. */
#include "codec/h2_sniff.h"

#include "base/alloc.h"

#include <nghttp2/nghttp2.h>

#include <stdlib.h>

struct h2_sniff {
    struct h2_sniff_loop *shared; /* borrowed */
    struct list link;             /* in shared->all */
    struct conn *conn;            /* owned, until it is known */
    struct timer timer;
    size_t seen; /* bytes, which are those of the preface */
};

static void on_data(struct conn *conn, struct slice bytes);
static void on_eof(struct conn *conn);
static void on_error(struct conn *conn, int err);
static void on_drained(struct conn *conn);
static void on_closed(struct conn *conn);
static void on_timer(struct timer *timer);
static void forget(struct h2_sniff *sniff);

static const struct conn_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

void h2_sniff_loop_init(struct h2_sniff_loop *shared) {
    list_init(&shared->all);
}

void h2_sniff_open(struct h2_sniff_loop *shared, struct conn *conn) {
    struct h2_sniff *sniff = xcalloc(1, sizeof *sniff);

    sniff->shared = shared;
    sniff->conn = conn;
    list_push_back(&shared->all, &sniff->link);
    shared->count++;
    timer_init(&sniff->timer, on_timer);
    if (shared->timeout_ns)
        loop_timer_start(shared->loop, &sniff->timer, shared->timeout_ns);
    conn_start(conn, &events, sniff);
}

void h2_sniff_close_all(struct h2_sniff_loop *shared) {
    struct list *link;

    for (link = shared->all.next; link != &shared->all; link = link->next)
        conn_close(CONTAINER_OF(link, struct h2_sniff, link)->conn);
}

static void on_data(struct conn *conn, struct slice bytes) {
    static const struct slice preface = {NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN};
    struct h2_sniff *sniff = conn->codec;
    struct h2_sniff_loop *shared = sniff->shared;
    struct slice seen = slice_of(preface.base, sniff->seen), wanted = slice_skip(preface, seen.len);
    size_t n = bytes.len < wanted.len ? bytes.len : wanted.len;
    bool is_http2 = memcmp(bytes.base, wanted.base, n) == 0;

    if (is_http2 && n < wanted.len) {
        sniff->seen += n;
        return;
    }
    forget(sniff);
    shared->on_known(shared, conn, is_http2);
    /* What came before is as the preface is: nothing of it need be kept. */
    if (seen.len > 0)
        conn->events->on_data(conn, seen);
    if (!conn->is_closed)
        conn->events->on_data(conn, bytes);
}

static void on_eof(struct conn *conn) {
    conn_close(conn);
}

static void on_error(struct conn *conn, int err) {
    conn_close(conn);
}

static void on_drained(struct conn *conn) {
}

static void on_closed(struct conn *conn) {
    forget(conn->codec);
}

static void on_timer(struct timer *timer) {
    conn_close(CONTAINER_OF(timer, struct h2_sniff, timer)->conn);
}

static void forget(struct h2_sniff *sniff) {
    loop_timer_stop(sniff->shared->loop, &sniff->timer);
    list_remove(&sniff->link);
    sniff->shared->count--;
    free(sniff);
}
