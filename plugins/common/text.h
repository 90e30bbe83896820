/* Texts and fields, for all built-in plugins. */
#pragma once

#include <weir/handler.h>

#include <string.h>
#include <strings.h>

#define TEXT_ARG(text) (int)(text).len, (text).base

static inline struct weir_text text_of(const char *s) {
    return (struct weir_text){s, strlen(s)};
}

static inline struct weir_text text_part(struct weir_text text, size_t from, size_t to) {
    return (struct weir_text){text.base + from, to - from};
}

static inline bool text_equal(struct weir_text a, struct weir_text b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

/* Of ASCII. */
static inline bool text_equal_case(struct weir_text a, struct weir_text b) {
    return a.len == b.len && (a.len == 0 || strncasecmp(a.base, b.base, a.len) == 0);
}

static inline bool text_starts(struct weir_text text, struct weir_text prefix) {
    return text.len >= prefix.len && text_equal(text_part(text, 0, prefix.len), prefix);
}

/* text.len when it is not there. */
static inline size_t text_find(struct weir_text text, char c) {
    const char *at = text.len ? memchr(text.base, c, text.len) : NULL;

    return at ? (size_t)(at - text.base) : text.len;
}

/* Without spaces and tabs around it. */
static inline struct weir_text text_trim(struct weir_text text) {
    while (text.len > 0 && (*text.base == ' ' || *text.base == '\t')) {
        text.base++;
        text.len--;
    }
    while (text.len > 0 && (text.base[text.len - 1] == ' ' || text.base[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* A field name (RFC 9110 section 5.6.2)? */
bool text_is_token(struct weir_text text);
/* A variable's name, or ""? */
bool text_is_variable(struct weir_text text);
/* May it be a field's value: no control bytes but tabs? */
bool text_is_value(struct weir_text text);

/* The first field line of that name behind @after; NULL: from the beginning, or there is none. */
const struct weir_field *text_find_field(const struct weir_field *fields, size_t count,
                                         struct weir_text name, const struct weir_field *after);

/* What a request shows in one place: nothing, one thing, or things that contradict each other. */
enum text_credential { CREDENTIAL_NONE, CREDENTIAL_ONE, CREDENTIAL_MANY };

/* The value of the one field line @name; behind @scheme and a space (RFC 9110 section 11.4), unless
 * that is "". A line of another scheme is none. */
enum text_credential text_field_credential(const struct weir_request *request,
                                           struct weir_text name, struct weir_text scheme,
                                           struct weir_text *value);
/* The decoded value of the one query parameter @name, and the path without any of that name; both
 * in the call's memory. CREDENTIAL_MANY, too, for one that is no percent-encoding. */
enum text_credential text_query_credential(const struct weir_host *host, struct weir_call *call,
                                           struct weir_text path, struct weir_text name,
                                           struct weir_text *value, struct weir_text *rest);

/* Bytes of hexadecimal digits: @text.len / 2 into @to. False: it is none. */
bool text_from_hex(struct weir_text text, unsigned char *to);
