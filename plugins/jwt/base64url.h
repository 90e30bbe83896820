/* base64url without padding (RFC 4648 section 5, as RFC 7515 wants it): one text for one content,
 * no spaces, no bits left over. */
#pragma once

#include <weir/handler.h>

#define BASE64URL_DECODED_MAX(n) ((n) / 4 * 3 + 2)

/* @to has room for BASE64URL_DECODED_MAX(text.len). False: it is none. */
bool base64url_decode(struct weir_text text, unsigned char *to, size_t *len);
