/* Holding and sending; see outbox.h. */
#include "transport/outbox.h"

#include "base/alloc.h"
#include "transport/conn_parts.h"

struct held {
    struct conn *conn; /* borrowed: it flushes the outbox before it is closed */
    size_t len;
    char bytes[OUTBOX_SEND_BYTES_MAX];
};

struct outbox {
    struct task flush;
    int64_t since_ns; /* when the first was held */
    unsigned count;
    struct held held[OUTBOX_SENDS_MAX];
};

static struct outbox *open_outbox(struct loop *loop);
static void flush(struct task *task);

bool outbox_hold(struct conn *conn, const uv_buf_t *bufs, unsigned count, size_t total) {
    struct loop *loop = conn->loop;
    struct outbox *box = loop->outbox;
    bool is_small = loop->in_turn && !conn->is_ending && total <= OUTBOX_SEND_BYTES_MAX;
    struct held *held;

    if (conn->is_held) {
        held = &box->held[box->count - 1];
        if (is_small && held->conn == conn && total <= OUTBOX_SEND_BYTES_MAX - held->len) {
            held->len += conn_gather(held->bytes + held->len, bufs, count);
            return true;
        }
        outbox_flush(loop);
    }
    if (!is_small || !conn_is_drained(conn))
        return false;
    if (!box)
        box = open_outbox(loop);
    if (box->count == OUTBOX_SENDS_MAX)
        outbox_flush(loop);
    if (box->count == 0) {
        box->since_ns = loop->now_ns;
        loop_behind_batch(loop, &box->flush);
    }
    held = &box->held[box->count++];
    held->conn = conn;
    held->len = conn_gather(held->bytes, bufs, count);
    conn->is_held = true;
    return true;
}

void outbox_flush(struct loop *loop) {
    flush(&loop->outbox->flush);
}

void outbox_look(struct loop *loop) {
    const struct outbox *box = loop->outbox;

    if (box && box->count > 0 && loop->now_ns - box->since_ns >= OUTBOX_WAIT_NS)
        outbox_flush(loop);
}

static struct outbox *open_outbox(struct loop *loop) {
    struct outbox *box = xmalloc(sizeof *box);

    box->count = 0;
    task_init(&box->flush, flush);
    loop->outbox = box;
    return box;
}

static void flush(struct task *task) {
    struct outbox *box = CONTAINER_OF(task, struct outbox, flush);

    for (unsigned i = 0; i < box->count; i++) {
        struct held *held = &box->held[i];

        held->conn->is_held = false;
        conn_send_held(held->conn, slice_of(held->bytes, held->len));
    }
    box->count = 0;
}
