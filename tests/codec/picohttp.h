/* picohttpparser as libh2o.so 2.2.5 (libh2o 0.13.5) exports it, for which the library installs no
 * header. It is the second opinion of the fuzz targets: whatever weir accepts, it must accept too
 * and split in the same way. It is not the parser of weir, because it costs twice as many
 * instructions and lets through LF without CR, obs-fold (as a field whose name is NULL), an empty
 * method, '#' and non-ASCII bytes in targets, so that every part has to be looked at again. */
#pragma once

#include <stddef.h>

struct phr_header {
    const char *name; /* borrowed: the input; NULL for the continuation of a folded line */
    size_t name_len;
    const char *value; /* borrowed: the input; with its trailing OWS */
    size_t value_len;
};

/* Both return the bytes used, -1 when malformed (or more than *num_headers fields), -2 when
 * incomplete. */
int phr_parse_request(const char *buf, size_t len, const char **method, size_t *method_len,
                      const char **path, size_t *path_len, int *minor_version,
                      struct phr_header *headers, size_t *num_headers, size_t last_len);
int phr_parse_response(const char *buf, size_t len, int *minor_version, int *status,
                       const char **msg, size_t *msg_len, struct phr_header *headers,
                       size_t *num_headers, size_t last_len);
