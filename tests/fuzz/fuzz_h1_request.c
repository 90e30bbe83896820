/* Request heads. The first byte says where the input is cut. Invariants: cutting changes nothing;
 * the two ways through h1_parse_request() agree; what is accepted has only proper lines, and
 * written again it is the same head; libh2o's parser reads it in the same way. */
#include "../codec/picohttp.h"
#include "base/buffer.h"
#include "codec/h1_write.h"
#include "h1_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    enum h1_outcome outcome;
    struct request_head head;
    struct content content;
    size_t used;
    const char *why;
};

static struct result parse(struct slice in, size_t seen, const struct h1_limits *bounds,
                           struct arena *arena) {
    struct result r = {.why = ""};

    r.outcome = h1_parse_request(in, seen, bounds, arena, &r.head, &r.content, &r.used, &r.why);
    return r;
}

static void check_same(const struct result *a, const struct result *b) {
    assert(a->outcome == b->outcome);
    if (a->outcome != H1_DONE) {
        assert(a->outcome == H1_PARTIAL || strcmp(a->why, b->why) == 0);
        return;
    }
    assert(a->used == b->used && a->head.form == b->head.form);
    assert(slice_equal(a->head.authority, b->head.authority));
    assert(slice_equal(a->head.path, b->head.path));
    h1_fuzz_same_fields(&a->head.fields, &b->head.fields);
}

static void check_again(const struct result *first, struct arena *arena) {
    struct buffer out = {0};
    struct result again;

    h1_write_request(&out, &first->head, first->content);
    again = parse(buffer_slice(&out), 0, &h1_fuzz_wide, arena);
    if (first->head.version == HTTP_1_0 && again.outcome == H1_EXPECT) {
        buffer_deinit(&out);
        return; /* was to be ignored on 1.0; a gateway removes it */
    }
    assert(again.outcome == H1_DONE && again.used == out.len);
    assert(again.head.method == first->head.method);
    assert(slice_equal(again.head.method_text, first->head.method_text));
    assert(slice_equal(again.head.authority, first->head.authority));
    assert(slice_equal(again.head.path, first->head.path));
    assert(again.content.kind == first->content.kind &&
           again.content.length == first->content.length);
    h1_fuzz_same_fields(&first->head.fields, &again.head.fields);
    buffer_deinit(&out);
}

/* libh2o's parser sees the same parts. */
static void ask_picohttp(struct slice in, const struct result *r) {
    const char *method, *target;
    size_t method_len, target_len, count = 16, hosts = 0;
    struct phr_header raw[16];
    int minor, len = phr_parse_request(in.base, in.len, &method, &method_len, &target, &target_len,
                                       &minor, raw, &count, 0);

    assert(len == (int)r->used);
    assert(slice_equal(slice_of(method, method_len), r->head.method_text));
    assert((minor == 0) == (r->head.version == HTTP_1_0));
    assert(r->head.form != TARGET_ORIGIN ||
           slice_equal(slice_of(target, target_len), r->head.path));
    for (size_t i = 0; i < count; i++) {
        struct slice name = slice_of(raw[i].name, raw[i].name_len);
        const struct field *field = &r->head.fields.list[i - hosts];

        if (slice_equal_case(name, SLICE("host"))) {
            hosts++;
            continue;
        }
        assert(slice_equal(field->name, name));
        assert(slice_equal(field->value, slice_trim(slice_of(raw[i].value, raw[i].value_len))));
    }
    assert(r->head.fields.count == count - hosts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char memory[1 << 16];
    struct result whole, part;
    struct arena arena;
    struct slice in;
    size_t cut;

    if (size < 1)
        return 0;
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
        h1_fuzz_check_lines(slice_of(in.base, whole.used), in.base[0] == '\r' ? 2 : 0,
                            H1_START_REQUEST);
        ask_picohttp(in, &whole);
        check_again(&whole, &arena);
    }
    arena_deinit(&arena);
    return 0;
}
