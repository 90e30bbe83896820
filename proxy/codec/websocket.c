/* The answer to a WebSocket key. */
#include "codec/websocket.h"

#include <openssl/evp.h>

struct slice websocket_accept(struct arena *arena, struct slice key) {
    struct slice text =
        arena_printf(arena, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", SLICE_ARG(key));
    unsigned char digest[EVP_MAX_MD_SIZE];
    char base64[2 * EVP_MAX_MD_SIZE];
    unsigned len = 0;

    EVP_Digest(text.base, text.len, digest, &len, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)base64, digest, (int)len);
    return arena_copy(arena, slice_str(base64));
}
