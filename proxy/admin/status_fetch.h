/* A small HTTP/1.0 client for `weir status` and `weir endpoint`: one blocking request with a time
 * limit. */
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "config/config.h"

#define STATUS_TIMEOUT_NS (5 * NS_PER_S)      /* the whole of it, name lookup excepted */
#define STATUS_CONTENT_MAX (16 * 1024 * 1024) /* bytes of an answer, head included */

/* Appends the content of a 200 answer to @content. Otherwise -1, and @error (owned: the caller)
 * says why, as "cannot connect to 'x': connection refused; is weir running?". */
int status_fetch(const struct config_address *address, const char *path, struct buffer *content,
                 char **error);

/* The same with POST, and @token (NULL: none); @content is also that of an answer that refuses:
 * then -1, and no @error. */
int status_post(const struct config_address *address, const char *path, const char *token,
                struct buffer *content, char **error);
