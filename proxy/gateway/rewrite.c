/* The bodies go through a filter that is the same in both directions. Its length is not known
 * before its end, and what was said of the bytes as they were is no longer true: Content-Length and
 * digests (RFC 9530) go, and an ETag is a weak one (RFC 9110 section 8.8.1). Parts of content
 * (Content-Range) pass as they are, since where one begins is counted in the sender's bytes.
 *
 * Cache-Control: no-transform, which every server of events says, is about those whom neither end
 * has asked; here the server's own front end has been told to. */
#include "gateway/rewrite.h"

#include "base/log.h"
#include "codec/urls.h"
#include "gateway/crossing.h"

#include <ctype.h>

#define COMPRESSED_PER_S 1 /* lines in the log about content that cannot be rewritten */

struct rewrite {
    const struct config_rewrite *config; /* borrowed */
    struct config_url inner;             /* borrowed; where requests' URLs lead to */
    struct config_url outer;             /* borrowed or arena */
    struct urls_map to_inner, to_outer;
    struct urls *asked, *answered; /* arena; of content that is rewritten; NULL: it is not */
};

/* Fields whose values have URLs in them. */
static const char *const response_fields[] = {
    "location", "content-location", "link", "refresh", "www-authenticate",
};
static const char *const request_fields[] = {"referer"};

/* What is not true of content that was rewritten. */
static const char *const spoilt_fields[] = {
    "content-length", "content-md5", "digest", "content-digest", "repr-digest",
};

#define IS_ONE_OF(name, list) is_one_of((name), (list), sizeof(list) / sizeof *(list))

static void rewrite_informational(struct exchange *x, struct response_head *head);
static bool find_outer(struct crossing *c, struct config_url *outer);
static struct slice said(struct crossing *c, enum field_id id, struct slice otherwise);
static bool is_host(struct slice text);
static void rewrite_fields(struct crossing *c, struct fields *fields);
static bool may_be_rewritten(const struct crossing *c, const struct fields *fields);
static bool is_encoded(const struct fields *fields);
static bool is_one_of(struct slice name, const char *const *list, size_t count);
static void begin_body(struct crossing *c, struct body *body, struct urls **urls,
                       const struct urls_map *map, const struct body_filter *filter);
static void drop_spoilt(struct fields *fields);
static void weaken_etag(struct crossing *c, struct fields *fields);
static struct slice strengthen(struct arena *arena, struct slice tags);
static struct slice rewrite_origin(const struct urls_map *map, struct arena *arena,
                                   struct slice value);
static struct config_url origin_of(const struct config_url *url, struct arena *arena);
static struct slice free_cookie(const struct rewrite *r, struct arena *arena, struct slice value);
static bool is_inner_host(const struct rewrite *r, struct slice host);
static void push_request(struct body *body, struct slice bytes);
static void end_request(struct body *body);
static void push_response(struct body *body, struct slice bytes);
static void end_response(struct body *body);
static void emit(void *ctx, struct slice text, bool is_stable);

static const struct body_filter request_filter = {.push = push_request, .end = end_request};
static const struct body_filter response_filter = {.push = push_response, .end = end_response};

void rewrite_begin(struct crossing *c) {
    struct exchange *x = &c->x;
    const struct request_head *head = &x->request_head;
    struct rewrite *r = arena_alloc(&x->arena, sizeof *r);

    *r = (struct rewrite){.config = c->route->rewrite, .inner = c->route->rewrite->inner[0]};
    if (!find_outer(c, &r->outer))
        return;
    r->to_outer = (struct urls_map){r->config->inner, r->config->inner_count, r->outer};
    r->to_inner = (struct urls_map){&r->outer, 1, r->inner};
    c->rewrite = r;
    x->adapt_informational = rewrite_informational;
    /* What follows an upgrade is no content. */
    if (r->config->has_requests && may_be_rewritten(c, &head->fields) &&
        !fields_find(&head->fields, FIELD_UPGRADE) &&
        (x->request_content.kind == CONTENT_LENGTH || x->request_content.kind == CONTENT_CHUNKED))
        begin_body(c, &x->request, &r->asked, &r->to_inner, &request_filter);
}

void rewrite_request(struct crossing *c, struct request_head *head) {
    const struct rewrite *r = c->rewrite;
    struct arena *arena = &c->x.arena;
    struct fields *fields = &head->fields;
    bool has_bodies = r->config->body_count > 0;
    uint32_t kept = 0;

    if (r->asked)
        drop_spoilt(fields);
    for (uint32_t i = 0; i < fields->count; i++) {
        struct field field = fields->list[i];

        if (has_bodies && slice_equal_case(field.name, SLICE("accept-encoding")))
            continue;
        if (has_bodies && slice_equal_case(field.name, SLICE("if-match")))
            field.value = strengthen(arena, field.value);
        if (r->config->has_requests && IS_ONE_OF(field.name, request_fields))
            field.value = urls_rewrite(&r->to_inner, arena, field.value);
        else if (r->config->has_requests && slice_equal_case(field.name, SLICE("origin")))
            field.value = rewrite_origin(&r->to_inner, arena, field.value);
        fields->list[kept++] = field;
    }
    fields->count = kept;
    if (has_bodies)
        fields_add(fields, arena, FIELD_OTHER, SLICE("accept-encoding"), SLICE("identity"));
}

struct content rewrite_length(const struct crossing *c, struct content content) {
    return c->rewrite->asked ? (struct content){CONTENT_CHUNKED, 0} : content;
}

void rewrite_respond(struct crossing *c) {
    struct exchange *x = &c->x;
    struct rewrite *r = c->rewrite;
    struct fields *fields = &x->response_head.fields;
    unsigned status = x->response_head.status;

    rewrite_fields(c, fields);
    if (status == 304 && r->config->body_count > 0) { /* it may be of content that was rewritten */
        drop_spoilt(fields);
        weaken_etag(c, fields);
    }
    if (status == 101 || status == 304 || !may_be_rewritten(c, fields))
        return;
    drop_spoilt(fields);
    weaken_etag(c, fields);
    fields_add(fields, &x->arena, FIELD_OTHER, SLICE("accept-ranges"), SLICE("none"));
    if (x->response_content.kind == CONTENT_NONE || x->request_head.method == METHOD_HEAD)
        return; /* there is no more than the head */
    begin_body(c, &x->response, &r->answered, &r->to_outer, &response_filter);
    x->response_content = (struct content){CONTENT_CHUNKED, 0};
}

/* Link in 103 (RFC 8297). */
static void rewrite_informational(struct exchange *x, struct response_head *head) {
    rewrite_fields(crossing_of(x), &head->fields);
}

/* --- What the client calls us ---------------------------------------------------------------- */

static bool find_outer(struct crossing *c, struct config_url *outer) {
    const struct exchange *x = &c->x;
    struct slice own = x->is_secure ? SLICE("https") : SLICE("http"), scheme, host;

    if (c->route->rewrite->outer.rest) {
        *outer = c->route->rewrite->outer;
        return true;
    }
    scheme = said(c, FIELD_X_FORWARDED_PROTO, own);
    host = said(c, FIELD_X_FORWARDED_HOST, x->request_head.authority);
    if (!is_host(host))
        return false;
    *outer = (struct config_url){
        .is_secure = slice_equal_case(scheme, SLICE("https")),
        .rest = (char *)arena_printf(&c->x.arena, "%.*s", SLICE_ARG(host)).base,
        .authority = host.len,
        .has_port = true, /* or none: nothing is compared with it */
    };
    return true;
}

/* The first of what a trusted client says, who is next to the user. */
static struct slice said(struct crossing *c, enum field_id id, struct slice otherwise) {
    const struct field *field = c->is_trusted ? fields_find(&c->x.request_head.fields, id) : NULL;
    struct slice list = field ? field->value : SLICE_NONE, first;

    return slice_next_element(&list, &first) ? first : otherwise;
}

/* It is put into JSON and into fields: nothing may be in it that has a meaning there. */
static bool is_host(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum((unsigned char)text.base[i]) &&
            (!text.base[i] || !strchr("-._~:[]", text.base[i])))
            return false;
    return text.len > 0;
}

/* --- Fields ---------------------------------------------------------------------------------- */

static void rewrite_fields(struct crossing *c, struct fields *fields) {
    const struct rewrite *r = c->rewrite;
    struct arena *arena = &c->x.arena;

    for (uint32_t i = 0; i < fields->count; i++) {
        struct field *field = &fields->list[i];

        if (IS_ONE_OF(field->name, response_fields))
            field->value = urls_rewrite(&r->to_outer, arena, field->value);
        else if (slice_equal_case(field->name, SLICE("access-control-allow-origin")))
            field->value = rewrite_origin(&r->to_outer, arena, field->value);
        else if (field->id == FIELD_SET_COOKIE)
            field->value = free_cookie(r, arena, field->value);
    }
}

static bool may_be_rewritten(const struct crossing *c, const struct fields *fields) {
    static struct log_limit limit = LOG_LIMIT(COMPRESSED_PER_S);
    const struct config_rewrite *config = c->route->rewrite;
    const struct field *type = fields_find(fields, FIELD_CONTENT_TYPE);

    if (fields_find(fields, FIELD_CONTENT_RANGE))
        return false;
    for (size_t i = 0; type && i < config->body_count; i++) {
        if (!media_type_is(type->value, slice_str(config->bodies[i])))
            continue;
        if (!is_encoded(fields))
            return true;
        log_limited(
            &limit, LOG_WARN,
            "cannot rewrite URLs in content of type '%.*s' on route '%s': it is compressed; "
            "have its sender not do that",
            SLICE_ARG(type->value), c->route->name);
        return false;
    }
    return false;
}

static bool is_encoded(const struct fields *fields) {
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id == FIELD_CONTENT_ENCODING &&
            !slice_equal_case(fields->list[i].value, SLICE("identity")))
            return true;
    return false;
}

static bool is_one_of(struct slice name, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (slice_equal_case(name, slice_str(list[i])))
            return true;
    return false;
}

static void drop_spoilt(struct fields *fields) {
    uint32_t kept = 0;

    for (uint32_t i = 0; i < fields->count; i++)
        if (!IS_ONE_OF(fields->list[i].name, spoilt_fields) &&
            !slice_equal_case(fields->list[i].name, SLICE("accept-ranges")))
            fields->list[kept++] = fields->list[i];
    fields->count = kept;
}

static void weaken_etag(struct crossing *c, struct fields *fields) {
    for (uint32_t i = 0; i < fields->count; i++) {
        struct slice *value = &fields->list[i].value;

        if (slice_equal_case(fields->list[i].name, SLICE("etag")) &&
            slice_starts(*value, SLICE("\"")))
            *value = ARENA_JOIN(&c->x.arena, SLICE("W/"), *value);
    }
}

/* If-Match compares strongly (RFC 9110 section 13.1.1): what we have weakened would never match. */
static struct slice strengthen(struct arena *arena, struct slice tags) {
    char *text = arena_alloc(arena, 2 * tags.len), *to = text; /* a comma becomes two bytes */
    struct slice tag;

    while (slice_next_element(&tags, &tag)) {
        if (to > text)
            to = slice_write(to, SLICE(", "));
        to = slice_write(to, slice_starts(tag, SLICE("W/\"")) ? slice_skip(tag, 2) : tag);
    }
    return slice_of(text, (size_t)(to - text));
}

/* An origin is a base URL without a path (RFC 6454 section 7), whatever path there is in front of
 * the engine, or of what it serves. */
static struct slice rewrite_origin(const struct urls_map *map, struct arena *arena,
                                   struct slice value) {
    struct config_url *from = arena_alloc(arena, map->count * sizeof *from);

    for (size_t i = 0; i < map->count; i++)
        from[i] = origin_of(&map->from[i], arena);
    return urls_rewrite(&(struct urls_map){from, map->count, origin_of(&map->to, arena)}, arena,
                        value);
}

static struct config_url origin_of(const struct config_url *url, struct arena *arena) {
    struct config_url origin = *url;

    if (url->rest[url->authority] != '\0')
        origin.rest = (char *)arena_printf(arena, "%.*s", (int)url->authority, url->rest).base;
    return origin;
}

/* Without a Domain (RFC 6265 section 4.1.2.3) that is the engine's: a browser would refuse it, and
 * without one it belongs to whom it got it from. */
static struct slice free_cookie(const struct rewrite *r, struct arena *arena, struct slice value) {
    struct slice rest = value;
    const char *end;

    while (rest.len > 0 && (end = memchr(rest.base, ';', rest.len))) {
        struct slice front = slice_of(value.base, (size_t)(end - value.base)), attribute;

        rest = slice_skip(rest, (size_t)(end + 1 - rest.base));
        end = rest.len > 0 ? memchr(rest.base, ';', rest.len) : NULL;
        attribute = slice_trim(slice_of(rest.base, end ? (size_t)(end - rest.base) : rest.len));
        if (attribute.len < 7 || !slice_equal_case(slice_of(attribute.base, 7), SLICE("domain=")) ||
            !is_inner_host(r, slice_trim(slice_skip(attribute, 7))))
            continue;
        return ARENA_JOIN(arena, front,
                          end ? slice_skip(rest, (size_t)(end - rest.base)) : SLICE_NONE);
    }
    return value;
}

static bool is_inner_host(const struct rewrite *r, struct slice host) {
    if (slice_starts(host, SLICE(".")))
        host = slice_skip(host, 1);
    for (size_t i = 0; i < r->config->inner_count; i++) {
        const struct config_url *url = &r->config->inner[i];
        struct slice own = slice_of(url->rest, url->authority);

        if (url->has_port)
            own.len = (size_t)((const char *)memrchr(own.base, ':', own.len) - own.base);
        if (slice_equal_case(host, own))
            return true;
    }
    return false;
}

/* --- Content --------------------------------------------------------------------------------- */

static void begin_body(struct crossing *c, struct body *body, struct urls **urls,
                       const struct urls_map *map, const struct body_filter *filter) {
    *urls = arena_alloc(&c->x.arena, sizeof **urls);
    urls_init(*urls, map, emit, body);
    body_set_filter(body, filter);
}

static void push_request(struct body *body, struct slice bytes) {
    urls_push(crossing_of(CONTAINER_OF(body, struct exchange, request))->rewrite->asked, bytes);
}

static void end_request(struct body *body) {
    drop_spoilt(&body->trailers);
    urls_end(crossing_of(CONTAINER_OF(body, struct exchange, request))->rewrite->asked);
}

static void push_response(struct body *body, struct slice bytes) {
    urls_push(crossing_of(CONTAINER_OF(body, struct exchange, response))->rewrite->answered, bytes);
}

static void end_response(struct body *body) {
    drop_spoilt(&body->trailers);
    urls_end(crossing_of(CONTAINER_OF(body, struct exchange, response))->rewrite->answered);
}

static void emit(void *ctx, struct slice text, bool is_stable) {
    if (is_stable)
        body_pass(ctx, text);
    else
        body_pass_copy(ctx, text);
}
