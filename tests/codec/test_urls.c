/* Tests proxy/codec/urls.c: what is a base URL, and that it does not matter how the text is cut. */
#include "codec/urls.h"

#include "base/buffer.h"
#include "support/unit.h"

#include <stdlib.h>

#define URL(text, n, secure, port) \
    { .rest = (char[]){text}, .authority = (n), .is_secure = (secure), .has_port = (port) }

static const struct config_url inner[] = {
    URL("localhost:8080", 14, false, true), URL("localhost:8080/api", 14, false, true),
    URL("[::1]:8080", 10, false, true),     URL("plain.test", 10, false, false),
    URL("safe.test/a/b", 9, true, false),
};
static const struct urls_map map = {inner, sizeof inner / sizeof *inner,
                                    URL("example.org/engine", 11, true, false)};

static const struct {
    const char *text, *expected; /* NULL: as it is */
} vectors[] = {
    {"", NULL},
    {"http://localhost:8080", "https://example.org/engine"},
    {"http://localhost:8080/x?y#z", "https://example.org/engine/x?y#z"},
    {"http://[::1]:8080/x", "https://example.org/engine/x"},
    {"HtTp://LOCALhost:8080/X", "https://example.org/engine/X"},
    {"ws://localhost:8080/x", "wss://example.org/engine/x"},
    {"wss://safe.test/a/b/c", "wss://example.org/engine/c"},
    {"https://safe.test/a/b/c", "https://example.org/engine/c"},
    /* The scheme and the port belong to it. */
    {"https://localhost:8080/x", NULL},
    {"http://safe.test/a/b", NULL},
    {"http://localhost/x", NULL},
    {"http://localhost:808/x", NULL},
    {"http://localhost:80801/x", NULL},
    {"http://localhost:8081/x", NULL},
    {"http://plain.test/x", "https://example.org/engine/x"},
    {"http://plain.test:80/x", "https://example.org/engine/x"},
    {"http://plain.test:8080/x", NULL},
    {"http://plain.test:443/x", NULL},
    {"http://plain.test:800/x", NULL},
    {"https://safe.test:443/a/b", "https://example.org/engine"},
    {"https://safe.test:80/a/b", NULL},
    /* So does the border behind it. */
    {"http://localhost:8080@evil.test/", NULL},
    {"http://localhost:8080:x@evil.test/", NULL},
    {"http://localhost:8080%40evil.test/", NULL},
    {"http://localhost:8080x/", NULL},
    {"http://plain.test.evil/", NULL},
    {"http://plain.test-evil/", NULL},
    {"http://plain.test\xC3\xA4/", NULL},
    {"(http://localhost:8080), 'http://localhost:8080'; http://localhost:8080.",
     "(https://example.org/engine), 'https://example.org/engine'; https://example.org/engine."},
    {"http://localhost:8080\xE3\x80\x82", "https://example.org/engine\xE3\x80\x82"},
    /* The longest is taken, and a path ends where a segment does. */
    {"http://localhost:8080/api/x", "https://example.org/engine/x"},
    {"http://localhost:8080/api", "https://example.org/engine"},
    {"http://localhost:8080/apix", "https://example.org/engine/apix"},
    {"http://localhost:8080/ap", "https://example.org/engine/ap"},
    {"http://localhost:8080/API", "https://example.org/engine/API"},
    {"https://safe.test/a/B", NULL},
    {"https://safe.test/a", NULL},
    /* In JSON, in JSON in JSON, and behind an escape. */
    {"{\"a\":\"http:\\/\\/localhost:8080\\/x\"}", "{\"a\":\"https://example.org/engine\\/x\"}"},
    {"\"http:\\u002f\\u002Flocalhost:8080\\u002Fapi\\u002fx\"",
     "\"https://example.org/engine\\u002fx\""},
    {"\"{\\\"a\\\":\\\"http:\\\\/\\\\/localhost:8080\\\\/x\\\"}\"",
     "\"{\\\"a\\\":\\\"https://example.org/engine\\\\/x\\\"}\""},
    {"\"see:\\nhttp://localhost:8080\\n\\u003chttp://localhost:8080\\u003e\"",
     "\"see:\\nhttps://example.org/engine\\n\\u003chttps://example.org/engine\\u003e\""},
    {"http:u002fu002flocalhost:8080", NULL},
    {"http:\\u002e\\u002elocalhost:8080", NULL},
    /* False starts. */
    {"hhttp://localhost:8080", "hhttps://example.org/engine"},
    {"hthttp://localhost:8http://localhost:8080", "hthttp://localhost:8https://example.org/engine"},
    {"http:http:/http://http://localhost:8080/http",
     "http:http:/http://https://example.org/engine/http"},
    {"wwws://localhost:8080ws://localhost:8080", "wwws://localhost:8080wss://example.org/engine"},
    {"http://localhost:8080http://localhost:8080/",
     "http://localhost:8080https://example.org/engine/"},
    {"http", NULL},
    {"http://", NULL},
    {"http://localhost:", NULL},
    {"a wish: http, https, ws and wss; http:\\/\\", NULL},
};
#define VECTORS (sizeof vectors / sizeof *vectors)

static void append(void *ctx, struct slice text, bool is_stable) {
    buffer_append(ctx, text);
}

/* In pieces of exactly their own memory, so that a sanitizer sees a byte too many; of @step bytes,
 * but for a first one of @first. */
static void run(struct slice text, size_t first, size_t step, struct buffer *out) {
    struct urls urls;
    size_t n = first;

    out->len = 0;
    urls_init(&urls, &map, append, out);
    for (size_t at = 0; at < text.len; at += n, n = step) {
        char *piece;

        n = n < text.len - at ? n : text.len - at;
        piece = malloc(n ? n : 1);
        memcpy(piece, text.base + at, n);
        urls_push(&urls, slice_of(piece, n));
        free(piece);
        assert_true(urls.held_bytes < URLS_HELD_MAX);
    }
    urls_end(&urls);
}

static void expect(const struct buffer *out, struct slice expected, struct slice text) {
    if (!slice_equal(buffer_slice(out), expected))
        fail_msg("'%.*s' became '%.*s'", SLICE_ARG(text), SLICE_ARG(buffer_slice(out)));
}

static void base_urls_are_found_wherever_the_text_is_cut(void **state) {
    struct buffer out = {0};

    for (size_t i = 0; i < VECTORS; i++) {
        struct slice text = slice_str(vectors[i].text);
        struct slice expected = vectors[i].expected ? slice_str(vectors[i].expected) : text;

        for (size_t first = 0; first <= text.len; first++)
            for (size_t step = 1; step <= text.len; step++) {
                run(text, first, step, &out);
                expect(&out, expected, text);
            }
    }
    buffer_deinit(&out);
}

static void a_whole_text_is_rewritten_at_once(void **state) {
    struct arena arena;
    char memory[1024];

    for (size_t i = 0; i < VECTORS; i++) {
        struct slice text = slice_str(vectors[i].text);
        struct slice expected = vectors[i].expected ? slice_str(vectors[i].expected) : text;

        arena_init(&arena, memory, sizeof memory);
        assert_true(slice_equal(urls_rewrite(&map, &arena, text), expected));
        arena_deinit(&arena);
    }
}

/* Texts of everything that base URLs are made of, in any order. */
static void it_never_matters_how_the_text_is_cut(void **state) {
    static const char *const parts[] = {"http",
                                        "HTTP",
                                        "ws",
                                        "s",
                                        ":",
                                        "/",
                                        "\\/",
                                        "\\u002f",
                                        "\\",
                                        "localhost",
                                        ":8080",
                                        ":80",
                                        "/api",
                                        "/a",
                                        "/b",
                                        "\"",
                                        "0",
                                        "@",
                                        "plain.test",
                                        "safe.test",
                                        "[::1]",
                                        "://",
                                        "h",
                                        "w",
                                        "http://localhost:8080",
                                        "https://safe.test",
                                        "ws://",
                                        " "};
    struct buffer text = {0}, whole = {0}, out = {0};
    uint64_t seed = 4711;

    for (unsigned round = 0; round < 3000; round++) {
        size_t count = rnd(&seed) % 12;

        text.len = 0;
        for (size_t i = 0; i < count; i++)
            buffer_append(&text, slice_str(parts[rnd(&seed) % (sizeof parts / sizeof *parts)]));
        run(buffer_slice(&text), text.len, 1, &whole);
        for (unsigned i = 0; i < 8; i++) {
            run(buffer_slice(&text), rnd(&seed) % (text.len + 1), 1 + rnd(&seed) % 7, &out);
            expect(&out, buffer_slice(&whole), buffer_slice(&text));
        }
    }
    buffer_deinit(&text);
    buffer_deinit(&whole);
    buffer_deinit(&out);
}

/* Nobody waits for what cannot change any more. */
static void what_cannot_be_a_base_url_passes_at_once(void **state) {
    static const struct {
        const char *text;
        size_t held;
    } pieces[] = {
        {"data: {\"a\": \"http://localhost:8080/x\"}\n\n", 0},
        {"data: http", 4},
        {"s://example.net/", 0},
        {"http://localhost:8080", 21}, /* may be 80801 */
        {"/", 22},                     /* may be /api */
        {"b", 0},
        {"the end of a word: h", 1},
        {"e", 0},
        {"ws:/", 4},
        {"\n\n", 0},
    };
    struct buffer out = {0};
    struct urls urls;

    urls_init(&urls, &map, append, &out);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        urls_push(&urls, slice_str(pieces[i].text));
        assert_int_equal(urls.held_bytes, pieces[i].held);
    }
    buffer_deinit(&out);
}

/* A path of @slashes slashes with @backslashes before each. */
static void spell(struct buffer *to, unsigned slashes, unsigned backslashes) {
    to->len = 0;
    buffer_append(to, SLICE("http://h:1"));
    for (unsigned i = 0; i < slashes; i++) {
        for (unsigned j = 0; j < backslashes; j++)
            buffer_append_char(to, '\\');
        buffer_append(to, SLICE("/a"));
    }
}

/* Both sides of the bound, in one piece and in single bytes. */
static void no_more_is_held_than_the_bound(void **state) {
    struct buffer path = {0}, text = {0}, out = {0};
    struct config_url deep = {.authority = 3, .has_port = true};
    struct urls_map deep_map = {&deep, 1, URL("o.test", 6, false, false)};
    struct urls urls;

    spell(&path, 100, 0);
    buffer_append_char(&path, '\0');
    deep.rest = path.base + strlen("http://");
    for (unsigned backslashes = 0; backslashes < 20; backslashes++) {
        spell(&text, 100, backslashes);
        for (size_t step = 1; step <= text.len; step += text.len - 1) {
            size_t most = 0;
            bool is_found;

            out.len = 0;
            urls_init(&urls, &deep_map, append, &out);
            for (size_t at = 0; at < text.len; at += step) {
                urls_push(&urls, slice_of(text.base + at, step));
                most = urls.held_bytes > most ? urls.held_bytes : most;
            }
            urls_end(&urls);
            is_found = slice_equal(buffer_slice(&out), SLICE("http://o.test"));
            assert_true(is_found == (text.len < URLS_HELD_MAX));
            assert_true(is_found || slice_equal(buffer_slice(&out), buffer_slice(&text)));
            assert_true(most < URLS_HELD_MAX);
            assert_true(is_found || step > 1 || most == URLS_HELD_MAX - 1);
        }
    }
    buffer_deinit(&path);
    buffer_deinit(&text);
    buffer_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base_urls_are_found_wherever_the_text_is_cut),
        cmocka_unit_test(a_whole_text_is_rewritten_at_once),
        cmocka_unit_test(it_never_matters_how_the_text_is_cut),
        cmocka_unit_test(what_cannot_be_a_base_url_passes_at_once),
        cmocka_unit_test(no_more_is_held_than_the_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
