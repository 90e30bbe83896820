/* What a route matches by: hosts and paths in the form that requests are compared in. */
#pragma once

#include "config/reader.h"

read_fn match_host; /* char *: lower case, "*." in front for a wildcard */
read_fn match_grpc; /* struct config_route: is_grpc, and path or exact */
read_fn match_path; /* char *: begins with '/', normalised (RFC 3986 section 6.2.2) */

/* RFC 9110 section 5.6.2. */
read_fn match_field; /* char *: a field's name */
read_fn match_fair;  /* struct config_pipeline: queue.fair and queue.fair_field */
bool match_is_token(struct slice text);

/* RFC 9110 section 5.5: no control characters, no blanks at the ends. */
bool match_is_field_value(struct slice text);

/* A copy in lower case; the caller frees. */
char *match_lower(struct slice text);
