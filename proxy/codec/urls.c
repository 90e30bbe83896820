/* A search for "http" and "ws" first; there the base URLs are compared one by one, which is rare
 * enough. A comparison sees at most URLS_HELD_MAX bytes, so that its outcome does not depend on how
 * the text is cut. */
#include "codec/urls.h"

#include "base/buffer.h"

#include <ctype.h>
#include <string.h>

enum match { MATCH_NO, MATCH_MORE /* bytes are needed to tell */, MATCH_YES };

/* Where a comparison is. */
struct reading {
    const char *at, *end;
    bool is_ws;
};

static size_t pass(struct urls *urls, struct slice text, size_t starts, bool is_held,
                   enum match at_end);
static void emit_base(struct urls *urls, bool is_ws);
static size_t find_start(struct slice text, size_t from);
static enum match match_any(const struct urls_map *map, struct slice text, enum match at_end,
                            size_t *len, bool *is_ws);
static enum match match_scheme(struct reading *reading, bool *is_secure);
static enum match match_base(struct reading reading, const struct config_url *base, size_t *len);
static enum match take_text(struct reading *reading, struct slice lower);
static enum match take_slash(struct reading *reading);
static bool goes_on(char c, bool is_behind_port);
static void append(void *ctx, struct slice text, bool is_stable);

void urls_init(struct urls *urls, const struct urls_map *map, urls_emit_fn *emit, void *ctx) {
    urls->map = map;
    urls->emit = emit;
    urls->ctx = ctx;
    urls->held_bytes = 0;
}

void urls_push(struct urls *urls, struct slice text) {
    size_t done;

    while (urls->held_bytes > 0 && text.len > 0) {
        size_t old = urls->held_bytes, room = URLS_HELD_MAX - old;
        size_t n = text.len < room ? text.len : room;

        memcpy(urls->held + old, text.base, n);
        done = pass(urls, slice_of(urls->held, old + n), old, true, MATCH_MORE);
        if (done < old) {
            urls->held_bytes = old + n - done;
            memmove(urls->held, urls->held + done, urls->held_bytes);
            text = slice_skip(text, n);
        } else {
            urls->held_bytes = 0;
            text = slice_skip(text, done - old);
        }
    }
    done = pass(urls, text, text.len, false, MATCH_MORE);
    if (done < text.len) {
        urls->held_bytes = text.len - done;
        memcpy(urls->held, text.base + done, urls->held_bytes);
    }
}

void urls_end(struct urls *urls) {
    pass(urls, slice_of(urls->held, urls->held_bytes), urls->held_bytes, true, MATCH_YES);
    urls->held_bytes = 0;
}

struct slice urls_rewrite(const struct urls_map *map, struct arena *arena, struct slice text) {
    struct buffer out = {0};
    struct urls urls;

    if (find_start(text, 0) == text.len)
        return text;
    urls_init(&urls, map, append, &out);
    urls_push(&urls, text);
    urls_end(&urls);
    text = arena_copy(arena, buffer_slice(&out));
    buffer_deinit(&out);
    return text;
}

static void append(void *ctx, struct slice text, bool is_stable) {
    buffer_append(ctx, text);
}

/* Emits what becomes of @text up to the first @starts bytes, and what began there; stops before
 * what cannot be told yet. Returns how far it came. @at_end: what it means that the text is over.
 */
static size_t pass(struct urls *urls, struct slice text, size_t starts, bool is_held,
                   enum match at_end) {
    size_t at = 0, done = 0, len;
    enum match match = MATCH_NO;
    bool is_ws;

    while ((at = find_start(text, at)) < starts) {
        match = match_any(urls->map, slice_skip(text, at), at_end, &len, &is_ws);
        if (match == MATCH_MORE)
            break;
        if (match == MATCH_NO) {
            at++;
            continue;
        }
        if (at > done)
            urls->emit(urls->ctx, slice_of(text.base + done, at - done), !is_held);
        emit_base(urls, is_ws);
        done = at += len;
    }
    /* What is behind @starts was not looked at: it is the caller's again. */
    at = at < starts ? at : starts;
    if (at > done) {
        urls->emit(urls->ctx, slice_of(text.base + done, at - done), !is_held);
        done = at;
    }
    return done;
}

static void emit_base(struct urls *urls, bool is_ws) {
    const struct slice schemes[2][2] = {{SLICE("http://"), SLICE("https://")},
                                        {SLICE("ws://"), SLICE("wss://")}};
    const struct config_url *to = &urls->map->to;

    urls->emit(urls->ctx, schemes[is_ws][to->is_secure], true);
    urls->emit(urls->ctx, slice_str(to->rest), true);
}

/* Of the first thing from @from on that may be a scheme; the text's length: of none. */
static size_t find_start(struct slice text, size_t from) {
    for (; from < text.len; from++) {
        char c = (char)(text.base[from] | 0x20), next = 0;

        if (c != 'h' && c != 'w')
            continue;
        if (from + 1 < text.len)
            next = (char)(text.base[from + 1] | 0x20);
        if (!next || next == (c == 'h' ? 't' : 's'))
            break;
    }
    return from;
}

static enum match match_any(const struct urls_map *map, struct slice text, enum match at_end,
                            size_t *len, bool *is_ws) {
    struct reading reading = {text.base, text.base + text.len, false};
    enum match all;
    bool is_secure;

    if (text.len >= URLS_HELD_MAX) { /* no more will ever be seen of it */
        reading.end = text.base + URLS_HELD_MAX;
        at_end = MATCH_NO;
    }
    all = match_scheme(&reading, &is_secure);
    if (all != MATCH_YES)
        return all == MATCH_MORE && at_end == MATCH_MORE ? MATCH_MORE : MATCH_NO;
    *is_ws = reading.is_ws;
    *len = 0;
    all = MATCH_NO;
    for (size_t i = 0; i < map->count; i++) {
        enum match match = MATCH_NO;
        size_t n = 0;

        if (map->from[i].is_secure == is_secure)
            match = match_base(reading, &map->from[i], &n);
        if (match == MATCH_MORE && at_end == MATCH_MORE)
            return MATCH_MORE;
        if (match == MATCH_MORE && (at_end == MATCH_NO || n == 0))
            continue;
        if (match != MATCH_NO && n > *len) {
            *len = n;
            all = MATCH_YES;
        }
    }
    *len += (size_t)(reading.at - text.base);
    return all;
}

/* "http://", "https://", "ws://", "wss://". */
static enum match match_scheme(struct reading *reading, bool *is_secure) {
    enum match match;

    reading->is_ws = reading->at < reading->end && (*reading->at | 0x20) == 'w';
    match = take_text(reading, reading->is_ws ? SLICE("ws") : SLICE("http"));
    if (match != MATCH_YES)
        return match;
    *is_secure = reading->at < reading->end && (*reading->at | 0x20) == 's';
    reading->at += *is_secure;
    match = take_text(reading, SLICE(":"));
    if (match == MATCH_YES)
        match = take_slash(reading);
    return match == MATCH_YES ? take_slash(reading) : match;
}

/* What is behind the scheme. *@len of MATCH_MORE: 0, unless all that is missing is the border. */
static enum match match_base(struct reading reading, const struct config_url *base, size_t *len) {
    const char *start = reading.at;
    bool is_behind_port = base->has_port;
    enum match match;
    const char *path;

    *len = 0;
    match = take_text(&reading, slice_of(base->rest, base->authority));
    if (match != MATCH_YES)
        return match;
    if (!base->has_port && reading.at < reading.end && *reading.at == ':') {
        match = take_text(&reading, config_url_port(base->is_secure));
        if (match != MATCH_YES)
            return match;
        is_behind_port = true;
    }
    for (path = base->rest + base->authority; *path; path++) {
        if (*path == '/')
            match = take_slash(&reading);
        else if (reading.at == reading.end)
            match = MATCH_MORE;
        else
            match = *reading.at++ == *path ? MATCH_YES : MATCH_NO;
        if (match != MATCH_YES)
            return match;
        is_behind_port = false;
    }
    if (reading.at < reading.end && goes_on(*reading.at, is_behind_port))
        return MATCH_NO;
    *len = (size_t)(reading.at - start);
    return reading.at < reading.end ? MATCH_YES : MATCH_MORE;
}

/* @lower in any case. */
static enum match take_text(struct reading *reading, struct slice lower) {
    for (size_t i = 0; i < lower.len; i++, reading->at++) {
        if (reading->at == reading->end)
            return MATCH_MORE;
        if (tolower((unsigned char)*reading->at) != lower.base[i])
            return MATCH_NO;
    }
    return MATCH_YES;
}

/* "/", "\/", "\u002f", with more backslashes where JSON is in JSON. */
static enum match take_slash(struct reading *reading) {
    const char *start = reading->at;

    while (reading->at < reading->end && *reading->at == '\\')
        reading->at++;
    if (reading->at == reading->end)
        return MATCH_MORE;
    if (*reading->at == '/') {
        reading->at++;
        return MATCH_YES;
    }
    return reading->at > start ? take_text(reading, SLICE("u002f")) : MATCH_NO;
}

/* Is @c behind a host, or a path, or a port, still part of it? Behind a host it may also be another
 * port's colon or, as behind a port, the end of a user's name. */
static bool goes_on(char c, bool is_behind_port) {
    if (isalnum((unsigned char)c) || (c && strchr("-_~%:@", c)))
        return true;
    return !is_behind_port && (c == '.' || (unsigned char)c >= 0x80);
}
