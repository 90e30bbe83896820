/* picohttpparser as libh2o.so 2.2.5 (libh2o 0.13.5) exports it: the library installs no header for
 * it, so the declarations are ours, and meson.build asks for that very release.
 *
 * What this version was seen to do (tests/codec/test_picohttp.c holds it to that):
 * - it refuses control characters other than HTAB anywhere, names that are no tokens, a colon
 *   behind a space, versions other than HTTP/1.DIGIT, a status line without its second space;
 * - it lets through LF without CR, one empty line in front, an empty method, '#' and non-ASCII
 *   bytes in method and target, obs-fold (a field whose name is NULL); it leaves trailing OWS in
 *   values and knows nothing of framing. */
#pragma once

#include <stddef.h>

struct phr_header {
    const char *name; /* borrowed: the input; NULL for the continuation of a folded line */
    size_t name_len;
    const char *value; /* borrowed: the input */
    size_t value_len;
};

/* All three return the bytes used, -1 when malformed (or more than *num_headers fields), -2 when
 * incomplete. With @last_len > 0 they look for the end of the head from there on first. */
int phr_parse_request(const char *buf, size_t len, const char **method, size_t *method_len,
                      const char **path, size_t *path_len, int *minor_version,
                      struct phr_header *headers, size_t *num_headers, size_t last_len);
int phr_parse_response(const char *buf, size_t len, int *minor_version, int *status,
                       const char **msg, size_t *msg_len, struct phr_header *headers,
                       size_t *num_headers, size_t last_len);
int phr_parse_headers(const char *buf, size_t len, struct phr_header *headers, size_t *num_headers,
                      size_t last_len);
