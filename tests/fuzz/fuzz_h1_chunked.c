/* Chunked content. The first byte is the length of the pieces that the input comes in. Invariants:
 * pieces change nothing; the decoder agrees with a plain reference that sees all input at once. */
#include "base/buffer.h"
#include "codec/h1_chunked.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct h1_limits limits = {.head_bytes = 256, .fields = 4};

struct result {
    enum h1_chunk_outcome outcome;
    const char *why;
    size_t used;
    uint32_t trailers;
    struct buffer content;
};

static struct result decode(struct slice in, size_t step) {
    static char memory[1 << 14];
    struct result r = {.outcome = H1_CHUNK_MORE, .why = ""};
    struct fields trailers = {0};
    struct h1_chunked chunked;
    struct arena arena;

    arena_init(&arena, memory, sizeof memory);
    h1_chunked_init(&chunked);
    while (r.outcome == H1_CHUNK_MORE && r.used < in.len) {
        struct slice left = slice_skip(in, r.used), data;

        if (left.len > step)
            left.len = step;
        do {
            r.outcome = h1_chunked_next(&chunked, &left, &data, &limits, &arena, &trailers, &r.why);
            if (r.outcome == H1_CHUNK_DATA) {
                assert(data.len > 0);
                buffer_append(&r.content, data);
            }
        } while (r.outcome == H1_CHUNK_DATA);
        assert(r.outcome != H1_CHUNK_MORE || left.len == 0);
        r.used = (size_t)(left.base - in.base);
    }
    r.trailers = trailers.count;
    h1_chunked_deinit(&chunked);
    arena_deinit(&arena);
    return r;
}

static int hex_of(char c) {
    const char *at = c ? strchr("0123456789abcdef", c >= 'A' && c <= 'F' ? c | 32 : c) : NULL;

    return at ? (int)(at - "0123456789abcdef") : -1;
}

/* Content of well-formed input up to its last chunk, extensions taken on trust; false: malformed or
 * unfinished. *@used is where the trailer section begins. */
static bool decode_plainly(struct slice in, struct buffer *content, size_t *used) {
    size_t at = 0;

    for (;;) {
        const char *end = in.len > at ? memmem(in.base + at, in.len - at, "\r\n", 2) : NULL;
        uint64_t length = 0;
        size_t digits = 0;

        for (; at < in.len && hex_of(in.base[at]) >= 0; at++, digits++)
            length = length << 4 | (uint64_t)hex_of(in.base[at]);
        if (!end || digits == 0 || digits > 16 || length > INT64_MAX)
            return false;
        at = (size_t)(end - in.base) + 2;
        if (length == 0) {
            *used = at;
            return true;
        }
        if (length > in.len - at || in.len - at - length < 2 ||
            memcmp(in.base + at + length, "\r\n", 2) != 0)
            return false;
        buffer_append(content, slice_of(in.base + at, length));
        at += length + 2;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct result whole, part;
    struct buffer plain = {0};
    struct slice in;
    size_t used;

    if (size < 1)
        return 0;
    in = slice_of((const char *)data + 1, size - 1);
    whole = decode(in, SIZE_MAX);
    part = decode(in, data[0] ? data[0] : 1);
    assert(whole.outcome == part.outcome);
    assert(whole.outcome <= H1_CHUNK_END || strcmp(whole.why, part.why) == 0);
    assert(slice_equal(buffer_slice(&whole.content), buffer_slice(&part.content)));
    assert(whole.trailers == part.trailers);
    if (whole.outcome == H1_CHUNK_END) {
        assert(whole.used == part.used);
        assert(decode_plainly(in, &plain, &used));
        assert(slice_equal(buffer_slice(&whole.content), buffer_slice(&plain)));
        assert(whole.used >= used + 2 && memcmp(in.base + whole.used - 2, "\r\n", 2) == 0);
        assert(whole.used == used + 2 || memcmp(in.base + whole.used - 4, "\r\n", 2) == 0);
        assert(whole.trailers <= limits.fields);
    }
    buffer_deinit(&plain);
    buffer_deinit(&whole.content);
    buffer_deinit(&part.content);
    return 0;
}
