/* gRPC's small grammars. */
#include "codec/grpc.h"

#include "base/buffer.h"
#include "base/clock.h"

#include <assert.h>
#include <nghttp2/nghttp2.h>

#define TIMEOUT_DIGITS_MAX 8
#define TIMEOUT_VALUE_MAX 99999999

/* Finest first. */
static const struct {
    char unit;
    int64_t ns;
} units[] = {
    {'n', 1},        {'u', 1000},          {'m', NS_PER_MS},
    {'S', NS_PER_S}, {'M', NS_PER_S * 60}, {'H', NS_PER_S * 3600},
};
#define UNITS (sizeof units / sizeof *units)

const char *grpc_status_name(enum grpc_status status) {
    static const char *const names[GRPC_STATUSES] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    assert(status < GRPC_STATUSES);
    return names[status];
}

enum grpc_status grpc_parse_status(struct slice text) {
    unsigned status = 0;

    if (text.len < 1 || text.len > 2)
        return GRPC_UNKNOWN;
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9')
            return GRPC_UNKNOWN;
        status = status * 10 + (unsigned)(text.base[i] - '0');
    }
    return status < GRPC_STATUSES ? status : GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_http(unsigned status) {
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

enum grpc_status grpc_status_of_reset(uint32_t code) {
    switch (code) {
    case NGHTTP2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

bool grpc_parse_timeout(struct slice text, int64_t *ns) {
    int64_t value = 0;

    if (text.len < 2 || text.len > TIMEOUT_DIGITS_MAX + 1)
        return false;
    for (size_t i = 0; i < text.len - 1; i++) {
        if (text.base[i] < '0' || text.base[i] > '9')
            return false;
        value = value * 10 + (text.base[i] - '0');
    }
    for (size_t i = 0; i < UNITS; i++) {
        if (units[i].unit != text.base[text.len - 1])
            continue;
        *ns = value > GRPC_TIMEOUT_MAX_NS / units[i].ns ? GRPC_TIMEOUT_MAX_NS : value * units[i].ns;
        return true;
    }
    return false;
}

struct slice grpc_write_timeout(struct arena *arena, int64_t ns) {
    char *text = arena_alloc(arena, TIMEOUT_DIGITS_MAX + 1);
    size_t i = 0, len;

    if (ns < 1)
        ns = 1;
    while (i < UNITS - 1 && ns / units[i].ns > TIMEOUT_VALUE_MAX)
        i++;
    len = uint_to_text(text, (uint64_t)(ns / units[i].ns));
    text[len] = units[i].unit;
    return slice_of(text, len + 1);
}

struct slice grpc_encode_message(struct arena *arena, struct slice text) {
    static const char hex[] = "0123456789ABCDEF";
    char *to = arena_alloc(arena, 3 * text.len);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];

        if (c >= ' ' && c <= '~' && c != '%') {
            to[len++] = (char)c;
            continue;
        }
        to[len++] = '%';
        to[len++] = hex[c >> 4];
        to[len++] = hex[c & 15];
    }
    return slice_of(to, len);
}

void grpc_add_status(struct fields *to, struct arena *arena, enum grpc_status status,
                     struct slice message) {
    char text[UINT_TEXT_MAX];

    fields_add_known(to, arena, FIELD_GRPC_STATUS,
                     arena_copy(arena, slice_of(text, uint_to_text(text, status))));
    if (message.len > 0)
        fields_add_known(to, arena, FIELD_GRPC_MESSAGE, grpc_encode_message(arena, message));
}

void grpc_messages_see(struct grpc_messages *messages, struct slice bytes) {
    while (bytes.len > 0) {
        size_t n;

        if (messages->left > 0) {
            n = bytes.len < messages->left ? bytes.len : messages->left;
            messages->left -= (uint32_t)n;
            messages->whole += messages->left == 0;
        } else {
            const uint8_t *prefix = messages->prefix;

            n = GRPC_PREFIX_BYTES - messages->have;
            n = bytes.len < n ? bytes.len : n;
            if (messages->have == 0) {
                messages->started++;
                messages->flags |= (uint8_t)bytes.base[0];
            }
            memcpy(messages->prefix + messages->have, bytes.base, n);
            messages->have += (uint8_t)n;
            if (messages->have == GRPC_PREFIX_BYTES) {
                messages->have = 0;
                messages->left = (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 |
                                 (uint32_t)prefix[3] << 8 | prefix[4];
                messages->whole += messages->left == 0;
            }
        }
        bytes = slice_skip(bytes, n);
    }
}
