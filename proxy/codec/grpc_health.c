/* See grpc_health.h, and "Encoding" of the protocol buffers' own specification. */
#include "codec/grpc_health.h"

#include "codec/grpc.h"

#include <string.h>

#define TAG_SERVICE (1 << 3 | 2) /* field 1, bytes */
#define TAG_STATUS (1 << 3)      /* field 1, a varint */

static bool take_message(struct slice content, struct slice *message);
static bool take_field(struct slice *from, uint64_t *tag, uint64_t *value, struct slice *bytes);
static bool take_varint(struct slice *from, uint64_t *value);

struct slice grpc_health_write_request(struct arena *arena, struct slice service) {
    char *to = arena_alloc(arena, GRPC_PREFIX_BYTES + 11 + service.len);
    size_t at = GRPC_PREFIX_BYTES;

    if (service.len > 0) {
        size_t len = service.len;

        to[at++] = TAG_SERVICE;
        for (; len >= 0x80; len >>= 7)
            to[at++] = (char)(len | 0x80);
        to[at++] = (char)len;
        memcpy(to + at, service.base, service.len);
        at += service.len;
    }
    memset(to, 0, GRPC_PREFIX_BYTES);
    for (unsigned i = 0; i < 4; i++)
        to[1 + i] = (char)((at - GRPC_PREFIX_BYTES) >> (8 * (3 - i)));
    return slice_of(to, at);
}

bool grpc_health_read_request(struct slice content, struct slice *service) {
    struct slice message, bytes;
    uint64_t tag, value;

    if (!take_message(content, &message))
        return false;
    *service = SLICE("");
    while (message.len > 0) {
        if (!take_field(&message, &tag, &value, &bytes))
            return false;
        if (tag == TAG_SERVICE)
            *service = bytes;
    }
    return true;
}

struct slice grpc_health_write_response(char to[GRPC_HEALTH_RESPONSE_BYTES],
                                        enum grpc_serving serving) {
    const char message[GRPC_HEALTH_RESPONSE_BYTES] = {0, 0, 0, 0, 2, TAG_STATUS, (char)serving};

    memcpy(to, message, sizeof message);
    return slice_of(to, sizeof message);
}

bool grpc_health_read_response(struct slice content, enum grpc_serving *serving) {
    struct slice message, bytes;
    uint64_t tag, value, status = GRPC_SERVING_UNKNOWN;

    if (!take_message(content, &message))
        return false;
    while (message.len > 0) {
        if (!take_field(&message, &tag, &value, &bytes))
            return false;
        if (tag == TAG_STATUS)
            status = value;
    }
    *serving = status <= GRPC_SERVICE_UNKNOWN ? (enum grpc_serving)status : GRPC_SERVING_UNKNOWN;
    return true;
}

/* All of @content is one message, and nobody compresses 20 bytes. */
static bool take_message(struct slice content, struct slice *message) {
    size_t len = 0;

    if (content.len < GRPC_PREFIX_BYTES || content.base[0] != 0)
        return false;
    for (unsigned i = 1; i < GRPC_PREFIX_BYTES; i++)
        len = len << 8 | (uint8_t)content.base[i];
    *message = slice_skip(content, GRPC_PREFIX_BYTES);
    return message->len == len;
}

/* A field with a number, or with bytes; others there are none of. */
static bool take_field(struct slice *from, uint64_t *tag, uint64_t *value, struct slice *bytes) {
    *value = 0;
    *bytes = SLICE("");
    if (!take_varint(from, tag))
        return false;
    if ((*tag & 7) == 0)
        return take_varint(from, value);
    if ((*tag & 7) != 2 || !take_varint(from, value) || *value > from->len)
        return false;
    *bytes = slice_of(from->base, (size_t)*value);
    *from = slice_skip(*from, (size_t)*value);
    return true;
}

static bool take_varint(struct slice *from, uint64_t *value) {
    *value = 0;
    for (unsigned i = 0; i < from->len && i < 10; i++) {
        uint8_t byte = (uint8_t)from->base[i];

        *value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *from = slice_skip(*from, i + 1);
            return true;
        }
    }
    return false;
}
