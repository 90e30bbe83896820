/* Readers of single values; reader.h says what all have in common. */
#pragma once

#include "config/address.h"
#include "config/reader.h"

read_fn value_duration;    /* int64_t, nanoseconds */
read_fn value_size;        /* size_t, bytes; an integer or a string */
read_fn value_count;       /* unsigned */
read_fn value_share;       /* double, 0.0-1.0; the range is in percent, 0 is off */
read_fn value_boolean;     /* bool */
read_fn value_choice;      /* int: an enum */
read_fn value_name;        /* char *: of a section */
read_fn value_reference;   /* stores nothing: check.c looks it up when all names are known */
read_fn value_log_file;    /* char *: "stderr" or a path */
read_fn value_log_access;  /* char *: the same, or "off": NULL */
read_fn value_state_file;  /* char *: a path */
read_fn value_listen;      /* struct config_address */
read_fn value_admin;       /* struct config_admin: an address or "off" */
read_fn value_token;       /* char *: a secret, sent as a field's value */
read_fn value_resolver;    /* char *: "ip[:port],..." */
read_fn value_host;        /* char *: a Host field, "name[:port]" */
read_fn value_file;        /* char *: the path of a file that is to be read */
read_fn value_server_name; /* char *: a DNS name or an address, without a port */

/* For readers made of these: each answers false or NULL after refusing @node. */
const struct choice *value_find_choice(struct reader *reader, const struct schema_key *key,
                                       const struct tomlc_node *node);
bool value_address(struct reader *reader, const struct tomlc_node *node, enum address_use use,
                   struct config_address *to);

/* Puts @text in place of the string that the field at @to owns. */
void value_replace(void *to, struct slice text);
