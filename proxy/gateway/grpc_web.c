/* gRPC-Web calls, which browsers can make, as gRPC calls: filters on both bodies translate the
 * content as it comes, in the binary form without a copy. Messages are the same in both protocols;
 * what differs is that the text form is base64, and that trailers are the last message. A response
 * without any message has its status in the head in both.
 *
 * What would mislead a client is not passed on: an upstream's message may not look like trailers,
 * and trailers may not stand where the rest of a message is expected. */
#include "gateway/crossing.h"

#include "base/buffer.h"
#include "codec/base64.h"
#include "codec/grpc_web.h"

#include <assert.h>

#define PIECE_BYTES 6144 /* of content that is decoded or encoded at a time */

struct grpc_web {
    enum grpc_web_form asked, answer; /* of the request; that the response shall have */
    struct slice type; /* arena; the request's content-type, whatever becomes of it */
    bool is_known;     /* whether the upstream's answer is one of gRPC */
    bool is_grpc;
    struct base64_decoder decoder;
    struct base64_encoder encoder;
    struct fields trailers; /* arena; as they were translated */
};

static void push_request(struct body *body, struct slice bytes);
static void end_request(struct body *body);
static bool see_request(struct crossing *c, struct slice bytes);
static void refuse(struct crossing *c, const char *why);
static void push_response(struct body *body, struct slice bytes);
static void flush_response(struct body *body);
static void end_response(struct body *body);
static void pass(struct crossing *c, struct slice bytes);
static void pass_padding(struct crossing *c);
static void break_off(struct crossing *c, enum fail fail, const char *why);
static bool is_answer_grpc(struct crossing *c);
static void set_content_type(struct fields *fields, struct slice type);

static const struct body_filter request_filter = {.push = push_request, .end = end_request};
static const struct body_filter response_filter = {
    .push = push_response, .flush = flush_response, .end = end_response};

void grpc_web_look(struct crossing *c) {
    const struct request_head *head = &c->x.request_head;

    if (!request_is_grpc_web(head))
        return;
    c->is_grpc = true;
    c->web = arena_alloc(&c->x.arena, sizeof *c->web);
    *c->web = (struct grpc_web){
        .asked = grpc_web_form_of(fields_find(&head->fields, FIELD_CONTENT_TYPE)->value),
        .answer = grpc_web_answer_form(&head->fields),
        .type = fields_find(&head->fields, FIELD_CONTENT_TYPE)->value,
    };
}

void grpc_web_begin(struct crossing *c) {
    body_set_filter(&c->x.request, &request_filter);
}

void grpc_web_send(struct crossing *c, struct request_head *head, struct content *content) {
    struct exchange *x = &c->x;
    struct fields *fields = &head->fields;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id != FIELD_ACCEPT && fields->list[i].id != FIELD_CONTENT_LENGTH &&
            fields->list[i].id != FIELD_TE)
            fields->list[kept++] = fields->list[i];
    fields->count = kept;
    set_content_type(fields, grpc_web_to_grpc(&x->arena, c->web->type));
    fields_add_known(fields, &c->x.arena, FIELD_TE, SLICE("trailers"));
    *content = (struct content){CONTENT_CHUNKED, 0};
    c->web->is_known = false;
    c->web->encoder = (struct base64_encoder){0};
    body_set_filter(&x->response, &response_filter);
}

void grpc_web_respond(struct crossing *c) {
    struct exchange *x = &c->x;
    struct fields *fields = &x->response_head.fields;
    const struct field *type = fields_find(fields, FIELD_CONTENT_TYPE);
    struct slice value;
    uint32_t kept = 0;

    if (!is_answer_grpc(c) || !type) /* a handler may have taken it away */
        return;
    value = type->value; /* it moves */
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id != FIELD_CONTENT_LENGTH && fields->list[i].id != FIELD_TRAILER)
            fields->list[kept++] = fields->list[i];
    fields->count = kept;
    set_content_type(fields, grpc_web_from_grpc(&x->arena, value, c->web->answer));
    if (x->response_content.kind != CONTENT_NONE || !body_is_done(&x->response))
        x->response_content = (struct content){CONTENT_CHUNKED, 0};
}

struct slice grpc_web_reply_type(struct crossing *c) {
    return grpc_web_from_grpc(&c->x.arena, c->web->type, c->web->answer);
}

bool grpc_web_end(struct crossing *c) {
    struct body *body = &c->x.response;

    if (!is_answer_grpc(c) || !grpc_messages_are_whole(&c->answered))
        return false;
    if (body->state == BODY_OPEN) { /* behind the messages that wait */
        body_end(body);
        body_flush(body);
        return true;
    }
    if (body->pushed != body->taken)
        return false; /* what waited was dropped: perhaps half a message */
    body_end_early(body);
    return true;
}

const struct fields *grpc_web_trailers_said(const struct crossing *c) {
    return &c->web->trailers;
}

/* --- The request ----------------------------------------------------------------------------- */

static void push_request(struct body *body, struct slice bytes) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, request));
    char piece[BASE64_DECODED_MAX(PIECE_BYTES)];

    if (c->web->asked == GRPC_WEB_BINARY) {
        if (see_request(c, bytes))
            body_pass(body, bytes);
        return;
    }
    while (bytes.len > 0) {
        size_t n = bytes.len < PIECE_BYTES ? bytes.len : PIECE_BYTES;
        ssize_t len = base64_decode(&c->web->decoder, slice_of(bytes.base, n), piece);

        if (len < 0) {
            refuse(c, "no base64");
            return;
        }
        if (!see_request(c, slice_of(piece, (size_t)len)))
            return;
        body_pass_copy(body, slice_of(piece, (size_t)len));
        bytes = slice_skip(bytes, n);
    }
}

static void end_request(struct body *body) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, request));

    if (!base64_is_whole(&c->web->decoder))
        refuse(c, "the base64 ends too early");
    else if (!grpc_messages_are_whole(&c->asked))
        refuse(c, "the content ends within a message");
}

static bool see_request(struct crossing *c, struct slice bytes) {
    grpc_see_request(c, bytes);
    if (c->asked.flags & ~GRPC_COMPRESSED)
        refuse(c, "a message has unknown flags");
    return c->x.request.state == BODY_OPEN;
}

static void refuse(struct crossing *c, const char *why) {
    struct exchange *x = &c->x;

    x->client_fail = FAIL_GRPC_WEB;
    x->client_why = why;
    body_reset(&x->request, FAIL_GRPC_WEB);
    exchange_wake(x, EXCHANGE_CLIENT_FAIL);
}

/* --- The response ---------------------------------------------------------------------------- */

static void push_response(struct body *body, struct slice bytes) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, response));

    if (!is_answer_grpc(c)) {
        body_pass(body, bytes);
        return;
    }
    grpc_see_response(c, bytes);
    if (c->answered.flags & ~GRPC_COMPRESSED)
        break_off(c, FAIL_UPSTREAM_MALFORMED, "a message has unknown flags");
    else
        pass(c, bytes);
}

/* A client may decode what it has got, so no part of a whole message is kept back. */
static void flush_response(struct body *body) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, response));

    if (grpc_messages_are_whole(&c->answered))
        pass_padding(c);
}

static void end_response(struct body *body) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, response));
    struct exchange *x = &c->x;
    struct fields trailers = body->trailers;

    if (!is_answer_grpc(c))
        return;
    if (!grpc_messages_are_whole(&c->answered)) {
        break_off(c, FAIL_UPSTREAM_INCOMPLETE, "the content ends within a message");
        return;
    }
    if (!fields_find(&trailers, FIELD_GRPC_STATUS) &&
        !fields_find(&x->response_head.fields, FIELD_GRPC_STATUS)) {
        /* HTTP/2 clients know what to make of that; those of gRPC-Web may take it for OK. */
        grpc_add_status(&trailers, &x->arena, grpc_status_of_http(x->response_head.status),
                        SLICE("weir: the upstream sent no grpc-status"));
    }
    c->web->trailers = trailers;
    body->trailers = (struct fields){0};
    if (trailers.count > 0)
        pass(c, grpc_web_trailers(&x->arena, &trailers));
    pass_padding(c);
}

static void pass(struct crossing *c, struct slice bytes) {
    struct body *body = &c->x.response;
    char piece[BASE64_ENCODED_MAX(PIECE_BYTES)];

    if (c->web->answer == GRPC_WEB_BINARY) {
        body_pass(body, bytes);
        return;
    }
    while (bytes.len > 0) {
        size_t n = bytes.len < PIECE_BYTES ? bytes.len : PIECE_BYTES;

        body_pass_copy(
            body, slice_of(piece, base64_encode(&c->web->encoder, slice_of(bytes.base, n), piece)));
        bytes = slice_skip(bytes, n);
    }
}

static void pass_padding(struct crossing *c) {
    char group[BASE64_END_MAX];

    body_pass_copy(&c->x.response, slice_of(group, base64_encode_end(&c->web->encoder, group)));
}

static void break_off(struct crossing *c, enum fail fail, const char *why) {
    struct exchange *x = &c->x;

    x->upstream_why = why;
    body_reset(&x->response, fail);
    exchange_wake(x, 0);
}

/* Anything else that the upstream answers passes as it is. Asked for the first time once its head
 * is there. */
static bool is_answer_grpc(struct crossing *c) {
    const struct response_head *head = &c->x.response_head;
    const struct field *type;

    if (c->web->is_known)
        return c->web->is_grpc;
    assert(head->status >= 200);
    type = fields_find(&head->fields, FIELD_CONTENT_TYPE);
    c->web->is_known = true;
    c->web->is_grpc = type && media_type_is(type->value, SLICE("application/grpc"));
    return c->web->is_grpc;
}

/* There is one. */
static void set_content_type(struct fields *fields, struct slice type) {
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id == FIELD_CONTENT_TYPE)
            fields->list[i].value = type;
}
