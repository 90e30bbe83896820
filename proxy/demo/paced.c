/* Answers that take their time: one late one, and streams of numbered pieces. */
#include "demo/resource.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define SLOW_MS_MAX 60000
#define CHUNKS_MAX 100000
#define CHUNK_SIZE_MAX 65536
#define EVENTS_MAX UINT64_C(1000000000)
#define PIECES_PER_MOVE 64 /* before others have their turn */

/* Pieces number `next` to `last`, one every interval. */
struct paced {
    uint64_t next, last; /* last 0: without end */
    uint64_t size;       /* bytes of a piece, for those that have one */
    int64_t interval_ns;
    int64_t due_ns;
    void (*write)(const struct paced *paced, struct buffer *out);
};

static void slow_move(struct visit *v);
static void paced_start(struct visit *v, const struct paced *paced, const char *type);
static void paced_move(struct visit *v);
static void write_chunk(const struct paced *paced, struct buffer *out);
static void write_event(const struct paced *paced, struct buffer *out);

void slow_open(struct visit *v) {
    const struct visit_number number = {"ms", 1000, 0, SLOW_MS_MAX};
    uint64_t *ms = visit_state(v, sizeof *ms);

    if (!visit_number(v, &number, ms))
        return;
    v->move = slow_move;
    visit_later(v, (int64_t)*ms * NS_PER_MS);
}

static void slow_move(struct visit *v) {
    const uint64_t *ms = v->state;

    if (!(v->x.events & VISIT_TICK))
        return;
    v->move = NULL;
    visit_say(v, 200, "that took %" PRIu64 " ms", *ms);
}

void stream_open(struct visit *v) {
    const struct visit_number chunks = {"chunks", 10, 1, CHUNKS_MAX};
    const struct visit_number bytes = {"bytes", 64, 1, CHUNK_SIZE_MAX};
    const struct visit_number interval = {"ms", 100, 0, SLOW_MS_MAX};
    struct paced paced = {.next = 1, .write = write_chunk};
    uint64_t ms = 0;

    if (!visit_number(v, &chunks, &paced.last) || !visit_number(v, &bytes, &paced.size) ||
        !visit_number(v, &interval, &ms))
        return;
    paced.interval_ns = (int64_t)ms * NS_PER_MS;
    paced_start(v, &paced, "text/plain; charset=utf-8");
}

/* The event with the number of Last-Event-ID was seen: the next one is the next. Behind the last
 * one 204 says that there is nothing to reconnect for (HTML standard, 9.2.2). */
void events_open(struct visit *v) {
    const struct visit_number last = {"n", 0, 0, EVENTS_MAX};
    const struct visit_number interval = {"ms", 1000, 1, SLOW_MS_MAX};
    struct slice seen = visit_field(v, SLICE("last-event-id"));
    struct paced paced = {.write = write_event};
    uint64_t ms = 0;

    if (!visit_number(v, &last, &paced.last) || !visit_number(v, &interval, &ms))
        return;
    paced.interval_ns = (int64_t)ms * NS_PER_MS;
    /* What is no number is 0. */
    if (seen.len > 0 && seen.len < 10)
        paced.next = strtoull(arena_printf(&v->x.arena, "%.*s", SLICE_ARG(seen)).base, NULL, 10);
    paced.next++;
    if (paced.last && paced.next > paced.last) {
        visit_reply(v, 204, NULL, SLICE(""));
        return;
    }
    v->x.is_stream = true;
    visit_add(v, "cache-control", SLICE("no-store"));
    paced_start(v, &paced, "text/event-stream");
}

static void paced_start(struct visit *v, const struct paced *paced, const char *type) {
    struct paced *state = visit_state(v, sizeof *state);

    *state = *paced;
    state->due_ns = v->x.loop->now_ns;
    v->move = paced_move;
    if (visit_begin(v, 200, type, (struct content){CONTENT_CHUNKED, 0}))
        exchange_wake(&v->x, 0);
    else
        v->move = NULL;
}

static void paced_move(struct visit *v) {
    struct paced *paced = v->state;
    struct body *body = &v->x.response;
    int64_t now_ns = v->x.loop->now_ns;
    struct buffer out = {0};
    bool is_last = !paced->last && (v->x.events & VISIT_ENDING);

    for (unsigned i = 0; i < PIECES_PER_MOVE && !is_last; i++) {
        if (paced->due_ns > now_ns || !body_has_room(body))
            break;
        out.len = 0;
        paced->write(paced, &out);
        body_push_copy(body, buffer_slice(&out));
        paced->due_ns = now_ns + paced->interval_ns;
        is_last = paced->next++ == paced->last;
    }
    buffer_deinit(&out);
    if (is_last) {
        v->move = NULL;
        body_end(body);
    } else if (paced->due_ns > now_ns) {
        visit_later(v, paced->due_ns - now_ns);
    } else if (body_has_room(body)) {
        exchange_wake(&v->x, 0);
    } /* else room will wake it */
    body_flush(body);
}

/* "chunk 3 of 10 ....\n", cut or filled up to its size. */
static void write_chunk(const struct paced *paced, struct buffer *out) {
    buffer_printf(out, "chunk %" PRIu64 " of %" PRIu64 " ", paced->next, paced->last);
    while (out->len < paced->size)
        buffer_append_char(out, '.');
    out->len = paced->size;
    out->base[out->len - 1] = '\n';
}

static void write_event(const struct paced *paced, struct buffer *out) {
    int64_t wall_ms = clock_wall_ns() / NS_PER_MS;
    time_t seconds = (time_t)(wall_ms / 1000);
    char text[32];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    buffer_printf(out, "id: %" PRIu64 "\ndata: {\"event\":%" PRIu64 ",\"time\":\"%s.%03dZ\"}\n\n",
                  paced->next, paced->next, text, (int)(wall_ms % 1000));
}
