/* What a plugin may ask for: the checks of everything that it hands to the host. They are made
 * twice, for the plugin's own information when it asks, and by the loop when the answer has come
 * back through memory that the plugin could have written to. */
#pragma once

#include "handler/call.h"

/* A token (RFC 9110 section 5.6.2) that does not frame a message and is no matter of one
 * connection; nor Host, which is the authority. */
bool edit_may_name(struct slice name);

/* Field content (RFC 9110 section 5.5) without space around it. */
bool edit_is_value(struct slice value);

/* Begins with '/', visible bytes only, no '#'; up to EDIT_PATH_MAX. */
#define EDIT_PATH_MAX 16384
bool edit_is_path(struct slice path);

/* [a-z0-9_], 1 to CALL_VARIABLE_NAME_MAX; and up to CALL_VARIABLE_VALUE_MAX of field content. */
bool edit_is_variable(struct slice name, struct slice value);

/* Of an answer in the upstream's place, or in place of the upstream's. */
bool edit_is_status(unsigned status);
