/* Readers of lists: an array pointer and its count, replaced as a whole. */
#pragma once

#include "config/reader.h"

#define LIST_ENDPOINTS_MAX 64
#define LIST_TRUST_MAX 64
#define LIST_METHODS_MAX 32
#define LIST_FIELDS_MAX 16

read_fn list_endpoints; /* struct config_pipeline */
read_fn list_trust;     /* struct config_listener */
read_fn list_bits;      /* unsigned: bits of an enum, by the key's choices */
read_fn list_methods;   /* struct config_route; one string or a list */
read_fn list_fields;    /* struct config_route; a table of names and values */

/* Free the list and its elements. */
void list_free_endpoints(struct config_pipeline *pipeline);
void list_free_methods(struct config_route *route);
void list_free_fields(struct config_route *route);
