/* What a pipeline's active health checks ask and expect. */
#pragma once

#include "config/errors.h"
#include "config/reader.h"

read_fn checks_path;    /* char *: the target of a request */
read_fn checks_service; /* char *: a gRPC service's name; may be "" */
read_fn checks_status;  /* struct config_pipeline: health.statuses */

/* What does not go together in the health table of @pipeline, at @node (of the pipeline). */
void checks_complete(struct config_pipeline *pipeline, const struct tomlc_node *node,
                     struct errors *errors);
