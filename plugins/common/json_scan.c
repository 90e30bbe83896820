#include "json_scan.h"

/* The position behind the text that begins at @at. */
static size_t skip_string(struct weir_text text, size_t at) {
    for (at++; at < text.len; at++) {
        if (text.base[at] == '\\')
            at++;
        else if (text.base[at] == '"')
            return at + 1;
    }
    return text.len;
}

enum json_scan_result json_scan(struct weir_text text, const struct json_scan_limits *limits) {
    int64_t keys[JSON_SCAN_DEPTH_MAX + 1] = {0}, depth = 0, values = 1;
    size_t at = 0;

    while (at < text.len) {
        char c = text.base[at];
        size_t end = at + 1;

        if (c == '"') {
            end = skip_string(text, at);
            if ((int64_t)(end - at) - 2 > limits->string)
                return JSON_SCAN_TOO_LONG;
        } else if (c == '{' || c == '[') {
            if (++depth > limits->depth || depth > JSON_SCAN_DEPTH_MAX)
                return JSON_SCAN_TOO_DEEP;
            keys[depth] = 0;
            values++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        } else if (c == ':' && ++keys[depth] > limits->keys) {
            return JSON_SCAN_TOO_MANY_KEYS;
        } else if (c == ',') {
            values++;
        }
        if (values > limits->values)
            return JSON_SCAN_TOO_MANY_VALUES;
        at = end;
    }
    return JSON_SCAN_FITS;
}
