/* The fast way through a head: one pass over bytes that are all as they should be, one table for
 * names and targets, eight bytes at a time for values. It gives up at the first byte that is not,
 * without saying why. */
#include "codec/h1_chars.h"
#include "codec/h1_parts.h"

#include <endian.h>

#define ONES UINT64_C(0x0101010101010101)

static const char *split_request_line(const char *start, const char *end,
                                      const struct h1_limits *limits, struct h1_split *split);
static const char *split_status_line(const char *start, const char *end, struct h1_split *split);
static const char *split_fields(const char *start, const char *at, const char *end, unsigned max,
                                struct h1_split *split);

size_t h1_split(struct slice in, const struct h1_limits *limits, enum h1_start start,
                struct h1_split *split) {
    size_t len = in.len < limits->head_bytes ? in.len : limits->head_bytes;
    const char *at = in.base, *end = in.base + len;

    if (start == H1_START_REQUEST)
        at = split_request_line(in.base, end, limits, split);
    else if (start == H1_START_STATUS)
        at = split_status_line(in.base, end, split);
    if (at)
        at = split_fields(in.base, at, end, limits->fields, split);
    return at ? (size_t)(at - in.base) : 0;
}

static inline struct h1_part part(const char *start, const char *from, const char *to) {
    return (struct h1_part){(uint32_t)(from - start), (uint32_t)(to - from)};
}

/* Past VCHAR, obs-text, SP and HTAB. A word without a byte below SP and without DEL is skipped
 * whole; in others (and in some that only look like it) the byte decides. */
static inline const char *skip_text(const char *at, const char *end) {
    while (end - at >= 8) {
        uint64_t word, stop;

        memcpy(&word, at, 8);
        word = le64toh(word);
        stop = ((word - ONES * ' ') | (word + ONES)) & ~word & ONES << 7;
        if (stop == 0) {
            at += 8;
            continue;
        }
        at += __builtin_ctzll(stop) / 8;
        if (!h1_char_is(*at, H1_CHAR_TEXT))
            return at;
        at++;
    }
    return h1_chars_skip(at, end, H1_CHAR_TEXT);
}

static inline bool is_ows(char c) {
    return c == ' ' || c == '\t';
}

static inline bool is_crlf(const char *at, const char *end) {
    return end - at >= 2 && at[0] == '\r' && at[1] == '\n';
}

/* "HTTP/1.x" and what has to be @behind it? */
static inline bool is_version(const char *at, const char *end, char behind) {
    return end - at > (ptrdiff_t)H1_VERSION_LEN && memcmp(at, "HTTP/1.", H1_VERSION_LEN - 1) == 0 &&
           h1_char_is(at[H1_VERSION_LEN - 1], H1_CHAR_DIGIT) && at[H1_VERSION_LEN] == behind;
}

static const char *split_request_line(const char *start, const char *end,
                                      const struct h1_limits *limits, struct h1_split *split) {
    const char *space = h1_chars_skip(start, end, H1_CHAR_TOKEN), *target, *version;

    if (space == end || *space != ' ' || space == start)
        return NULL;
    target = space + 1;
    space = h1_chars_skip(target, end, H1_CHAR_TARGET);
    if (space == end || *space != ' ' || space == target)
        return NULL;
    version = space + 1;
    split->method = part(start, start, target - 1);
    split->target = part(start, target, space);
    if (split->method.len > H1_METHOD_MAX || split->target.len > limits->target_bytes ||
        !is_version(version, end, '\r') || !is_crlf(version + H1_VERSION_LEN, end))
        return NULL;
    split->version = version[H1_VERSION_LEN - 1] == '0' ? HTTP_1_0 : HTTP_1_1;
    return version + H1_VERSION_LEN + 2;
}

static const char *split_status_line(const char *start, const char *end, struct h1_split *split) {
    const char *digits = start + H1_VERSION_LEN + 1, *reason = start + H1_REASON_AT, *end_of_line;

    if (!is_version(start, end, ' ') || end - start < (ptrdiff_t)H1_REASON_AT ||
        !h1_chars_are(slice_of(digits, 3), H1_CHAR_DIGIT) || digits[0] == '0' || digits[3] != ' ')
        return NULL;
    split->version = start[H1_VERSION_LEN - 1] == '0' ? HTTP_1_0 : HTTP_1_1;
    split->status = (unsigned)(digits[0] - '0') * 100 + (unsigned)(digits[1] - '0') * 10 +
                    (unsigned)(digits[2] - '0');
    end_of_line = skip_text(reason, end);
    split->reason = part(start, reason, end_of_line);
    return is_crlf(end_of_line, end) ? end_of_line + 2 : NULL;
}

static const char *split_fields(const char *start, const char *at, const char *end, unsigned max,
                                struct h1_split *split) {
    unsigned count = 0;

    while (at < end && *at != '\r') {
        const char *name = at, *colon = h1_chars_skip(at, end, H1_CHAR_TOKEN), *value, *behind;

        if (count == max || colon == name || colon == end || *colon != ':')
            return NULL;
        for (value = colon + 1; value < end && is_ows(*value); value++)
            ;
        behind = skip_text(value, end);
        if (!is_crlf(behind, end))
            return NULL;
        at = behind + 2;
        while (behind > value && is_ows(behind[-1]))
            behind--;
        split->lines[count++] =
            (struct h1_line){part(start, name, colon), part(start, value, behind)};
    }
    split->count = count;
    return is_crlf(at, end) ? at + 2 : NULL;
}
