/* What [[route]] rewrite_urls says: between which base URLs it is rewritten, and where. Immutable.
 */
#pragma once

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* A base URL, taken apart: "http://localhost:8080/api". */
struct config_url {
    bool is_secure; /* https */
    bool has_port;  /* one that is not the scheme's own, which is left out */
    char *rest;     /* "localhost:8080/api": the host in lower case, no '/' at the end; owned; NULL:
                       none */
    size_t authority; /* bytes of rest in front of the path */
};

/* ":80" or ":443". */
struct slice config_url_port(bool is_secure);

/* URLs of the pipeline's own names, which nobody can use on the other side of weir. */
struct config_rewrite {
    struct config_url *inner; /* owned; at least one */
    size_t inner_count;
    struct config_url outer; /* rest NULL: scheme and host that the client asked for */
    char **bodies; /* owned; media types in lower case of content that is rewritten, too */
    size_t body_count;
    bool has_requests; /* outer to inner in requests; there is an outer then */
};

void config_rewrite_free(struct config_rewrite *rewrite);
