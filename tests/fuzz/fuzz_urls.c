/* Base URLs in text. The first byte is the length of the pieces that the input comes in.
 * Invariants: pieces change nothing; what comes out is what a plain reference says that sees all
 * input at once. */
#include "base/buffer.h"
#include "codec/urls.h"

#include <assert.h>
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define URL(text, n, secure, port) \
    { .rest = (char[]){text}, .authority = (n), .is_secure = (secure), .has_port = (port) }

static const struct config_url inner[] = {
    URL("h:80", 4, true, true),
    URL("h:80/a", 4, true, true),
    URL("[::]", 4, false, false),
    URL("t.h/A/b", 3, false, false),
};
#define COUNT (sizeof inner / sizeof *inner)

static const struct urls_map map = {inner, COUNT, URL("o/p", 1, true, false)};

static void append(void *ctx, struct slice text, bool is_stable) {
    buffer_append(ctx, text);
}

static void rewrite(struct slice in, size_t step, struct buffer *out) {
    struct urls urls;

    urls_init(&urls, &map, append, out);
    while (in.len > 0) {
        size_t n = in.len < step ? in.len : step;
        char *piece = malloc(n);

        memcpy(piece, in.base, n);
        urls_push(&urls, slice_of(piece, n));
        free(piece);
        in = slice_skip(in, n);
        assert(urls.held_bytes < URLS_HELD_MAX);
    }
    urls_end(&urls);
}

/* The length of a slash, in whatever spelling, at the start of @in; 0: there is none. */
static size_t slash_at(struct slice in) {
    size_t n = 0;

    while (n < in.len && in.base[n] == '\\')
        n++;
    if (n < in.len && in.base[n] == '/')
        return n + 1;
    return n > 0 && in.len >= n + 5 && strncasecmp(in.base + n, "u002f", 5) == 0 ? n + 5 : 0;
}

/* The same of @text, a slash of which stands for all its spellings. */
static size_t text_at(struct slice in, const char *text, bool is_any_case) {
    size_t at = 0;

    for (; *text; text++) {
        size_t n = *text == '/' ? slash_at(slice_skip(in, at)) : 1;

        if (at + n > in.len || n == 0)
            return 0;
        if (*text != '/' && in.base[at] != *text &&
            !(is_any_case && tolower((unsigned char)in.base[at]) == *text))
            return 0;
        at += n;
    }
    return at;
}

static size_t base_at(struct slice in, const struct config_url *url, bool is_ws) {
    static const char *const schemes[2][2] = {{"http://", "https://"}, {"ws://", "wss://"}};
    const char *port = url->is_secure ? ":443" : ":80", *more = "-_~%:@.";
    char host[16] = "";
    size_t at = text_at(in, schemes[is_ws][url->is_secure], true), n;

    if (at == 0)
        return 0;
    memcpy(host, url->rest, url->authority);
    n = text_at(slice_skip(in, at), host, true);
    at += n;
    if (n == 0)
        return 0;
    if (url->has_port) {
        more = "-_~%:@";
    } else if (text_at(slice_skip(in, at), port, true)) {
        at += strlen(port);
        more = "-_~%:@";
    }
    if (url->rest[url->authority]) {
        n = text_at(slice_skip(in, at), url->rest + url->authority, false);
        at += n;
        more = "-_~%:@.";
        if (n == 0)
            return 0;
    }
    if (at < in.len &&
        (isalnum((unsigned char)in.base[at]) || (in.base[at] && strchr(more, in.base[at])) ||
         ((unsigned char)in.base[at] >= 0x80 && strchr(more, '.'))))
        return 0;
    return at;
}

static void rewrite_plainly(struct slice in, struct buffer *out) {
    while (in.len > 0) {
        size_t longest = 0;
        bool is_ws = false;

        for (size_t i = 0; i < 2 * COUNT; i++) {
            size_t n = base_at(in, &inner[i / 2], i & 1);

            if (n > longest) {
                longest = n;
                is_ws = i & 1;
            }
        }
        if (longest > 0)
            buffer_append(out, is_ws ? SLICE("wss://o/p") : SLICE("https://o/p"));
        else
            buffer_append_char(out, in.base[0]);
        in = slice_skip(in, longest ? longest : 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer pieces = {0}, plain = {0};
    struct slice in;

    if (size < 2 || size > URLS_HELD_MAX || data[0] == 0) /* beyond, the reference has no bound */
        return 0;
    in = slice_of((const char *)data + 1, size - 1);
    rewrite(in, data[0], &pieces);
    rewrite_plainly(in, &plain);
    assert(slice_equal(buffer_slice(&pieces), buffer_slice(&plain)));
    buffer_deinit(&pieces);
    buffer_deinit(&plain);
    return 0;
}
