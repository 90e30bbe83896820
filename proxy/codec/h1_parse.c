/* HTTP/1 heads. The fast path: picohttpparser splits, a few checks close the gaps that it leaves
 * (see picohttp.h), the head is copied in one piece and its slices point into the copy. Whatever is
 * incomplete or in doubt goes to h1_check_lines(), which finds the first fault and names it. */
#include "codec/h1_parse.h"

#include "codec/h1_chars.h"
#include "codec/h1_parts.h"
#include "codec/picohttp.h"

#define FIELDS_SPARE 8 /* room for what a gateway adds, without growing */

/* The bytes of a head: where they came from and where they stay. */
struct copy {
    const char *from; /* borrowed: input */
    const char *to;   /* borrowed: arena */
};

struct hosts {
    unsigned count;
    struct slice last;
};

static struct h1_limits bounds(const struct h1_limits *limits, size_t blank);
static enum h1_outcome find_fault(struct slice in, size_t seen, const struct h1_limits *limits,
                                  enum h1_start start, const char **why);
static struct copy copy_head(struct arena *arena, const char *from, int len);
static struct slice moved(struct copy copy, const char *base, size_t len);
static bool take_fields(struct fields *fields, struct arena *arena, struct copy copy,
                        const struct phr_header *raw, size_t count, struct hosts *hosts);
static const char *take_host(struct request_head *head, const struct hosts *hosts);
static bool is_expectable(const struct request_head *head);

enum h1_outcome h1_parse_request(struct slice in, size_t seen, const struct h1_limits *limits,
                                 struct arena *arena, struct request_head *head,
                                 struct content *content, size_t *used, const char **why) {
    size_t blank = in.len >= 2 && memcmp(in.base, "\r\n", 2) == 0 ? 2 : 0;
    struct h1_limits bound = bounds(limits, blank);
    struct phr_header raw[H1_FIELDS_MAX];
    size_t count = bound.fields, method_len, target_len;
    const char *method, *target;
    struct hosts hosts = {0};
    struct copy copy;
    int minor, len;

    if (in.len == blank)
        return H1_PARTIAL;
    in = slice_skip(in, blank);
    seen = seen > blank ? seen - blank : 0;
    len = phr_parse_request(in.base, in.len, &method, &method_len, &target, &target_len, &minor,
                            raw, &count, seen);
    if (len <= 0 || (size_t)len > bound.head_bytes || target_len > bound.target_bytes ||
        method != in.base || method_len == 0 || method_len > H1_METHOD_MAX ||
        !h1_chars_are(slice_of(method, method_len), H1_CHAR_TOKEN) ||
        target[target_len + sizeof " HTTP/1.1" - 1] != '\r' || in.base[len - 2] != '\r')
        return find_fault(in, seen, &bound, H1_START_REQUEST, why);

    copy = copy_head(arena, in.base, len);
    *head = (struct request_head){
        .version = minor == 0 ? HTTP_1_0 : HTTP_1_1,
        .method_text = moved(copy, method, method_len),
    };
    head->method = method_of(head->method_text);
    if (h1_split_target(head, moved(copy, target, target_len)) ||
        !take_fields(&head->fields, arena, copy, raw, count, &hosts))
        return find_fault(in, seen, &bound, H1_START_REQUEST, why);
    if (head->path.len > 0 && head->path.base[0] == '?')
        head->path = arena_printf(arena, "/%.*s", SLICE_ARG(head->path));

    *used = blank + (size_t)len;
    *why = take_host(head, &hosts);
    if (*why)
        return H1_BAD;
    enum h1_outcome outcome = h1_frame_content(&head->fields, head->version, content, why);
    if (outcome == H1_DONE && !is_expectable(head)) {
        *why = "expectation is not 100-continue";
        return H1_EXPECT;
    }
    return outcome;
}

enum h1_outcome h1_parse_response(struct slice in, size_t seen, const struct h1_limits *limits,
                                  enum method method, struct arena *arena,
                                  struct response_head *head, struct content *content, size_t *used,
                                  const char **why) {
    struct h1_limits bound = bounds(limits, 0);
    struct phr_header raw[H1_FIELDS_MAX];
    size_t count = bound.fields, reason_len;
    int minor, status, len;
    const char *reason;
    struct copy copy;

    if (in.len == 0)
        return H1_PARTIAL;
    len = phr_parse_response(in.base, in.len, &minor, &status, &reason, &reason_len, raw, &count,
                             seen);
    if (len <= 0 || (size_t)len > bound.head_bytes || status < 100 ||
        reason != in.base + H1_REASON_AT || reason[reason_len] != '\r' || in.base[len - 2] != '\r')
        return find_fault(in, seen, &bound, H1_START_STATUS, why);

    copy = copy_head(arena, in.base, len);
    *head = (struct response_head){
        .status = (unsigned)status,
        .version = minor == 0 ? HTTP_1_0 : HTTP_1_1,
        .reason = moved(copy, reason, reason_len),
    };
    if (!take_fields(&head->fields, arena, copy, raw, count, NULL))
        return find_fault(in, seen, &bound, H1_START_STATUS, why);
    *used = (size_t)len;
    if (h1_frame_content(&head->fields, head->version, content, why) != H1_DONE)
        return H1_BAD;
    if (status == 101 || (method == METHOD_CONNECT && status / 100 == 2))
        *content = (struct content){CONTENT_TUNNEL, 0};
    else if (method == METHOD_HEAD || status < 200 || status == 204 || status == 304)
        *content = (struct content){CONTENT_NONE, 0};
    else if (content->kind == CONTENT_NONE)
        content->kind = CONTENT_CLOSE;
    return H1_DONE;
}

enum h1_outcome h1_parse_trailers(struct slice in, size_t seen, const struct h1_limits *limits,
                                  struct arena *arena, struct fields *trailers, size_t *used,
                                  const char **why) {
    struct h1_limits bound = bounds(limits, 0);
    struct phr_header raw[H1_FIELDS_MAX];
    size_t count = bound.fields;
    int len;

    *trailers = (struct fields){0};
    if (in.len >= 2 && memcmp(in.base, "\r\n", 2) == 0) {
        *used = 2;
        return H1_DONE;
    }
    if (in.len == 0)
        return H1_PARTIAL;
    len = phr_parse_headers(in.base, in.len, raw, &count, seen);
    if (len < 2 || (size_t)len > bound.head_bytes || in.base[len - 2] != '\r' ||
        !take_fields(trailers, arena, copy_head(arena, in.base, len), raw, count, NULL))
        return find_fault(in, seen, &bound, H1_START_NONE, why);
    *used = (size_t)len;
    return H1_DONE;
}

static struct h1_limits bounds(const struct h1_limits *limits, size_t blank) {
    struct h1_limits bound = *limits;

    bound.head_bytes -= blank < bound.head_bytes ? blank : bound.head_bytes;
    if (bound.fields > H1_FIELDS_MAX)
        bound.fields = H1_FIELDS_MAX;
    return bound;
}

static enum h1_outcome find_fault(struct slice in, size_t seen, const struct h1_limits *limits,
                                  enum h1_start start, const char **why) {
    enum h1_outcome outcome = h1_check_lines(in, seen, limits, start, why);

    if (outcome != H1_DONE)
        return outcome;
    *why = "malformed head"; /* the two parsers disagree: never seen */
    return H1_BAD;
}

static struct copy copy_head(struct arena *arena, const char *from, int len) {
    return (struct copy){from, arena_copy(arena, slice_of(from, (size_t)len)).base};
}

static struct slice moved(struct copy copy, const char *base, size_t len) {
    return slice_of(copy.to + (base - copy.from), len);
}

/* False: one of them is folded or ends without CR. Host goes to @hosts when there is one. */
static bool take_fields(struct fields *fields, struct arena *arena, struct copy copy,
                        const struct phr_header *raw, size_t count, struct hosts *hosts) {
    struct field *to;

    fields->cap = (uint32_t)count + FIELDS_SPARE;
    fields->list = to = arena_alloc(arena, fields->cap * sizeof *to);
    for (const struct phr_header *at = raw; at < raw + count; at++) {
        const char *end = at->value + at->value_len;

        if (!at->name || *end != '\r')
            return false;
        while (end > at->value && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        to->name = moved(copy, at->name, at->name_len);
        to->value = moved(copy, at->value, (size_t)(end - at->value));
        to->id = field_id_of(to->name);
        if (to->id == FIELD_HOST && hosts) {
            hosts->count++;
            hosts->last = to->value;
        } else {
            to++;
        }
    }
    fields->count = (uint32_t)(to - fields->list);
    return true;
}

/* RFC 9112 section 3.2: required since HTTP/1.1, once, well-formed; a host in the target wins. */
static const char *take_host(struct request_head *head, const struct hosts *hosts) {
    if (hosts->count == 0)
        return head->version == HTTP_1_0 ? NULL : "Host is missing";
    if (hosts->count > 1)
        return "Host is repeated";
    if (!h1_is_authority(hosts->last))
        return "Host is malformed";
    if (!head->authority.base)
        head->authority = hosts->last;
    return NULL;
}

/* RFC 9110 section 10.1.1; HTTP/1.0 knows no expectations. */
static bool is_expectable(const struct request_head *head) {
    const struct field *field = fields_find(&head->fields, FIELD_EXPECT);

    for (; field && head->version >= HTTP_1_1; field = fields_find_next(&head->fields, field))
        if (!slice_equal_case(field->value, SLICE("100-continue")))
            return false;
    return true;
}
