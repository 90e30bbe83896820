/* One direction of an exchange's content: from the codec that reads it to the codec that writes it.
 *
 * The source pushes what it has read; the bytes stay where they were read (the loop's read buffer)
 * until the end of the turn, so that what the sink can write at once is never copied. What is left
 * at the end of the turn is copied and held; when more than the window is held the source is
 * paused, and told again as the sink takes. So at most a window and one read are ever held. Home:
 * loop.
 *
 * Who has to see content before it may be sent on has it collected: the source then sends on,
 * although nothing is taken, until as much is held as is wanted.
 *
 * Content that changes on its way goes through a filter: what the source pushes is the filter's,
 * and the body holds, counts and may say again what the filter makes of it.
 *
 *            | push          | end     | reset   | sink took all
 *   OPEN     | OPEN          | ENDED   | RESET   | OPEN
 *   ENDED    | (never)       | (never) | RESET   | done: body_is_done()
 *   RESET    | dropped       | RESET   | RESET   | - */
#pragma once

#include "base/buffer.h"
#include "exchange/fail.h"
#include "exchange/field.h"
#include "loop/chunks.h"
#include "loop/loop.h"

#define BODY_WINDOW_BYTES (64 * 1024)
/* Of body_peek(). */
#define BODY_BUFS_MAX (BODY_BORROWED_MAX + BODY_WINDOW_BYTES / CHUNK_BYTES + 3)
#define BODY_KEPT_MAX (64 * 1024) /* bytes taken that can still be said again */
#define BODY_BORROWED_MAX 16      /* runs of borrowed bytes; further ones are copied */

enum body_state { BODY_OPEN, BODY_ENDED, BODY_RESET };

struct body;

struct body_source_ops {
    /* The window is full: stop reading. */
    void (*pause)(struct body *body);
    /* The sink has taken @n bytes; body_has_room() tells whether to read again. */
    void (*taken)(struct body *body, size_t n);
};

struct body_sink_ops {
    /* There are bytes to peek at, or the state has changed. */
    void (*ready)(struct body *body);
};

struct body_filter {
    /* Bytes were pushed, as by body_push(): body_pass() what is made of them. May reset the body.
     */
    void (*push)(struct body *body, struct slice bytes);
    /* The source has no more for now: body_pass() what was kept back. NULL: nothing ever is. */
    void (*flush)(struct body *body);
    /* The content ends, its trailers are set: body_pass() what belongs behind it. May change the
     * trailers, and reset the body. */
    void (*end)(struct body *body);
};

/* Sees all content as it is passed; may only note it and wake something. Returns how much of it
 * passes: the rest is dropped. */
typedef size_t body_tap_fn(struct body *body, struct slice bytes);

struct body {
    enum body_state state;
    enum fail fail;                       /* RESET: why */
    struct loop *loop;                    /* borrowed */
    const struct body_source_ops *source; /* borrowed: static; NULL: none (any more) */
    void *source_ctx;                     /* borrowed: the codec's */
    const struct body_sink_ops *sink;     /* borrowed: static; NULL: none yet, or gone */
    void *sink_ctx;                       /* borrowed: the codec's */
    struct chunks held;                   /* copied bytes, before the borrowed ones */
    struct chunks kept;                   /* while is_kept: all that was taken */
    size_t window;                        /* bytes held at which the source is paused */
    /* Of what waits: bytes that the source knows to be taken, because they were before
     * body_rewind(), or are collected. */
    size_t again;
    unsigned borrowed_first, borrowed_count;
    const struct body_filter *filter; /* borrowed: static; NULL: content passes as it is */
    size_t filtered;  /* with a filter: bytes pushed that the source does not know to be taken */
    body_tap_fn *tap; /* NULL: none */
    struct task settle;
    struct fields trailers; /* ENDED; arena */
    uint64_t pushed;        /* bytes in all; of what a filter made */
    uint64_t taken;         /* bytes in all; of these */
    int64_t moved_ns;       /* when bytes were last pushed or taken */
    bool is_kept;
    uv_buf_t borrowed[BODY_BORROWED_MAX]; /* borrowed: till the end of the turn; not initialised */
};

void body_init(struct body *body, struct loop *loop);

/* Drops everything; source and sink hear nothing more. */
void body_deinit(struct body *body);

/* Source side. None of the three tells the sink: body_flush() does, once per turn of reading.
 * @bytes must stay where they are until the end of the loop's turn. */
void body_push(struct body *body, struct slice bytes);
/* As body_push(), for bytes that may move: copies. */
void body_push_copy(struct body *body, struct slice bytes);
void body_end(struct body *body);
/* Ends content that will never be whole, but has trailers to say so: what waits is dropped, the
 * source hears nothing more. Of an OPEN or RESET body with trailers set. Tells the sink at once. */
void body_end_early(struct body *body);
void body_flush(struct body *body);

/* Puts a filter on a body of which nothing was taken yet and that has none: what waits goes through
 * it, and the end too if that has come. */
void body_set_filter(struct body *body, const struct body_filter *filter);
/* Puts a tap on a body, which sees what waits, too; that passes whole. NULL takes it off. */
void body_set_tap(struct body *body, body_tap_fn *tap);
/* What a filter makes; as body_push() and body_push_copy(). */
void body_pass(struct body *body, struct slice bytes);
void body_pass_copy(struct body *body, struct slice bytes);

/* Either side: the content will never be whole. Tells the sink at once. */
void body_reset(struct body *body, enum fail fail);

/* Sink side. Attaching calls ready() when there is anything. */
void body_attach_sink(struct body *body, const struct body_sink_ops *sink, void *ctx);
unsigned body_peek(const struct body *body, uv_buf_t *bufs, unsigned max);
void body_drop(struct body *body, size_t n);

/* For whom the content may have to be said twice: from here on, before anything was taken, copies
 * of what the sink takes are kept; until body_forget(), or more than BODY_KEPT_MAX were taken. */
void body_keep(struct body *body);
void body_forget(struct body *body);

/* Puts what was taken, which is kept, before what waits. The source is not told of it again. */
void body_rewind(struct body *body);

static inline bool body_may_rewind(const struct body *body) {
    return body->is_kept || body->taken == 0;
}

/* Lets the source go on until more than @bytes wait; to be called again when the sink, which takes
 * nothing, is ready. The other way round: the source waits until less than a window waits. */
void body_collect(struct body *body, size_t bytes);
void body_collect_end(struct body *body);

/* Appends the first @n bytes of what waits to @to. */
void body_copy(const struct body *body, size_t n, struct buffer *to);

/* Bytes that wait for the sink. */
size_t body_waiting(const struct body *body);

static inline bool body_has_room(const struct body *body) {
    return body->held.bytes < body->window;
}

/* ENDED, and the sink has taken everything. */
static inline bool body_is_done(const struct body *body) {
    return body->state == BODY_ENDED && body->pushed == body->taken;
}
