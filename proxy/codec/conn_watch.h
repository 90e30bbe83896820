/* What the server codecs have in common in watching a client's connection: one timer for all that
 * can be due. It never fires too late, and when it fires too early it looks what is really due; so
 * it is moved once per phase at most, not once per read. Home: loop. */
#pragma once

#include "transport/conn.h"

/* The timer looks at a connection at least this often. */
#define CONN_WATCH_MAX_NS (60 * NS_PER_S)

struct conn_watch {
    struct timer timer; /* initialised by its owner */
    size_t stuck_bytes; /* unsent bytes at the last look */
    int64_t stuck_since_ns;
};

/* Has the timer look after @timeout_ns at the latest; 0: when it would anyway. */
static inline void conn_watch_arm(struct conn_watch *watch, struct loop *loop, int64_t timeout_ns) {
    if (timeout_ns == 0 || timeout_ns > CONN_WATCH_MAX_NS)
        timeout_ns = CONN_WATCH_MAX_NS;
    if (timer_is_running(&watch->timer) &&
        watch->timer.at_ms <= (loop->now_ns + timeout_ns) / NS_PER_MS)
        return;
    loop_timer_start(loop, &watch->timer, timeout_ns);
}

/* How long until @since_ns + @timeout_ns; 0 when that has passed, INT64_MAX when there is no
 * timeout.
 */
static inline int64_t conn_watch_left_ns(const struct loop *loop, int64_t since_ns,
                                         int64_t timeout_ns) {
    int64_t left = since_ns + timeout_ns - loop->now_ns;

    if (timeout_ns == 0)
        return INT64_MAX;
    return left > 0 ? left : 0;
}

/* From now on the client has time again to take what is queued for it. */
static inline void conn_watch_forgive(struct conn_watch *watch, const struct loop *loop) {
    watch->stuck_bytes = 0;
    watch->stuck_since_ns = loop->now_ns;
}

/* How long a client that takes nothing of what is queued for it may go on like that. Called at
 * every look. */
static inline int64_t conn_watch_stuck_ns(struct conn_watch *watch, const struct conn *conn,
                                          int64_t timeout_ns) {
    size_t unsent = uv_stream_get_write_queue_size(&conn->uv.stream);

    if (unsent == 0 || unsent != watch->stuck_bytes) {
        watch->stuck_bytes = unsent;
        watch->stuck_since_ns = conn->loop->now_ns;
    }
    return conn_watch_left_ns(conn->loop, watch->stuck_since_ns, timeout_ns);
}
