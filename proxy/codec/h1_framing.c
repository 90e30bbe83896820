/* How the content behind a head is delimited (RFC 9112 section 6), and whether the connection
 * outlives the message (section 9.3). Two opinions about the length are one too many: whatever
 * could be read in two ways is refused. */
#include "codec/h1_parts.h"

static const char *parse_length(struct slice value, uint64_t *length);
static enum h1_outcome check_codings(const struct fields *fields, const char **why);

enum h1_outcome h1_frame_content(const struct fields *fields, enum http_version version,
                                 struct content *content, const char **why) {
    const struct field *length = fields_find(fields, FIELD_CONTENT_LENGTH);
    bool is_coded = fields_find(fields, FIELD_TRANSFER_ENCODING);

    *content = (struct content){CONTENT_NONE, 0};
    if (length) {
        if (fields_find_next(fields, length)) {
            *why = "Content-Length is repeated";
            return H1_BAD;
        }
        *why = parse_length(length->value, &content->length);
        if (*why)
            return H1_BAD;
        content->kind = CONTENT_LENGTH;
    }
    if (is_coded) {
        if (length || version < HTTP_1_1) {
            *why = length ? "Transfer-Encoding and Content-Length are both present"
                          : "Transfer-Encoding needs HTTP/1.1";
            return H1_BAD;
        }
        content->kind = CONTENT_CHUNKED;
        return check_codings(fields, why);
    }
    return H1_DONE;
}

bool h1_is_persistent(enum http_version version, const struct fields *fields) {
    if (fields_list_has(fields, FIELD_CONNECTION, SLICE("close")))
        return false;
    return version >= HTTP_1_1 || fields_list_has(fields, FIELD_CONNECTION, SLICE("keep-alive"));
}

static const char *parse_length(struct slice value, uint64_t *length) {
    uint64_t sum = 0;

    if (value.len == 0)
        return "Content-Length is empty";
    for (size_t i = 0; i < value.len; i++) {
        unsigned digit = (unsigned char)value.base[i] - '0';

        if (digit > 9)
            return "Content-Length is not a number";
        if (sum > ((uint64_t)INT64_MAX - digit) / 10)
            return "Content-Length is too large";
        sum = sum * 10 + digit;
    }
    *length = sum;
    return NULL;
}

/* Several lines are one list (RFC 9110 section 5.3). Empty elements, which a recipient may ignore,
 * are refused: no sender makes them in good faith. */
static enum h1_outcome check_codings(const struct fields *fields, const char **why) {
    bool is_chunked = false, has_others = false;

    for (uint32_t i = 0; i < fields->count; i++) {
        struct slice rest = fields->list[i].value, coding;
        bool is_last = fields->list[i].id != FIELD_TRANSFER_ENCODING;

        while (!is_last) {
            const char *comma = rest.len > 0 ? memchr(rest.base, ',', rest.len) : NULL;

            is_last = !comma;
            coding = slice_trim(comma ? slice_of(rest.base, (size_t)(comma - rest.base)) : rest);
            if (comma)
                rest = slice_skip(rest, (size_t)(comma - rest.base) + 1);
            if (coding.len == 0 || is_chunked) {
                *why = is_chunked ? "Transfer-Encoding goes on behind chunked"
                                  : "Transfer-Encoding has an empty element";
                return H1_BAD;
            }
            is_chunked = slice_equal_case(coding, SLICE("chunked"));
            has_others |= !is_chunked;
        }
    }
    if (!is_chunked) {
        *why = "Transfer-Encoding does not end in chunked";
        return H1_BAD;
    }
    if (has_others) {
        *why = "Transfer-Encoding names a coding other than chunked";
        return H1_NOT_CODED;
    }
    return H1_DONE;
}
