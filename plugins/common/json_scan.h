/* Counts what a JSON text would become, before anybody builds it: one pass, no memory. A text that
 * is no JSON may pass, and is found by the parser; nothing that passes makes it exceed the limits.
 */
#pragma once

#include <weir/handler.h>

#define JSON_SCAN_DEPTH_MAX 64 /* the deepest limit that can be asked for */

struct json_scan_limits {
    int64_t depth;  /* of arrays and objects in each other; at most JSON_SCAN_DEPTH_MAX */
    int64_t keys;   /* of one object */
    int64_t values; /* in all */
    int64_t string; /* bytes of one text, as it is written */
};

enum json_scan_result {
    JSON_SCAN_FITS,
    JSON_SCAN_TOO_DEEP,
    JSON_SCAN_TOO_MANY_KEYS,
    JSON_SCAN_TOO_MANY_VALUES,
    JSON_SCAN_TOO_LONG,
};

enum json_scan_result json_scan(struct weir_text text, const struct json_scan_limits *limits);
