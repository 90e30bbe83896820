/* The lines of a head, checked one by one, for heads that are incomplete or that the fast path did
 * not like. Each fault has one place: a byte that may not be there, a start line that outgrows its
 * bounds, or the end of a line that is malformed as a whole. Bytes are looked at once as they come,
 * lines once as they end; only the start line is looked at again while it grows, and it is bounded.
 */
#include "codec/h1_chars.h"
#include "codec/h1_parts.h"

#define STATUS_AT (sizeof "HTTP/1.1 " - 1)
#define CRLF_LEN 2

static size_t unfinished_line(struct slice in, size_t seen, size_t start_max, size_t *lines);
static const char *check_bytes(struct slice in, size_t from, size_t to, size_t *bad);
static const char *other_protocol(char first, const char *fault);
static enum h1_outcome check_growth(struct slice line, const struct h1_limits *limits,
                                    enum h1_start kind, const char **why);
static enum h1_outcome check_line(struct slice line, enum h1_start kind, const char **why);
static enum h1_outcome check_request_line(struct slice line, const char **why);
static enum h1_outcome check_version(struct slice version, const char **why);
static bool may_be_status_line(struct slice line);
static const char *check_field_line(struct slice line);

enum h1_outcome h1_check_lines(struct slice in, size_t seen, const struct h1_limits *limits,
                               enum h1_start start, const char **why) {
    struct slice head =
        slice_of(in.base, in.len < limits->head_bytes ? in.len : limits->head_bytes);
    size_t start_max = H1_METHOD_MAX + 1 + limits->target_bytes + 1 + H1_VERSION_LEN + CRLF_LEN;
    size_t lines, at = unfinished_line(head, seen, start_max, &lines);

    while (at < head.len) {
        size_t from = at > seen ? at : seen, bad;
        const char *newline = memchr(head.base + from, '\n', head.len - from);
        size_t end = newline ? (size_t)(newline - head.base) + 1 : head.len;
        const char *fault = check_bytes(head, from, end, &bad);
        enum h1_start kind = at == 0 ? start : H1_START_NONE;
        enum h1_outcome outcome =
            check_growth(slice_of(head.base + at, bad - at), limits, kind, why);

        if (outcome != H1_DONE)
            return outcome;
        if (fault) {
            *why = kind != H1_START_NONE && bad == 0 ? other_protocol(head.base[0], fault) : fault;
            return H1_BAD;
        }
        if (!newline)
            break;
        if (kind == H1_START_NONE && end - at == CRLF_LEN)
            return H1_DONE;
        outcome = check_line(slice_of(head.base + at, end - at - CRLF_LEN), kind, why);
        if (outcome != H1_DONE)
            return outcome;
        if (++lines > limits->fields + (start != H1_START_NONE)) {
            *why = "too many fields";
            return H1_HEAD_LARGE;
        }
        at = end;
    }
    if (in.len < limits->head_bytes)
        return H1_PARTIAL;
    *why = "too many bytes";
    return H1_HEAD_LARGE;
}

/* Where the line begins that was unfinished when @seen bytes were there, and how many there are
 * before it. In the middle of a field line that is still unfinished neither matters: there are only
 * new bytes to check. */
static size_t unfinished_line(struct slice in, size_t seen, size_t start_max, size_t *lines) {
    const char *at = in.base, *end = in.base + seen, *newline;

    *lines = 0;
    if (seen == 0 || seen >= in.len)
        return seen < in.len ? 0 : in.len;
    if (seen > start_max && !memchr(in.base + seen, '\n', in.len - seen))
        return seen;
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        at = newline + 1;
        ++*lines;
    }
    return (size_t)(at - in.base);
}

/* The bytes that no line may have. *bad is the first one that shows it, else @to. */
static const char *check_bytes(struct slice in, size_t from, size_t to, size_t *bad) {
    size_t at = from;
    const char *why = NULL;

    for (; at < to && !why; at++) {
        char c = in.base[at];
        bool is_behind_cr = at > 0 && in.base[at - 1] == '\r';

        if (c == '\n')
            why = is_behind_cr ? NULL : "line ends in LF without CR";
        else if (is_behind_cr)
            why = "CR without LF";
        else if (c != '\r' && !h1_char_is(c, H1_CHAR_TEXT))
            why = "control character";
    }
    *bad = why ? at - 1 : to;
    return why;
}

/* A @first byte that is a @fault: the usual mistakes have names. */
static const char *other_protocol(char first, const char *fault) {
    switch (first) {
    case 0x15: /* an alert (RFC 8446 section 5.1) */
    case 0x16: /* a handshake */
        return "it begins like TLS, not like HTTP/1";
    case 0: /* the length of SETTINGS (RFC 9113 section 4.1) */
        return "it begins like HTTP/2, not like HTTP/1";
    default:
        return fault;
    }
}

/* What is wrong with a start line already, before it ends (its CR and LF may be there). */
static enum h1_outcome check_growth(struct slice line, const struct h1_limits *limits,
                                    enum h1_start kind, const char **why) {
    size_t method = 0;
    struct slice target;
    const char *space;

    if (kind == H1_START_NONE)
        return H1_DONE;
    if (kind == H1_START_STATUS) {
        *why = "malformed status line";
        return may_be_status_line(line) ? H1_DONE : H1_BAD;
    }
    while (method < line.len && method <= H1_METHOD_MAX &&
           h1_char_is(line.base[method], H1_CHAR_TOKEN))
        method++;
    if (method > H1_METHOD_MAX) {
        *why = "method is too long";
        return H1_BAD;
    }
    if (method == line.len || line.base[method] == '\r')
        return H1_DONE;
    if (method == 0 || line.base[method] != ' ') {
        *why = "method is not a token";
        return H1_BAD;
    }
    target = slice_skip(line, method + 1);
    space = memchr(target.base, ' ',
                   target.len <= limits->target_bytes ? target.len : limits->target_bytes + 1);
    if (!space && target.len > limits->target_bytes) {
        *why = "request target is too long";
        return H1_TARGET_LONG;
    }
    if (space && (size_t)(target.base + target.len - space) > 1 + H1_VERSION_LEN + CRLF_LEN) {
        *why = "malformed HTTP version";
        return H1_BAD;
    }
    return H1_DONE;
}

static enum h1_outcome check_line(struct slice line, enum h1_start kind, const char **why) {
    if (kind == H1_START_REQUEST)
        return check_request_line(line, why);
    if (kind == H1_START_STATUS) {
        *why = "malformed status line";
        return line.len >= H1_REASON_AT ? H1_DONE : H1_BAD;
    }
    *why = check_field_line(line);
    return *why ? H1_BAD : H1_DONE;
}

static enum h1_outcome check_request_line(struct slice line, const char **why) {
    const char *end = line.base + line.len, *space, *next;
    struct request_head head = {0};
    enum h1_outcome outcome;
    struct slice target;

    space = line.len > 0 ? memchr(line.base, ' ', line.len) : NULL;
    next = space ? memchr(space + 1, ' ', (size_t)(end - space - 1)) : NULL;
    if (!next) {
        *why = "request line is not method, target and version";
        return H1_BAD;
    }
    outcome = check_version(slice_of(next + 1, (size_t)(end - next - 1)), why);
    if (outcome != H1_DONE)
        return outcome;
    target = slice_of(space + 1, (size_t)(next - space - 1));
    head.method = method_of(slice_of(line.base, (size_t)(space - line.base)));
    if (target.len == 0)
        *why = "request target is empty";
    else if (!h1_chars_are(target, H1_CHAR_TARGET))
        *why = "request target has a character that must be encoded";
    else
        *why = h1_split_target(&head, target);
    return *why ? H1_BAD : H1_DONE;
}

static enum h1_outcome check_version(struct slice version, const char **why) {
    const char *at = version.base;

    if (version.len != H1_VERSION_LEN || memcmp(at, "HTTP/", 5) != 0 ||
        !h1_char_is(at[5], H1_CHAR_DIGIT) || at[6] != '.' || !h1_char_is(at[7], H1_CHAR_DIGIT)) {
        *why = "malformed HTTP version";
        return H1_BAD;
    }
    *why = "only HTTP/1.0 and HTTP/1.1 are spoken here";
    return at[5] == '1' ? H1_DONE : H1_VERSION;
}

/* Does @line begin as one does, as far as it goes? */
static bool may_be_status_line(struct slice line) {
    static const char pattern[H1_REASON_AT + 1] = "HTTP/1.0 000 ";

    for (size_t i = 0; i < line.len && i < H1_REASON_AT; i++)
        if (pattern[i] == '0' ? !h1_char_is(line.base[i], H1_CHAR_DIGIT)
                              : line.base[i] != pattern[i])
            return false;
    return line.len <= STATUS_AT || line.base[STATUS_AT] != '0';
}

static const char *check_field_line(struct slice line) {
    const char *colon = memchr(line.base, ':', line.len);
    struct slice name = slice_of(line.base, colon ? (size_t)(colon - line.base) : 0);

    if (line.base[0] == ' ' || line.base[0] == '\t')
        return "field line is folded";
    if (!colon)
        return "field line has no colon";
    if (name.len == 0)
        return "field name is empty";
    if (colon[-1] == ' ' || colon[-1] == '\t')
        return "field name has a space before its colon";
    return h1_chars_are(name, H1_CHAR_TOKEN) ? NULL : "field name is not a token";
}
