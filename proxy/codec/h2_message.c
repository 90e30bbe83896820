/* HTTP/2 heads: see h2_message.h. */
#include "codec/h2_message.h"

#include "base/random.h"
#include "codec/h1_chars.h"
#include "codec/h1_chunked.h"
#include "codec/h1_parts.h"
#include "codec/h1_write.h"

#include <assert.h>

/* 16 bytes in base64 (RFC 6455 section 4.1). */
#define WEBSOCKET_KEY_BYTES 24

/* nghttp2 need not copy a name that lives as long as the program, nor make it lower-case. */
#define STATIC_NAME NGHTTP2_NV_FLAG_NO_COPY_NAME

/* Pseudo fields and Content-Length. */
#define FIXED_LINES_MAX 6

/* Connection-specific ones (RFC 9113 section 8.2.2), and Host, which is :authority. */
#define OF_CONNECTION                                                                 \
    (FIELD_BIT(FIELD_HOST) | FIELD_BIT(FIELD_UPGRADE) | FIELD_BIT(FIELD_CONNECTION) | \
     FIELD_BIT(FIELD_KEEP_ALIVE) | FIELD_BIT(FIELD_HTTP2_SETTINGS) |                  \
     FIELD_BIT(FIELD_PROXY_CONNECTION) | FIELD_BIT(FIELD_TRANSFER_ENCODING))

/* RFC 8441 section 5: the stream itself says that both sides know what they do. */
#define OF_WEBSOCKET (FIELD_BIT(FIELD_SEC_WEBSOCKET_KEY) | FIELD_BIT(FIELD_SEC_WEBSOCKET_ACCEPT))

/* Values that never come again would push those that do out of the other side's table, and make
 * both sides search a long list of them for each message. */
#define NEW_EACH_TIME \
    (FIELD_BIT(FIELD_X_REQUEST_ID) | FIELD_BIT(FIELD_TRACEPARENT) | FIELD_BIT(FIELD_GRPC_TIMEOUT))

/* Bits of fields. */
struct sieve {
    uint64_t left_out;
    uint64_t unindexed; /* stay out of the other side's table */
};

static bool take_pseudo(struct h2_reading *r, struct slice name, struct slice value);
static void split_target(struct h2_reading *r, struct request_head *head);
static enum h1_outcome check_target(const struct h2_reading *r, const struct request_head *head,
                                    const char **why);
static void join_cookies(struct fields *fields, struct arena *arena);
static void take_upgrade(struct h2_reading *r, struct request_head *head);
static struct slice make_websocket_key(struct arena *arena);
static void begin(struct h2_block *block, const struct fields *fields);
static inline void add(struct h2_block *block, struct slice name, struct slice value,
                       unsigned flags);
static void add_length(struct h2_block *block, struct content content);
static void add_fields(struct h2_block *block, const struct fields *fields, struct sieve sieve);

bool h2_read_field(struct h2_reading *r, struct slice name, struct slice value, uint8_t flags) {
    enum field_id id;

    r->bytes += name.len + value.len + H2_FIELD_OVERHEAD;
    if (r->bytes > r->limits->head_bytes || r->fields.count >= r->limits->fields ||
        r->fields.count >= H1_FIELDS_MAX)
        r->is_large = true;
    if (r->is_large)
        return r->bytes <= r->limits->head_bytes * H2_SECTION_EXCESS;
    value = arena_copy(r->arena, value);
    if (name.base[0] == ':' && take_pseudo(r, name, value))
        return true;
    id = field_id_of(name);
    if (id == FIELD_HOST) {
        r->has_host = true;
        r->host = value;
        return true;
    }
    fields_add(&r->fields, r->arena, id, id ? field_name(id) : arena_copy(r->arena, name), value);
    r->fields.list[r->fields.count - 1].is_secret = flags & NGHTTP2_NV_FLAG_NO_INDEX;
    return true;
}

enum h1_outcome h2_read_request(struct h2_reading *r, bool is_end, struct request_head *head,
                                struct content *content, const char **why) {
    enum h1_outcome outcome;

    *content = (struct content){CONTENT_NONE, 0};
    *head = (struct request_head){
        .method = method_of(r->method),
        .version = HTTP_2,
        .method_text = r->method,
        .scheme = r->scheme,
        .authority = r->authority.len > 0 ? r->authority : r->host,
        .path = r->path,
        .fields = r->fields,
    };
    if (r->is_large) {
        *why = r->bytes > r->limits->head_bytes ? "header section is too large"
                                                : "header section has too many fields";
        return H1_HEAD_LARGE;
    }
    split_target(r, head);
    outcome = check_target(r, head, why);
    if (outcome != H1_DONE)
        return outcome;
    join_cookies(&head->fields, r->arena);
    outcome = h1_frame_content(&head->fields, HTTP_2, content, why);
    if (outcome != H1_DONE)
        return outcome;
    if (!h1_is_expectable(head)) {
        *why = "expectation is not 100-continue";
        return H1_EXPECT;
    }
    if (r->protocol.len > 0) {
        if (content->kind != CONTENT_NONE) {
            *why = "extended CONNECT has a Content-Length";
            return H1_BAD;
        }
        take_upgrade(r, head);
    } else if (content->kind == CONTENT_NONE && !is_end) {
        content->kind = CONTENT_CHUNKED;
    }
    return H1_DONE;
}

enum h1_outcome h2_read_response(struct h2_reading *r, enum method method, bool is_end,
                                 struct response_head *head, struct content *content,
                                 const char **why) {
    unsigned status = 0;

    *content = (struct content){CONTENT_NONE, 0};
    for (size_t i = 0; i < r->status.len; i++)
        status = status * 10 + (unsigned)(r->status.base[i] - '0');
    *head = (struct response_head){
        .status = status,
        .version = HTTP_2,
        .reason = h1_reason(status),
        .fields = r->fields,
    };
    if (r->is_large) {
        *why = "header section is too large";
        return H1_HEAD_LARGE;
    }
    if (r->has_host)
        fields_add_known(&head->fields, r->arena, FIELD_HOST, r->host);
    if (r->status.len != 3 || status < 100 || status > 999 || (status < 200 && is_end)) {
        *why = "status is not one of a response";
        return H1_BAD;
    }
    if (h1_frame_content(&head->fields, HTTP_2, content, why) != H1_DONE)
        return H1_BAD;
    if (method == METHOD_HEAD || status < 200 || status == 204 || status == 304)
        *content = (struct content){CONTENT_NONE, 0};
    else if (content->kind == CONTENT_NONE && !is_end)
        content->kind = CONTENT_CHUNKED;
    return H1_DONE;
}

enum h1_outcome h2_read_trailers(struct h2_reading *r, struct fields *trailers, const char **why) {
    if (r->is_large) {
        *why = "trailer section is too large";
        return H1_HEAD_LARGE;
    }
    if (r->has_host)
        fields_add_known(&r->fields, r->arena, FIELD_HOST, r->host);
    *why = h1_keep_proper_trailers(&r->fields);
    if (*why)
        return H1_BAD;
    *trailers = r->fields;
    return H1_DONE;
}

bool h2_is_upgrade(const struct request_head *head) {
    return head->method == METHOD_GET && fields_find(&head->fields, FIELD_UPGRADE);
}

void h2_write_request(struct h2_block *block, const struct request_head *head,
                      struct content content, bool is_teaching) {
    bool is_upgrade = h2_is_upgrade(head);
    struct sieve sieve = {
        OF_CONNECTION | FIELD_BIT(FIELD_CONTENT_LENGTH) | (is_upgrade ? OF_WEBSOCKET : 0),
        is_teaching ? 0 : NEW_EACH_TIME,
    };

    begin(block, &head->fields);
    add(block, SLICE(":method"), is_upgrade ? SLICE("CONNECT") : head->method_text, STATIC_NAME);
    if (is_upgrade)
        add(block, SLICE(":protocol"), fields_find(&head->fields, FIELD_UPGRADE)->value,
            STATIC_NAME);
    add(block, SLICE(":scheme"), head->scheme.len > 0 ? head->scheme : SLICE("http"), STATIC_NAME);
    add(block, SLICE(":authority"), head->authority, STATIC_NAME);
    add(block, SLICE(":path"), head->path, STATIC_NAME);
    add_fields(block, &head->fields, sieve);
    add_length(block, content);
}

void h2_write_response(struct h2_block *block, const struct response_head *head,
                       struct content content, bool show_length) {
    bool is_upgrade = head->status == 101;
    unsigned status = is_upgrade ? 200 : head->status;
    struct sieve sieve = {
        OF_CONNECTION | (show_length ? 0 : FIELD_BIT(FIELD_CONTENT_LENGTH)) |
            (is_upgrade ? OF_WEBSOCKET : 0),
        NEW_EACH_TIME,
    };

    assert(status >= 100 && status <= 999);
    begin(block, &head->fields);
    block->text_len = uint_to_text(block->text, status);
    add(block, SLICE(":status"), slice_of(block->text, block->text_len), STATIC_NAME);
    add_fields(block, &head->fields, sieve);
    add_length(block, content);
}

void h2_write_trailers(struct h2_block *block, const struct fields *trailers) {
    begin(block, trailers);
    add_fields(block, trailers,
               (struct sieve){OF_CONNECTION | FIELD_BIT(FIELD_CONTENT_LENGTH), NEW_EACH_TIME});
}

/* nghttp2 lets none but these through, and they differ in their length or their first letters. */
static bool take_pseudo(struct h2_reading *r, struct slice name, struct slice value) {
    struct slice *to;

    switch (name.len) {
    case 5:
        to = &r->path;
        break;
    case 7:
        to = name.base[1] == 'm' ? &r->method : name.base[2] == 'c' ? &r->scheme : &r->status;
        break;
    case 9:
        to = &r->protocol;
        break;
    case 10:
        to = &r->authority;
        break;
    default:
        return false;
    }
    *to = value;
    return true;
}

static void split_target(struct h2_reading *r, struct request_head *head) {
    if (head->method == METHOD_CONNECT && r->protocol.len == 0)
        head->form = TARGET_AUTHORITY;
    else if (slice_equal(head->path, SLICE("*")))
        head->form = TARGET_ASTERISK;
    else
        head->form = TARGET_ORIGIN;
}

static enum h1_outcome check_target(const struct h2_reading *r, const struct request_head *head,
                                    const char **why) {
    struct slice authority = head->authority;
    bool is_origin = head->form == TARGET_ORIGIN;

    if (head->path.len > r->limits->target_bytes) {
        *why = "request target is too long";
        return H1_TARGET_LONG;
    }
    *why = NULL;
    if (head->method_text.len > H1_METHOD_MAX)
        *why = "method is too long";
    else if (authority.len > 0 && memchr(authority.base, '@', authority.len))
        *why = "authority has user information";
    else if (!h1_is_authority(authority))
        *why = "authority is not host[:port]";
    else if (r->has_host && !slice_equal_case(r->host, authority))
        *why = "Host differs from :authority"; /* section 8.3.1 */
    else if (head->form != TARGET_AUTHORITY && !slice_equal(r->scheme, SLICE("http")) &&
             !slice_equal(r->scheme, SLICE("https")))
        *why = "scheme is neither http nor https";
    else if (head->form == TARGET_ASTERISK && head->method != METHOD_OPTIONS)
        *why = "target '*' is for OPTIONS only";
    else if (is_origin && (head->path.len == 0 || head->path.base[0] != '/' ||
                           !h1_chars_are(head->path, H1_CHAR_TARGET)))
        *why = "path is not one";
    return *why ? H1_BAD : H1_DONE;
}

/* Crumbs of a cookie become one field again, in the place of the first (section 8.2.3); empty ones
 * leave no trace, or there would be a blank at its end. */
static void join_cookies(struct fields *fields, struct arena *arena) {
    struct field *first = NULL;
    size_t crumbs = 0, len = 0;
    uint32_t kept = 0;
    bool is_secret = false;
    char *joined, *to;

    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id == FIELD_COOKIE) {
            crumbs++;
            is_secret |= fields->list[i].is_secret;
            len += fields->list[i].value.len + 2;
        }
    if (crumbs < 2)
        return;
    joined = to = arena_alloc(arena, len);
    for (uint32_t i = 0; i < fields->count; i++) {
        struct field *field = &fields->list[i];

        if (field->id == FIELD_COOKIE) {
            if (to > joined && field->value.len > 0)
                to = (char *)memcpy(to, "; ", 2) + 2;
            if (field->value.len > 0)
                to = (char *)memcpy(to, field->value.base, field->value.len) + field->value.len;
            if (first)
                continue;
            first = &fields->list[kept];
        }
        fields->list[kept++] = *field;
    }
    first->value = slice_of(joined, (size_t)(to - joined));
    first->is_secret = is_secret;
    fields->count = kept;
}

/* What an HTTP/1.1 client would have asked. */
static void take_upgrade(struct h2_reading *r, struct request_head *head) {
    struct fields *fields = &head->fields;

    head->method = METHOD_GET;
    head->method_text = SLICE("GET");
    fields_add_known(fields, r->arena, FIELD_UPGRADE, r->protocol);
    fields_add_known(fields, r->arena, FIELD_CONNECTION, SLICE("upgrade"));
    if (slice_equal_case(r->protocol, SLICE("websocket")) &&
        !fields_find(fields, FIELD_SEC_WEBSOCKET_KEY))
        fields_add_known(fields, r->arena, FIELD_SEC_WEBSOCKET_KEY, make_websocket_key(r->arena));
}

static struct slice make_websocket_key(struct arena *arena) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *key = arena_alloc(arena, WEBSOCKET_KEY_BYTES);
    uint64_t bits = 0;

    for (size_t i = 0; i < WEBSOCKET_KEY_BYTES - 2; i++) {
        if (i % 10 == 0)
            bits = random_next();
        key[i] = letters[bits & 63];
        bits >>= 6;
    }
    /* 16 bytes end in two bits of a letter: its other four are 0. */
    key[WEBSOCKET_KEY_BYTES - 3] = letters[bits & 48];
    memcpy(key + WEBSOCKET_KEY_BYTES - 2, "==", 2);
    return slice_of(key, WEBSOCKET_KEY_BYTES);
}

/* Makes room for those lines and the fixed ones: add() only stores. */
static void begin(struct h2_block *block, const struct fields *fields) {
    block->lines.len = block->text_len = 0;
    buffer_reserve(&block->lines, (fields->count + FIXED_LINES_MAX) * sizeof(nghttp2_nv));
}

static inline void add(struct h2_block *block, struct slice name, struct slice value,
                       unsigned flags) {
    nghttp2_nv *line = (nghttp2_nv *)(void *)(block->lines.base + block->lines.len);

    *line = (nghttp2_nv){(uint8_t *)name.base, (uint8_t *)value.base, name.len, value.len,
                         (uint8_t)flags};
    block->lines.len += sizeof *line;
}

static void add_length(struct h2_block *block, struct content content) {
    char *text = block->text + block->text_len;

    if (content.kind == CONTENT_LENGTH)
        add(block, field_name(FIELD_CONTENT_LENGTH),
            slice_of(text, uint_to_text(text, content.length)), STATIC_NAME);
}

static void add_fields(struct h2_block *block, const struct fields *fields, struct sieve sieve) {
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        uint64_t bit = FIELD_BIT(field->id);
        unsigned flags = NGHTTP2_NV_FLAG_NONE;

        if ((bit & sieve.left_out) ||
            (field->id == FIELD_TE && !slice_equal_case(field->value, SLICE("trailers"))))
            continue;
        if (field->id && field->name.base == field_name(field->id).base)
            flags |= STATIC_NAME;
        if (field->is_secret || (bit & sieve.unindexed))
            flags |= NGHTTP2_NV_FLAG_NO_INDEX;
        add(block, field->name, field->value, flags);
    }
}
