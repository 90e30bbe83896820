/* Reading ahead and handling; see inbox.h. */
#include "transport/inbox.h"

#include "base/alloc.h"
#include "transport/conn_parts.h"

#define LINE_BYTES ((size_t)64)

struct arrival {
    struct conn *conn; /* borrowed: closed ones last until the batch is over */
    const char *base;
    ssize_t nread; /* UV_EOF, or -errno */
};

struct inbox {
    struct task handle;
    unsigned count;
    size_t used; /* of bytes */
    struct arrival arrivals[INBOX_ARRIVALS_MAX];
    char bytes[INBOX_BYTES_MAX + LOOP_READ_BYTES];
};

static struct inbox *open_inbox(struct loop *loop);
static void handle(struct task *task);

void inbox_read(struct conn *conn) {
    struct loop *loop = conn->loop;
    struct inbox *box = loop->inbox ? loop->inbox : open_inbox(loop);
    struct arrival *arrival = &box->arrivals[box->count];

    arrival->conn = conn;
    arrival->base = box->bytes + box->used;
    arrival->nread = conn_receive(conn, box->bytes + box->used, LOOP_READ_BYTES);
    if (arrival->nread == 0)
        return;
    if (arrival->nread > 0) /* the next begins a cache line */
        box->used += ((size_t)arrival->nread + LINE_BYTES - 1) & ~(LINE_BYTES - 1);
    conn->has_arrivals = true;
    box->count++;
    loop_ahead_of_turn(loop, &box->handle);
    if (arrival->nread < 0 || box->count == INBOX_ARRIVALS_MAX || box->used > INBOX_BYTES_MAX)
        loop_catch_up(loop);
}

static struct inbox *open_inbox(struct loop *loop) {
    struct inbox *box = xmalloc(sizeof *box);

    box->count = 0;
    box->used = 0;
    task_init(&box->handle, handle);
    loop->inbox = box;
    return box;
}

static void handle(struct task *task) {
    struct inbox *box = CONTAINER_OF(task, struct inbox, handle);

    for (unsigned i = 0; i < box->count; i++) {
        const struct arrival *arrival = &box->arrivals[i];

        arrival->conn->has_arrivals = false;
        conn_heard(arrival->conn, arrival->base, arrival->nread);
    }
    box->count = 0;
    box->used = 0;
}
