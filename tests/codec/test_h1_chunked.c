/* One row per promise of h1_chunked.h. Every input is decoded in one piece, cut in two at every
 * place, and byte by byte: outcome, content and trailers must be the same. */
#include "codec/h1_chunked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct h1_limits limits = {.head_bytes = 64, .fields = 3};

struct row {
    const char *promise;
    const char *in;
    enum h1_chunk_outcome outcome;
    const char *expect; /* END: "content|trailers|rest"; otherwise the reason; NULL: any */
};

#define SIZE "malformed chunk size line"
#define CONTENT "chunk content does not end in CRLF"
#define SIXTEEN "0123456789abcdef"
#define SIXTY_FOUR SIXTEEN SIXTEEN SIXTEEN SIXTEEN

static const struct row rows[] = {
    {"the last chunk alone", "0\r\n\r\n", H1_CHUNK_END, "||"},
    {"chunks are joined", "3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n", H1_CHUNK_END,
     "abc0123456789||"},
    {"sizes in either case", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", H1_CHUNK_END,
     "01234567890123456789||"},
    {"content may look like anything", "4\r\n\r\n0\r\r\n0\r\n\r\n", H1_CHUNK_END, "\r\n0\r||"},
    {"what follows is left alone", "0\r\n\r\nGET", H1_CHUNK_END, "||GET"},
    {"several zeros end it too", "0000\r\n\r\n", H1_CHUNK_END, "||"},
    {"more is needed", "3\r\nab", H1_CHUNK_MORE, NULL},

    {"no empty size", "\r\nabc", H1_CHUNK_BAD, SIZE},
    {"no size that is no number", "xyz\r\n", H1_CHUNK_BAD, SIZE},
    {"no junk behind a size", "3xyz\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no 0x", "0x3\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no sign", "+3\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no minus", "-3\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no space before a size", " 3\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no space behind a size", "3 \r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no bare LF behind a size", "3\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no bare CR behind a size", "3\rabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no bare LF behind content", "3\r\nabc\n0\r\n\r\n", H1_CHUNK_BAD, CONTENT},
    {"no bare CR behind content", "3\r\nabc\r0\r\n\r\n", H1_CHUNK_BAD, CONTENT},
    {"no content beyond its size", "3\r\nabcd\r\n", H1_CHUNK_BAD, CONTENT},
    {"no size beyond 63 bits", "8000000000000000\r\n", H1_CHUNK_BAD, "chunk size is too large"},
    {"no size that wraps around", "10000000000000003\r\nabc\r\n", H1_CHUNK_BAD,
     "chunk size is too large"},
    {"no endless zeros", "00000000000000003\r\nabc\r\n", H1_CHUNK_BAD, "chunk size is too large"},
    {"the largest size", "7fffffffffffffff\r\nabc", H1_CHUNK_MORE, NULL},

    {"no CR in a quoted value", "3;a;b=c;d=\"e;\\\"\r\";f\r\nabc\r\n0;x\r\n\r\n", H1_CHUNK_BAD,
     SIZE},
    {"extensions are skipped",
     "3;a;b=c;d=\"e;\\\"\t\";f \t; g = h ; i=\"\" ;j\r\nabc\r\n0;x\r\n\r\n", H1_CHUNK_END, "abc||"},
    {"an extension has a name", "3;\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"an extension's name is a token", "3;a@\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"an extension's value is there", "3;a=\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"a quoted value ends", "3;a=\"b\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"nothing follows a quoted value", "3;a=\"b\"c\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no bare LF in an extension", "3;a\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no control character in a quoted value", "3;a=\"\x01\"\r\nabc\r\n", H1_CHUNK_BAD, SIZE},
    {"no space at the end of a size line", "3;a \r\nabc\r\n", H1_CHUNK_BAD, SIZE},

    {"trailers", "0\r\nA: b\r\nC:  d \r\n\r\n", H1_CHUNK_END, "|A=b C=d |"},
    {"what follows trailers is left alone", "0\r\nA: b\r\n\r\nGET", H1_CHUNK_END, "|A=b |GET"},
    {"trailers that control are dropped", "0\r\nConnection: a\r\nB: c\r\nAuthorization: d\r\n\r\n",
     H1_CHUNK_END, "|B=c |"},
    {"no Content-Length in trailers", "0\r\nContent-Length: 1\r\n\r\n", H1_CHUNK_BAD,
     "trailer section has a framing or routing field"},
    {"no Transfer-Encoding in trailers", "0\r\nTransfer-Encoding: chunked\r\n\r\n", H1_CHUNK_BAD,
     "trailer section has a framing or routing field"},
    {"no Host in trailers", "0\r\nhost: a\r\n\r\n", H1_CHUNK_BAD,
     "trailer section has a framing or routing field"},
    {"no bare LF in trailers", "0\r\nA: b\n\r\n", H1_CHUNK_BAD, "line ends in LF without CR"},
    {"no bare LF behind trailers", "0\r\n\n", H1_CHUNK_BAD, "line ends in LF without CR"},
    {"no bare CR behind trailers", "0\r\n\rX", H1_CHUNK_BAD, "CR without LF"},
    {"no obs-fold in trailers", "0\r\nA: b\r\n c\r\n\r\n", H1_CHUNK_BAD, "field line is folded"},
    {"no space before a colon in trailers", "0\r\nA : b\r\n\r\n", H1_CHUNK_BAD,
     "field name has a space before its colon"},
    {"no next request for a trailer", "0\r\nGET / HTTP/1.1\r\n\r\n", H1_CHUNK_BAD,
     "field line has no colon"},
    {"three trailers", "0\r\nA:\r\nB:\r\nC:\r\n\r\n", H1_CHUNK_END, "|A= B= C= |"},
    {"four trailers", "0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n", H1_CHUNK_LARGE, "too many fields"},
    {"a large trailer", "0\r\nA: " SIXTY_FOUR "\r\n\r\n", H1_CHUNK_LARGE, "too many bytes"},
    {"a trailer section of 64 bytes", "0\r\nA: " SIXTEEN SIXTEEN SIXTEEN "012345678\r\n\r\n",
     H1_CHUNK_END, "|A=" SIXTEEN SIXTEEN SIXTEEN "012345678 |"},
    {"a trailer section of 65 bytes", "0\r\nA: " SIXTEEN SIXTEEN SIXTEEN "0123456789\r\n\r\n",
     H1_CHUNK_LARGE, "too many bytes"},
};

struct result {
    enum h1_chunk_outcome outcome;
    const char *why;
    struct buffer text;
};

/* Feeds @in up to @len; returns false once it is over. */
static bool feed(struct h1_chunked *chunked, const char *from, size_t len, struct arena *arena,
                 struct result *result) {
    char *copy = malloc(len ? len : 1); /* exactly as long */
    struct slice in = slice_of(copy, len), data;
    struct fields trailers = {0};

    assert_non_null(copy);
    memcpy(copy, from, len);
    do {
        result->outcome =
            h1_chunked_next(chunked, &in, &data, &limits, arena, &trailers, &result->why);
        if (result->outcome == H1_CHUNK_DATA) {
            assert_true(data.len > 0);
            buffer_append(&result->text, data);
        }
    } while (result->outcome == H1_CHUNK_DATA);
    len = in.len;
    free(copy);
    if (result->outcome == H1_CHUNK_MORE)
        assert_int_equal(len, 0);
    if (result->outcome == H1_CHUNK_END) {
        buffer_append_char(&result->text, '|');
        for (uint32_t i = 0; i < trailers.count; i++)
            buffer_printf(&result->text, "%.*s=%.*s ", SLICE_ARG(trailers.list[i].name),
                          SLICE_ARG(trailers.list[i].value));
    }
    return result->outcome == H1_CHUNK_MORE;
}

/* In pieces of @first, then @step bytes. */
static struct result decode(const char *in, size_t first, size_t step) {
    size_t len = strlen(in), at = 0, take = first;
    struct result result = {0};
    struct h1_chunked chunked;
    char memory[1024];
    struct arena arena;

    arena_init(&arena, memory, sizeof memory);
    h1_chunked_init(&chunked);
    while (feed(&chunked, in + at, take, &arena, &result) && at + take < len) {
        at += take;
        take = len - at < step ? len - at : step;
    }
    h1_chunked_deinit(&chunked);
    arena_deinit(&arena);
    return result;
}

static void assert_same(const struct row *row, struct result whole, struct result part) {
    assert_int_equal(part.outcome, whole.outcome);
    if (whole.outcome == H1_CHUNK_BAD || whole.outcome == H1_CHUNK_LARGE)
        assert_string_equal(part.why, whole.why);
    else
        assert_true(slice_equal(buffer_slice(&part.text), buffer_slice(&whole.text)));
    buffer_deinit(&part.text);
}

static void check(void **state) {
    const struct row *row = *state;
    size_t len = strlen(row->in);
    struct result whole = decode(row->in, len, len);

    assert_int_equal(whole.outcome, row->outcome);
    for (size_t cut = 0; cut <= len; cut++)
        assert_same(row, whole, decode(row->in, cut, len));
    assert_same(row, whole, decode(row->in, 1, 1));
    if (whole.outcome == H1_CHUNK_END) {
        struct slice expect = slice_str(row->expect);
        const char *rest = strrchr(row->expect, '|') + 1;

        expect.len -= strlen(rest);
        buffer_append_char(&whole.text, '|');
        assert_true(slice_equal(buffer_slice(&whole.text), expect));
    } else if (row->expect) {
        assert_string_equal(whole.why, row->expect);
    }
    buffer_deinit(&whole.text);
}

static void content_is_not_copied(void **state) {
    static const char in[] = "5\r\nhello\r\n";
    struct slice rest = slice_of(in, sizeof in - 1), data;
    struct h1_chunked chunked;
    const char *why;

    h1_chunked_init(&chunked);
    assert_int_equal(h1_chunked_next(&chunked, &rest, &data, &limits, NULL, NULL, &why),
                     H1_CHUNK_DATA);
    assert_ptr_equal(data.base, in + 3);
    assert_int_equal(data.len, 5);
    h1_chunked_deinit(&chunked);
}

/* Repeats @unit until the decoder refuses it; returns how often that was. */
static unsigned repeat(const char *first, const char *unit, unsigned max, const char *expect) {
    struct h1_chunked chunked;
    struct slice in, data;
    const char *why = "";
    unsigned count = 0;

    h1_chunked_init(&chunked);
    for (in = slice_str(first); in.len > 0;)
        assert_in_range(h1_chunked_next(&chunked, &in, &data, &limits, NULL, NULL, &why),
                        H1_CHUNK_MORE, H1_CHUNK_DATA);
    for (; count < max; count++) {
        enum h1_chunk_outcome outcome = H1_CHUNK_MORE;

        for (in = slice_str(unit); in.len > 0 && outcome <= H1_CHUNK_DATA;)
            outcome = h1_chunked_next(&chunked, &in, &data, &limits, NULL, NULL, &why);
        if (outcome == H1_CHUNK_BAD)
            break;
    }
    if (count < max)
        assert_string_equal(why, expect);
    h1_chunked_deinit(&chunked);
    return count;
}

static void a_size_line_has_a_bound(void **state) {
    assert_int_equal(repeat("1;", "a", 2000, "chunk size line is too long"), H1_CHUNK_LINE_MAX - 2);
}

static void extensions_have_a_bound(void **state) {
    assert_int_equal(
        repeat("", "1;" SIXTY_FOUR "\r\na\r\n", 1000, "chunk extensions outweigh the content"),
        H1_CHUNK_OVERHEAD_MAX / 64 - 1);
}

static void content_pays_for_extensions(void **state) {
    assert_int_equal(repeat("", "10;a23456789abcdef\r\n" SIXTEEN "\r\n", 5000, NULL), 5000);
}

static void small_chunks_are_no_attack(void **state) {
    assert_int_equal(repeat("", "1\r\na\r\n", 100000, NULL), 100000);
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

int main(void) {
    struct CMUnitTest tests[COUNT(rows) + 5] = {
        cmocka_unit_test(content_is_not_copied),      cmocka_unit_test(a_size_line_has_a_bound),
        cmocka_unit_test(extensions_have_a_bound),    cmocka_unit_test(content_pays_for_extensions),
        cmocka_unit_test(small_chunks_are_no_attack),
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        tests[5 + i] =
            (struct CMUnitTest){rows[i].promise, check, NULL, NULL, (void *)(uintptr_t)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
