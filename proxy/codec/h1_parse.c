/* HTTP/1 heads. The fast path: h1_split() finds the parts of a head that is complete and without a
 * fault in its lines, the head is copied in one piece and the slices point into the copy. Any other
 * goes to h1_check_lines(), which finds the first fault and names it. */
#include "codec/h1_parse.h"

#include "codec/h1_parts.h"

#define FIELDS_SPARE 8 /* room for what a gateway adds, without growing */

struct hosts {
    unsigned count;
    struct slice last;
};

static struct h1_limits bounds(const struct h1_limits *limits, size_t blank);
static size_t split_new(struct slice in, size_t seen, const struct h1_limits *limits,
                        enum h1_start start, struct h1_split *split);
static enum h1_outcome find_fault(struct slice in, size_t seen, const struct h1_limits *limits,
                                  enum h1_start start, const char **why) __attribute__((cold));
static const char *copy_head(struct arena *arena, struct slice in, size_t len);
static struct slice part_of(const char *copy, struct h1_part part);
static void take_fields(struct fields *fields, struct arena *arena, const char *copy,
                        const struct h1_split *split, struct hosts *hosts);
static const char *take_host(struct request_head *head, const struct hosts *hosts);

enum h1_outcome h1_parse_request(struct slice in, size_t seen, const struct h1_limits *limits,
                                 struct arena *arena, struct request_head *head,
                                 struct content *content, size_t *used, const char **why) {
    size_t blank = in.len >= 2 && memcmp(in.base, "\r\n", 2) == 0 ? 2 : 0, len;
    struct h1_limits bound = bounds(limits, blank);
    struct hosts hosts = {0};
    enum h1_outcome outcome;
    struct h1_split split;
    const char *copy;

    if (in.len == blank)
        return H1_PARTIAL;
    in = slice_skip(in, blank);
    seen = seen > blank ? seen - blank : 0;
    len = split_new(in, seen, &bound, H1_START_REQUEST, &split);
    if (len == 0)
        return find_fault(in, seen, &bound, H1_START_REQUEST, why);

    copy = copy_head(arena, in, len);
    *head = (struct request_head){
        .version = split.version,
        .method_text = part_of(copy, split.method),
    };
    head->method = method_of(head->method_text);
    if (h1_split_target(head, part_of(copy, split.target)))
        return find_fault(in, seen, &bound, H1_START_REQUEST, why);
    if (head->path.len > 0 && head->path.base[0] == '?')
        head->path = ARENA_JOIN(arena, SLICE("/"), head->path);
    take_fields(&head->fields, arena, copy, &split, &hosts);

    *used = blank + len;
    *why = take_host(head, &hosts);
    if (*why)
        return H1_BAD;
    outcome = h1_frame_content(&head->fields, head->version, content, why);
    if (outcome == H1_DONE && !h1_is_expectable(head)) {
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
    struct h1_split split;
    const char *copy;
    size_t len;

    if (in.len == 0)
        return H1_PARTIAL;
    len = split_new(in, seen, &bound, H1_START_STATUS, &split);
    if (len == 0)
        return find_fault(in, seen, &bound, H1_START_STATUS, why);

    copy = copy_head(arena, in, len);
    *head = (struct response_head){
        .status = split.status,
        .version = split.version,
        .reason = part_of(copy, split.reason),
    };
    take_fields(&head->fields, arena, copy, &split, NULL);
    *used = len;
    if (h1_frame_content(&head->fields, head->version, content, why) != H1_DONE)
        return H1_BAD;
    if (head->status == 101 || (method == METHOD_CONNECT && head->status / 100 == 2))
        *content = (struct content){CONTENT_TUNNEL, 0};
    else if (method == METHOD_HEAD || head->status < 200 || head->status == 204 ||
             head->status == 304)
        *content = (struct content){CONTENT_NONE, 0};
    else if (content->kind == CONTENT_NONE)
        content->kind = CONTENT_CLOSE;
    return H1_DONE;
}

enum h1_outcome h1_parse_trailers(struct slice in, size_t seen, const struct h1_limits *limits,
                                  struct arena *arena, struct fields *trailers, size_t *used,
                                  const char **why) {
    struct h1_limits bound = bounds(limits, 0);
    struct h1_split split;
    size_t len;

    if (in.len == 0)
        return H1_PARTIAL;
    len = split_new(in, seen, &bound, H1_START_NONE, &split);
    if (len == 0)
        return find_fault(in, seen, &bound, H1_START_NONE, why);
    *trailers = (struct fields){0};
    if (split.count > 0)
        take_fields(trailers, arena, copy_head(arena, in, len), &split, NULL);
    *used = len;
    return H1_DONE;
}

static struct h1_limits bounds(const struct h1_limits *limits, size_t blank) {
    struct h1_limits bound = *limits;

    bound.head_bytes -= blank < bound.head_bytes ? blank : bound.head_bytes;
    if (bound.fields > H1_FIELDS_MAX)
        bound.fields = H1_FIELDS_MAX;
    return bound;
}

/* A head that was not complete is split again only when its end has come, so that one in many small
 * pieces costs linear time. */
static size_t split_new(struct slice in, size_t seen, const struct h1_limits *limits,
                        enum h1_start start, struct h1_split *split) {
    size_t from = seen > 3 ? seen - 3 : 0;
    bool is_empty = start == H1_START_NONE && in.len >= 2 && memcmp(in.base, "\r\n", 2) == 0;

    if (seen > 0 && !is_empty && !memmem(in.base + from, in.len - from, "\r\n\r\n", 4))
        return 0;
    return h1_split(in, limits, start, split);
}

static enum h1_outcome find_fault(struct slice in, size_t seen, const struct h1_limits *limits,
                                  enum h1_start start, const char **why) {
    enum h1_outcome outcome = h1_check_lines(in, seen, limits, start, why);

    if (outcome != H1_DONE)
        return outcome;
    *why = "malformed head"; /* the two ways disagree: never seen */
    return H1_BAD;
}

static const char *copy_head(struct arena *arena, struct slice in, size_t len) {
    return arena_copy(arena, slice_of(in.base, len)).base;
}

static struct slice part_of(const char *copy, struct h1_part part) {
    return slice_of(copy + part.at, part.len);
}

/* Host goes to @hosts when there is one. */
static void take_fields(struct fields *fields, struct arena *arena, const char *copy,
                        const struct h1_split *split, struct hosts *hosts) {
    const struct h1_line *end = split->lines + split->count;
    struct field *to;
    uint64_t ids = 0;

    fields->cap = split->count + FIELDS_SPARE;
    fields->list = to = arena_alloc(arena, fields->cap * sizeof *to);
    for (const struct h1_line *line = split->lines; line < end; line++) {
        struct slice name = part_of(copy, line->name), value = part_of(copy, line->value);
        enum field_id id = field_id_of(name);

        if (id == FIELD_HOST && hosts) {
            hosts->count++;
            hosts->last = value;
            continue;
        }
        *to++ = (struct field){name, value, id, false};
        ids |= FIELD_BIT(id);
    }
    fields->ids = ids;
    fields->count = (uint32_t)(to - fields->list);
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
bool h1_is_expectable(const struct request_head *head) {
    const struct field *field = fields_find(&head->fields, FIELD_EXPECT);

    for (; field && head->version >= HTTP_1_1; field = fields_find_next(&head->fields, field))
        if (!slice_equal_case(field->value, SLICE("100-continue")))
            return false;
    return true;
}

enum fail h1_request_fail(enum h1_outcome outcome) {
    switch (outcome) {
    case H1_TARGET_LONG:
        return FAIL_TARGET_LONG;
    case H1_HEAD_LARGE:
        return FAIL_HEAD_LARGE;
    case H1_VERSION:
        return FAIL_VERSION;
    case H1_NOT_CODED:
        return FAIL_TRANSFER_CODING;
    case H1_EXPECT:
        return FAIL_EXPECTATION;
    case H1_DONE:
    case H1_PARTIAL:
    case H1_BAD:
        break;
    }
    return FAIL_REQUEST_MALFORMED;
}
