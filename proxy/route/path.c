/* Paths, normalised for matching (RFC 3986 section 6.2.2): escapes of unreserved characters
 * decoded, the others in upper case, dot segments removed. Empty segments are merged too, because
 * the servers behind us may do so, and "//admin" must not get around a route for "/admin". What two
 * readers could take for different paths is refused:
 * - encoded slash and NUL, backslash in either form, malformed escapes;
 * - dot segments above the root, with parameters ("/..;x/", where some servers cut off what follows
 *   the semicolon), or ".." together with empty segments (their merging changes what it removes).
 */
#include "route/route.h"

static bool is_plain(struct slice path);
static const char *decode(struct slice path, char *to, size_t *len);
static const char *remove_dots(char *path, size_t *len);
static bool is_foreign(char c);
static int hex_of(char c);
static bool is_unreserved(char c);

bool route_normalise_path(struct slice target, struct arena *arena, struct slice *path,
                          const char **why) {
    const char *query = target.len > 0 ? memchr(target.base, '?', target.len) : NULL;
    const char *fault;
    char *copy;

    if (query)
        target.len = (size_t)(query - target.base);
    if (target.len == 0 || target.base[0] != '/') {
        *why = "path does not begin with a slash";
        return false;
    }
    if (is_plain(target)) {
        *path = target;
        return true;
    }
    copy = arena_alloc(arena, target.len);
    fault = decode(target, copy, &target.len);
    if (!fault)
        fault = remove_dots(copy, &target.len);
    if (fault) {
        *why = fault;
        return false;
    }
    *path = slice_of(copy, target.len);
    return true;
}

/* Is there nothing to normalise and nothing to refuse? May say no to a path that is fine. */
static bool is_plain(struct slice path) {
    const char *end = path.base + path.len;

    for (const char *at = path.base; at < end; at++) {
        if (*at == '/') {
            if (at + 1 < end && (at[1] == '/' || at[1] == '.'))
                return false;
        } else if (*at < '0' || *at > 'z' || *at == '\\') { /* no, for most bytes of most paths */
            if (is_foreign(*at) || *at == '%')
                return false;
        }
    }
    return true;
}

static const char *decode(struct slice path, char *to, size_t *len) {
    static const char digits[] = "0123456789ABCDEF";
    const char *start = to;

    for (size_t i = 0; i < path.len; i++) {
        char c = path.base[i];
        int high, low;

        if (c == '\\')
            return "path has a backslash";
        if (is_foreign(c))
            return "path has a character that must be encoded";
        if (c != '%') {
            *to++ = c;
            continue;
        }
        high = path.len - i > 2 ? hex_of(path.base[i + 1]) : -1;
        low = high >= 0 ? hex_of(path.base[i + 2]) : -1;
        if (low < 0)
            return "path has a malformed escape";
        c = (char)(high << 4 | low);
        if (c == '/' || c == '\\' || c == '\0')
            return "path has an encoded slash, backslash or NUL";
        if (is_unreserved(c)) {
            *to++ = c;
        } else {
            *to++ = '%';
            *to++ = digits[high];
            *to++ = digits[low];
        }
        i += 2;
    }
    *len = (size_t)(to - start);
    return NULL;
}

/* In place. Every segment is read from its slash on. */
static const char *remove_dots(char *path, size_t *len) {
    size_t at = 0, kept = 0;
    bool has_empty = false, has_up = false, is_open = false; /* is_open: ends in a slash */

    while (at < *len) {
        struct slice segment = slice_of(path + at + 1, *len - at - 1);
        const char *slash = segment.len > 0 ? memchr(segment.base, '/', segment.len) : NULL;

        if (slash)
            segment.len = (size_t)(slash - segment.base);
        at += 1 + segment.len;
        is_open = true;
        if (segment.len == 0) {
            has_empty |= at < *len;
        } else if (slice_equal(segment, SLICE(".."))) {
            has_up = true;
            if (kept == 0)
                return "path leaves the root";
            while (path[--kept] != '/')
                ;
        } else if (slice_starts(segment, SLICE(".;")) || slice_starts(segment, SLICE("..;"))) {
            return "path has a dot segment with parameters";
        } else if (!slice_equal(segment, SLICE("."))) {
            is_open = false;
            memmove(path + kept, segment.base - 1, segment.len + 1);
            kept += segment.len + 1;
        }
    }
    if (has_empty && has_up)
        return "path has '..' and empty segments";
    if (is_open)
        path[kept++] = '/';
    *len = kept;
    return NULL;
}

/* No part of a path, or of doubtful meaning in one. */
static bool is_foreign(char c) {
    return c <= ' ' || c == 0x7f || c == '#' || c == '\\';
}

static int hex_of(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_unreserved(char c) {
    char lower = c | 0x20;

    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}
