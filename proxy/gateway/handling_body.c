/* Content that a handler has to see before it may go on: it waits in the request's body until there
 * is as much as the handler may see, and is then sent on as if nothing had been.
 *
 * Of a gRPC call the first message is all that is shown, without the five bytes in front of it. A
 * compressed one is refused: who checks messages cannot be passed by with one that it cannot read.
 */
#include "gateway/handling.h"

#include <weir/handler.h>

static enum handling_outcome collect(struct crossing *c, const struct config_handler *config,
                                     size_t bytes);
static enum handling_outcome collect_message(struct crossing *c,
                                             const struct config_handler *config, bool may_be_cut);
static void on_content(struct body *body);
static void end(struct crossing *c);
static bool charge(struct crossing *c);
static void expect(struct crossing *c);
static bool is_compressed(const struct body *body);
static size_t message_length(const struct body *body);

static const struct body_sink_ops sink = {.ready = on_content};

bool handling_has_content(const struct crossing *c) {
    return !c->tunnel && (c->x.request_content.kind == CONTENT_LENGTH ||
                          c->x.request_content.kind == CONTENT_CHUNKED);
}

enum handling_outcome handling_collect(struct crossing *c, const struct config_handler *config,
                                       unsigned flags) {
    struct exchange *x = &c->x;
    const struct content *content = &x->request_content;
    bool may_be_cut = flags & WEIR_TAKES_TRUNCATED;
    enum handling_outcome outcome;

    if (c->is_grpc)
        return collect_message(c, config, may_be_cut);
    if (content->kind == CONTENT_LENGTH && content->length > config->body_max && !may_be_cut)
        return handling_fail(c, config, FAIL_CONTENT_LARGE); /* before any of it is asked for */
    outcome = collect(c, config, config->body_max);
    if (outcome == HANDLING_DONE && body_waiting(&x->request) > config->body_max && !may_be_cut)
        return handling_fail(c, config, FAIL_CONTENT_LARGE);
    return outcome;
}

/* At most what the handler may see; of a call without any message nothing. */
void handling_content(const struct crossing *c, const struct config_handler *config,
                      struct buffer *to, bool *is_truncated) {
    const struct body *body = &c->x.request;
    size_t waiting = body_waiting(body), prefix = c->is_grpc ? GRPC_PREFIX_BYTES : 0, length;

    if (waiting < prefix)
        return;
    length = c->is_grpc ? message_length(body) : waiting;
    *is_truncated = length > config->body_max;
    length = length < config->body_max ? length : config->body_max;
    length = length < waiting - prefix ? length : waiting - prefix;
    body_copy(body, prefix + length, to);
    if (prefix > 0)
        memmove(to->base, to->base + prefix, to->len -= prefix);
}

void handling_give_back(struct crossing *c, bool is_over) {
    struct handling *h = c->handling;

    if (h->collected == 0 || (!is_over && c->x.request.taken < h->collected))
        return;
    atomic_fetch_sub(&c->listener->gl->gateway->handling_memory.used, h->collected);
    h->collected = 0;
    if (c->x.request.sink == &sink)
        end(c);
}

/* Until more than @bytes wait, or all there is. */
static enum handling_outcome collect(struct crossing *c, const struct config_handler *config,
                                     size_t bytes) {
    struct body *body = &c->x.request;

    if (body->sink != &sink) {
        expect(c);
        body_attach_sink(body, &sink, c);
    }
    if (body->state == BODY_RESET) {
        end(c);
        return handling_fail(c, config, body->fail);
    }
    if (!charge(c)) {
        end(c);
        return handling_fail(c, config, FAIL_HANDLER_MEMORY);
    }
    if (body->state == BODY_OPEN && body_waiting(body) <= bytes) {
        body_collect(body, bytes);
        return HANDLING_WAIT;
    }
    end(c);
    return HANDLING_DONE;
}

static enum handling_outcome collect_message(struct crossing *c,
                                             const struct config_handler *config, bool may_be_cut) {
    struct body *body = &c->x.request;
    enum handling_outcome outcome = HANDLING_DONE;
    size_t length;

    if (body_waiting(body) < GRPC_PREFIX_BYTES)
        outcome = collect(c, config, GRPC_PREFIX_BYTES - 1);
    if (outcome != HANDLING_DONE || body_waiting(body) < GRPC_PREFIX_BYTES)
        return outcome;
    if (is_compressed(body))
        return handling_fail(c, config, FAIL_CONTENT_COMPRESSED);
    length = message_length(body);
    if (length > config->body_max && !may_be_cut)
        return handling_fail(c, config, FAIL_CONTENT_LARGE);
    length = length < config->body_max ? length : config->body_max;
    return collect(c, config, GRPC_PREFIX_BYTES + length - 1);
}

static void on_content(struct body *body) {
    exchange_wake(&((struct crossing *)body->sink_ctx)->x, 0);
}

/* The client may go on sending only as fast as the upstream takes it from here on. */
static void end(struct crossing *c) {
    struct body *body = &c->x.request;

    body->sink = NULL;
    body_collect_end(body);
}

/* For all that waits now. */
static bool charge(struct crossing *c) {
    struct handling_memory *memory = &c->listener->gl->gateway->handling_memory;
    size_t waiting = body_waiting(&c->x.request);
    size_t more = waiting > c->handling->collected ? waiting - c->handling->collected : 0;

    if (more > 0 && atomic_fetch_add(&memory->used, more) + more > memory->limit) {
        atomic_fetch_sub(&memory->used, more);
        return false;
    }
    c->handling->collected += more;
    return true;
}

/* RFC 9110 section 10.1.1: the content is wanted here, whatever the upstream will say. */
static void expect(struct crossing *c) {
    static const struct response_head go_on = {
        .status = 100, .version = HTTP_1_1, .reason = {"Continue", 8}};
    struct exchange *x = &c->x;
    struct fields *fields = &x->request_head.fields;
    uint32_t kept = 0, count = fields->count;

    for (uint32_t i = 0; i < count; i++)
        if (fields->list[i].id != FIELD_EXPECT)
            fields->list[kept++] = fields->list[i];
    fields->count = kept;
    if (kept < count && x->request.pushed == 0 && x->request.state == BODY_OPEN)
        x->client->send_informational(x, &go_on);
}

static void copy_prefix(const struct body *body, uint8_t prefix[GRPC_PREFIX_BYTES]) {
    uv_buf_t bufs[GRPC_PREFIX_BYTES];
    unsigned count = body_peek(body, bufs, GRPC_PREFIX_BYTES);
    size_t have = 0;

    for (unsigned i = 0; i < count; i++)
        for (size_t j = 0; j < bufs[i].len && have < GRPC_PREFIX_BYTES; j++)
            prefix[have++] = (uint8_t)bufs[i].base[j];
}

static bool is_compressed(const struct body *body) {
    uint8_t prefix[GRPC_PREFIX_BYTES] = {0};

    copy_prefix(body, prefix);
    return prefix[0] != 0;
}

static size_t message_length(const struct body *body) {
    uint8_t prefix[GRPC_PREFIX_BYTES] = {0};

    copy_prefix(body, prefix);
    return (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
}
