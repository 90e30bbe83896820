/* The tls tables of listeners and pipelines: what they list, and whether the files hold what is
 * asked for. */
#pragma once

#include "config/reader.h"

#define CERTIFICATES_MAX 64 /* of one listener */

read_fn certificates_list; /* struct config_listener: tls.certificates */

/* Completes and checks the tls tables of all sections; what will do but should be known of (an
 * expired certificate) goes to @warnings. */
void certificates_check(struct config *config, const struct tomlc_node *root, struct errors *errors,
                        struct errors *warnings);

void certificates_free(struct config_listener_tls *tls);
void certificates_free_pipeline(struct config_pipeline_tls *tls);
