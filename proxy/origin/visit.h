/* A visit: an exchange on the origin's side, from its request head to the last byte of its answer.
 * Its owner opens it and may leave a `move`, which is called from the top of the stack after
 * every event: content came, room returned, the timer fired. Home: loop. */
#pragma once

#include "origin/origin.h"

struct visit;

/* Beside those of enum exchange_event. */
enum visit_event {
    VISIT_TICK = 1 << 16,   /* its timer has fired */
    VISIT_ENDING = 1 << 17, /* the origin is to end: so do endless streams */
};

#define VISIT_ARENA_BYTES 4096

struct visit {
    struct exchange x;
    struct origin *origin; /* borrowed */
    struct list link;      /* in origin->visits */
    struct slice path;     /* without its query; arena */
    struct slice query;    /* without its '?'; arena */
    struct timer timer;
    void (*move)(struct visit *v);  /* NULL: nothing more to do but wait for the last byte */
    void (*leave)(struct visit *v); /* gives back what `state` holds; NULL: nothing */
    void *state;                    /* the owner's, mostly in the arena */
    bool has_started : 1;
    bool awaits_continue : 1; /* the client sends its content only after 100 (RFC 9110 10.1.1) */
    bool is_broken : 1;       /* ends now, without a whole answer */
    _Alignas(max_align_t) char memory[VISIT_ARENA_BYTES];
};

/* For the codec: see h1_server.h. */
struct exchange *visit_make_exchange(struct h1_server_loop *shared);
void visit_drop_exchange(struct h1_server_loop *shared, struct exchange *x);

/* Zeroed memory for v->state. */
void *visit_state(struct visit *v, size_t size);

/* A field of the response. @name is static, @value lives in the arena or is static. */
void visit_add(struct visit *v, const char *name, struct slice value);

/* Answers, whole: with @content, of which a copy is taken, or with a line of text. */
void visit_reply(struct visit *v, unsigned status, const char *type, struct slice content);
void visit_say(struct visit *v, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sends the head; the content is to be pushed into x.response from then on. False: nobody wants
 * it (HEAD, a client that has left), and the answer is complete. */
bool visit_begin(struct visit *v, unsigned status, const char *type, struct content content);

/* Lets the content come: to `move`, which looks into x.request, or to nobody. */
void visit_read(struct visit *v);
void visit_discard(struct visit *v);

/* Calls `move` in @delay_ns, with VISIT_TICK. */
void visit_later(struct visit *v, int64_t delay_ns);

/* Ends the visit without an answer or in the middle of it: what was sent goes out, then the
 * connection ends. */
void visit_break(struct visit *v);

/* The connection that it came on, for answers that the codec would never give. */
struct conn *visit_conn(struct visit *v);

/* A number of the query. */
struct visit_number {
    const char *name;
    uint64_t fallback, min, max;
};

/* False when it is none, or out of range: the visit is answered with 400 then. */
bool visit_number(struct visit *v, const struct visit_number *number, uint64_t *value);

/* The value of that name in the query, as it stands there; SLICE_NONE when there is none. */
struct slice visit_parameter(const struct visit *v, struct slice name);

/* The value of that field, or "". */
struct slice visit_field(const struct visit *v, struct slice name);
