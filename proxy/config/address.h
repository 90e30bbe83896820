/* Addresses as text: "127.0.0.1:80", "[::1]:80", ":80", "name:80", "unix:/path". */
#pragma once

#include "base/buffer.h"
#include "base/slice.h"
#include "config/config.h"

enum address_use {
    ADDRESS_TO_LISTEN, /* no names; ":80" is every address */
    ADDRESS_TO_DIAL,   /* no ":80", no "0.0.0.0:80" */
};

/* NULL and *@out, which the caller deinits; or what was expected instead, and in @guess what may
 * have been meant (stays empty when nothing comes to mind). */
const char *address_parse(struct config_address *out, struct slice text, enum address_use use,
                          struct buffer *guess);

/* Frees the texts; a zeroed address is fine. */
void address_deinit(struct config_address *address);

/* Do both lead to the same place? Names are compared as names. */
bool address_is_same(const struct config_address *a, const struct config_address *b);

/* Can only one of them be listened on? "0.0.0.0:80" is in the way of "127.0.0.1:80", and "[::]:80"
 * of both, because IPv6 sockets may take IPv4 too. */
bool address_is_in_the_way(const struct config_address *a, const struct config_address *b);

/* A DNS name in letters, digits, '-' and '_', labels of 1 to 63, at most 253 in all, not like an
 * IPv4 address. */
bool address_is_name(struct slice text);
