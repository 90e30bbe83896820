/* The body: a short list of borrowed bytes behind a queue of held ones. */
#include "exchange/body.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

static void settle(struct body *body);
static void on_turn_end(struct task *task);
static void keep(struct body *body, size_t n);
static size_t unfiltered(struct body *body, size_t n, size_t waiting);

void body_init(struct body *body, struct loop *loop) {
    memset(body, 0, offsetof(struct body, borrowed));
    body->loop = loop;
    body->window = BODY_WINDOW_BYTES;
    body->moved_ns = loop->now_ns;
    task_init(&body->settle, on_turn_end);
}

void body_deinit(struct body *body) {
    task_cancel(&body->settle);
    chunks_clear(&body->held, body->loop);
    body_forget(body);
    body->borrowed_count = 0;
    body->source = NULL;
    body->sink = NULL;
}

void body_push(struct body *body, struct slice bytes) {
    if (body->state != BODY_OPEN || bytes.len == 0)
        return;
    if (body->filter) {
        body->filtered += bytes.len;
        body->filter->push(body, bytes);
    } else {
        body_pass(body, bytes);
    }
}

void body_pass(struct body *body, struct slice bytes) {
    if (body->state != BODY_OPEN || bytes.len == 0)
        return;
    if (body->tap)
        bytes.len = body->tap(body, bytes);
    if (bytes.len == 0)
        return;
    if (body->borrowed_count == BODY_BORROWED_MAX)
        settle(body);
    if (body->borrowed_count == 0)
        body->borrowed_first = 0;
    if (body->borrowed_first + body->borrowed_count == BODY_BORROWED_MAX)
        settle(body);
    body->borrowed[body->borrowed_first + body->borrowed_count++] =
        (uv_buf_t){.base = (char *)bytes.base, .len = bytes.len};
    body->pushed += bytes.len;
    body->moved_ns = body->loop->now_ns;
    loop_at_turn_end(body->loop, &body->settle);
}

void body_push_copy(struct body *body, struct slice bytes) {
    if (body->state != BODY_OPEN || bytes.len == 0)
        return;
    body_push(body, bytes);
    settle(body);
}

void body_pass_copy(struct body *body, struct slice bytes) {
    body_pass(body, bytes);
    settle(body);
}

void body_set_filter(struct body *body, const struct body_filter *filter) {
    enum body_state state = body->state;
    struct chunks waiting;
    uv_buf_t buf;

    assert(!body->filter && body->taken == 0);
    body->filter = filter;
    if (state == BODY_RESET)
        return;
    settle(body);
    waiting = body->held;
    body->held = (struct chunks){0};
    body->pushed = 0;
    body->state = BODY_OPEN;
    while (chunks_peek(&waiting, &buf, 1)) {
        body_push_copy(body, slice_of(buf.base, buf.len));
        chunks_drop(&waiting, body->loop, buf.len);
    }
    if (state == BODY_ENDED)
        body_end(body);
}

void body_set_tap(struct body *body, body_tap_fn *tap) {
    uv_buf_t bufs[BODY_BUFS_MAX];
    unsigned count = tap ? body_peek(body, bufs, BODY_BUFS_MAX) : 0;

    for (unsigned i = 0; i < count; i++)
        tap(body, slice_of(bufs[i].base, bufs[i].len));
    body->tap = tap;
}

void body_end(struct body *body) {
    if (body->state == BODY_OPEN && body->filter)
        body->filter->end(body);
    if (body->state == BODY_OPEN)
        body->state = BODY_ENDED;
}

void body_end_early(struct body *body) {
    body->source = NULL;
    task_cancel(&body->settle);
    body->borrowed_count = 0;
    chunks_clear(&body->held, body->loop);
    body->taken = body->pushed;
    body->state = BODY_OPEN;
    body_end(body);
    body_flush(body);
}

void body_flush(struct body *body) {
    if (body->filter && body->filter->flush && body->state == BODY_OPEN)
        body->filter->flush(body);
    if (body->sink)
        body->sink->ready(body);
}

void body_reset(struct body *body, enum fail fail) {
    if (body->state == BODY_RESET)
        return;
    body->state = BODY_RESET;
    body->fail = fail;
    task_cancel(&body->settle);
    body->borrowed_count = 0;
    chunks_clear(&body->held, body->loop);
    body_forget(body);
    if (body->sink)
        body->sink->ready(body);
}

void body_attach_sink(struct body *body, const struct body_sink_ops *sink, void *ctx) {
    body->sink = sink;
    body->sink_ctx = ctx;
    if (body_waiting(body) > 0 || body->state != BODY_OPEN)
        sink->ready(body);
}

unsigned body_peek(const struct body *body, uv_buf_t *bufs, unsigned max) {
    unsigned count = chunks_peek(&body->held, bufs, max);

    for (unsigned i = 0; i < body->borrowed_count && count < max; i++)
        bufs[count++] = body->borrowed[body->borrowed_first + i];
    return count;
}

void body_drop(struct body *body, size_t n) {
    size_t from_held = n < body->held.bytes ? n : body->held.bytes;
    size_t left = n - from_held;
    size_t old = n < body->again ? n : body->again;
    size_t told =
        body->filter ? unfiltered(body, n - old, body_waiting(body) - body->again) : n - old;

    if (body->is_kept)
        keep(body, n);
    if (from_held > 0)
        chunks_drop(&body->held, body->loop, from_held);
    while (left > 0) {
        uv_buf_t *first = &body->borrowed[body->borrowed_first];

        assert(body->borrowed_count > 0);
        if (left < first->len) {
            first->base += left;
            first->len -= left;
            break;
        }
        left -= first->len;
        body->borrowed_first++;
        body->borrowed_count--;
    }
    if (body->borrowed_count == 0)
        task_cancel(&body->settle);
    body->taken += n;
    body->moved_ns = body->loop->now_ns;
    body->again -= old;
    if (body->source && n > 0)
        body->source->taken(body, told);
}

void body_keep(struct body *body) {
    assert(body->taken == 0);
    body->is_kept = body->state != BODY_RESET;
}

void body_forget(struct body *body) {
    body->is_kept = false;
    chunks_clear(&body->kept, body->loop);
}

void body_rewind(struct body *body) {
    struct chunks waiting = body->held;
    uv_buf_t buf;

    assert(body_may_rewind(body));
    if (body->taken == 0)
        return;
    body->held = body->kept;
    body->kept = (struct chunks){0};
    while (chunks_peek(&waiting, &buf, 1)) {
        chunks_push(&body->held, body->loop, slice_of(buf.base, buf.len));
        chunks_drop(&waiting, body->loop, buf.len);
    }
    body->again += body->taken;
    body->taken = 0;
}

void body_collect(struct body *body, size_t bytes) {
    size_t fresh, told;

    if (body->state == BODY_RESET)
        return;
    fresh = body_waiting(body) - body->again;
    told = body->filter ? unfiltered(body, fresh, fresh) : fresh;
    body->window = bytes < BODY_WINDOW_BYTES ? BODY_WINDOW_BYTES : bytes + 1;
    body->again += fresh;
    if (body->source)
        body->source->taken(body, told);
}

void body_collect_end(struct body *body) {
    body->window = BODY_WINDOW_BYTES;
    if (!body_has_room(body) && body->source)
        body->source->pause(body);
}

void body_copy(const struct body *body, size_t n, struct buffer *to) {
    size_t max = n / CHUNK_SMALL_BYTES + BODY_BORROWED_MAX + 2;
    uv_buf_t *bufs = xcalloc(max, sizeof *bufs);
    unsigned count = body_peek(body, bufs, (unsigned)max);

    for (unsigned i = 0; i < count && n > 0; i++) {
        size_t part = bufs[i].len < n ? bufs[i].len : n;

        buffer_append(to, slice_of(bufs[i].base, part));
        n -= part;
    }
    assert(n == 0);
    free(bufs);
}

size_t body_waiting(const struct body *body) {
    return body->state == BODY_RESET ? 0 : (size_t)(body->pushed - body->taken);
}

static void on_turn_end(struct task *task) {
    settle(CONTAINER_OF(task, struct body, settle));
}

/* Copies the first @n bytes of what waits, before they are dropped. */
static void keep(struct body *body, size_t n) {
    uv_buf_t bufs[BODY_BUFS_MAX];
    unsigned count;

    if (body->taken + n > BODY_KEPT_MAX) {
        body_forget(body);
        return;
    }
    count = body_peek(body, bufs, BODY_BUFS_MAX);
    for (unsigned i = 0; i < count && n > 0; i++) {
        size_t part = bufs[i].len < n ? bufs[i].len : n;

        chunks_push_little(&body->kept, body->loop, slice_of(bufs[i].base, part));
        n -= part;
    }
    assert(n == 0);
}

/* How many bytes of the source's the @n are of the @waiting ones that a filter has made: their
 * share, so that when all is taken the source knows of all. */
static size_t unfiltered(struct body *body, size_t n, size_t waiting) {
    size_t told = waiting > 0 ? (size_t)((uint64_t)body->filtered * n / waiting) : 0;

    body->filtered -= told;
    return told;
}

/* Copies what is borrowed, and holds the source back when that is too much. */
static void settle(struct body *body) {
    for (unsigned i = 0; i < body->borrowed_count; i++) {
        const uv_buf_t *buf = &body->borrowed[body->borrowed_first + i];

        chunks_push_little(&body->held, body->loop, slice_of(buf->base, buf->len));
    }
    body->borrowed_count = body->borrowed_first = 0;
    task_cancel(&body->settle);
    if (!body_has_room(body) && body->source)
        body->source->pause(body);
}
