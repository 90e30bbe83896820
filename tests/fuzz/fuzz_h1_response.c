/* Response heads. The first byte says where the input is cut and what the request was. Invariants:
 * cutting changes nothing; the two ways through h1_parse_response() agree; what is accepted has
 * only proper lines, and written again it is the same head; libh2o's parser reads it in the same
 * way. */
#include "../codec/picohttp.h"
#include "base/buffer.h"
#include "codec/h1_write.h"
#include "h1_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum method method;

struct result {
    enum h1_outcome outcome;
    struct response_head head;
    struct content content;
    size_t used;
    const char *why;
};

static struct result parse(struct slice in, size_t seen, const struct h1_limits *bounds,
                           struct arena *arena) {
    struct result r = {.why = ""};

    r.outcome =
        h1_parse_response(in, seen, bounds, method, arena, &r.head, &r.content, &r.used, &r.why);
    return r;
}

static void check_same(const struct result *a, const struct result *b) {
    assert(a->outcome == b->outcome);
    if (a->outcome != H1_DONE) {
        assert(a->outcome == H1_PARTIAL || strcmp(a->why, b->why) == 0);
        return;
    }
    assert(a->used == b->used && a->head.status == b->head.status);
    assert(slice_equal(a->head.reason, b->head.reason));
    h1_fuzz_same_fields(&a->head.fields, &b->head.fields);
}

static void check_again(const struct result *first, struct arena *arena) {
    struct buffer out = {0};
    struct result again;

    h1_write_response(&out, &first->head, first->content, SLICE(""), false);
    again = parse(buffer_slice(&out), 0, &h1_fuzz_wide, arena);
    assert(again.outcome == H1_DONE && again.used == out.len);
    assert(again.head.status == first->head.status);
    assert(slice_equal(again.head.reason, first->head.reason));
    assert(again.content.kind == first->content.kind &&
           again.content.length == first->content.length);
    h1_fuzz_same_fields(&first->head.fields, &again.head.fields);
    buffer_deinit(&out);
}

/* libh2o's parser sees the same parts. */
static void ask_picohttp(struct slice in, const struct result *r) {
    struct phr_header raw[16];
    size_t reason_len, count = 16;
    const char *reason;
    int minor, status,
        len = phr_parse_response(in.base, in.len, &minor, &status, &reason, &reason_len, raw,
                                 &count, 0);

    assert(len == (int)r->used && status == (int)r->head.status);
    assert((minor == 0) == (r->head.version == HTTP_1_0));
    assert(slice_equal(slice_of(reason, reason_len), r->head.reason));
    assert(r->head.fields.count == count);
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &r->head.fields.list[i];

        assert(slice_equal(field->name, slice_of(raw[i].name, raw[i].name_len)));
        assert(slice_equal(field->value, slice_trim(slice_of(raw[i].value, raw[i].value_len))));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char memory[1 << 16];
    struct result whole, part;
    struct arena arena;
    struct slice in;
    size_t cut;

    if (size < 1)
        return 0;
    method = data[0] % 3 == 0 ? METHOD_HEAD : data[0] % 3 == 1 ? METHOD_CONNECT : METHOD_GET;
    in = slice_of((const char *)data + 1, size - 1);
    arena_init(&arena, memory, sizeof memory);
    whole = parse(in, 0, &h1_fuzz_limits, &arena);
    assert(whole.outcome != H1_BAD || strcmp(whole.why, "malformed head") != 0);
    cut = data[0] * in.len / 255;
    part = parse(slice_of(in.base, cut), 0, &h1_fuzz_limits, &arena);
    if (part.outcome == H1_PARTIAL)
        part = parse(in, cut, &h1_fuzz_limits, &arena);
    check_same(&whole, &part);
    for (size_t len = 1; len <= in.len; len++) {
        part = parse(slice_of(in.base, len), len - 1, &h1_fuzz_limits, &arena);
        if (part.outcome != H1_PARTIAL)
            break;
    }
    if (in.len > 0)
        check_same(&whole, &part);
    if (whole.outcome == H1_DONE) {
        h1_fuzz_check_lines(slice_of(in.base, whole.used), 0, H1_START_STATUS);
        ask_picohttp(in, &whole);
        check_again(&whole, &arena);
    }
    arena_deinit(&arena);
    return 0;
}
