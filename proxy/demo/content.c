/* What the client sends: echoed, or counted. */
#include "base/alloc.h"
#include "base/utf8.h"
#include "demo/resource.h"

#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define ECHO_BYTES_MAX (1024 * 1024)
#define PEEK_MAX 16

static void echo_move(struct visit *v);
static void echo_leave(struct visit *v);
static void echo_reply(struct visit *v, struct slice content);
static void too_large(struct visit *v);
static json_t *text_of(struct slice s);
static json_t *fields_of(const struct fields *fields);
static void add_content(json_t *echo, struct slice content);
static void upload_move(struct visit *v);

void echo_open(struct visit *v) {
    const struct content *content = &v->x.request_content;

    if (content->kind == CONTENT_LENGTH && content->length > ECHO_BYTES_MAX) {
        too_large(v);
        return;
    }
    visit_state(v, sizeof(struct buffer));
    v->leave = echo_leave;
    v->move = echo_move;
    visit_read(v);
    exchange_wake(&v->x, 0);
}

static void echo_move(struct visit *v) {
    struct body *body = &v->x.request;
    struct buffer *kept = v->state;
    uv_buf_t bufs[PEEK_MAX];
    unsigned count;

    while ((count = body_peek(body, bufs, PEEK_MAX)) > 0) {
        size_t taken = 0;

        for (unsigned i = 0; i < count; i++) {
            buffer_append(kept, slice_of(bufs[i].base, bufs[i].len));
            taken += bufs[i].len;
        }
        body_drop(body, taken);
        if (kept->len > ECHO_BYTES_MAX) {
            v->move = NULL;
            too_large(v);
            return;
        }
    }
    if (body->state == BODY_ENDED) {
        v->move = NULL;
        echo_reply(v, buffer_slice(kept));
    }
}

static void echo_leave(struct visit *v) {
    buffer_deinit(v->state);
}

static void too_large(struct visit *v) {
    visit_say(v, 413, "at most %d bytes are echoed", ECHO_BYTES_MAX);
}

static void echo_reply(struct visit *v, struct slice content) {
    const struct request_head *head = &v->x.request_head;
    json_t *echo = json_object();
    struct buffer out = {0};
    char *text;

    json_object_set_new(echo, "method", text_of(head->method_text));
    json_object_set_new(echo, "path", text_of(v->path));
    json_object_set_new(echo, "query", text_of(v->query));
    json_object_set_new(echo, "host", text_of(head->authority));
    json_object_set_new(echo, "client", text_of(visit_field(v, SLICE("x-forwarded-for"))));
    json_object_set_new(echo, "fields", fields_of(&head->fields));
    add_content(echo, content);
    if (v->x.request.trailers.count > 0)
        json_object_set_new(echo, "trailers", fields_of(&v->x.request.trailers));
    text = json_dumps(echo, JSON_INDENT(2));
    json_decref(echo);
    buffer_append(&out, slice_str(text));
    buffer_append_char(&out, '\n');
    visit_reply(v, 200, "application/json", buffer_slice(&out));
    buffer_deinit(&out);
    free(text);
}

/* Text that is no UTF-8 is taken for Latin-1, as old senders mean it. */
static json_t *text_of(struct slice s) {
    struct buffer utf8 = {0};
    json_t *text;

    if (utf8_is_valid(s))
        return json_stringn(s.len ? s.base : "", s.len);
    for (size_t i = 0; i < s.len; i++) {
        unsigned c = (unsigned char)s.base[i];

        if (c >= 0x80)
            buffer_append_char(&utf8, (char)(0xc0 | c >> 6));
        buffer_append_char(&utf8, (char)(c < 0x80 ? c : 0x80 | (c & 0x3f)));
    }
    text = json_stringn(utf8.base, utf8.len);
    buffer_deinit(&utf8);
    return text;
}

/* Names in lower case; the values of a repeated one in an array. */
static json_t *fields_of(const struct fields *fields) {
    json_t *all = json_object();

    for (uint32_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        char *name = xstrndup(field->name.base, field->name.len);
        json_t *before, *list;

        for (char *c = name; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c | 0x20);
        before = json_object_get(all, name);
        if (!before) {
            json_object_set_new(all, name, text_of(field->value));
        } else if (json_is_array(before)) {
            json_array_append_new(before, text_of(field->value));
        } else {
            list = json_array();
            json_array_append(list, before);
            json_array_append_new(list, text_of(field->value));
            json_object_set_new(all, name, list);
        }
        free(name);
    }
    return all;
}

static void add_content(json_t *echo, struct slice content) {
    char *base64;
    int len;

    json_object_set_new(echo, "bytes", json_integer((json_int_t)content.len));
    if (utf8_is_valid(content)) {
        json_object_set_new(echo, "content",
                            json_stringn(content.len ? content.base : "", content.len));
        return;
    }
    base64 = xmalloc(content.len / 3 * 4 + 5);
    len = EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)content.base,
                          (int)content.len);
    json_object_set_new(echo, "content_base64", json_stringn(base64, (size_t)len));
    free(base64);
}

void upload_open(struct visit *v) {
    v->move = upload_move;
    visit_read(v);
    exchange_wake(&v->x, 0);
}

static void upload_move(struct visit *v) {
    struct body *body = &v->x.request;
    struct slice reply;

    body_drop(body, body_waiting(body));
    if (body->state != BODY_ENDED)
        return;
    v->move = NULL;
    reply = arena_printf(&v->x.arena, "{\"bytes\":%" PRIu64 "}\n", body->taken);
    visit_reply(v, 200, "application/json", reply);
}
