#include "codec/ws_frames.h"

#include <assert.h>

#define HEAD_LEAST 2
#define OPCODE 0x0f
#define OPCODE_CLOSE 0x08
#define FIN 0x80
#define MASKED 0x80
#define LENGTH 0x7f
#define LENGTH_16 126
#define LENGTH_64 127

static size_t take(struct ws_frames *frames, struct slice bytes);
static size_t head_bytes(const struct ws_frames *frames);
static void begin_payload(struct ws_frames *frames);

void ws_frames_follow(struct ws_frames *frames, struct slice bytes) {
    while (bytes.len > 0)
        bytes = slice_skip(bytes, take(frames, bytes));
}

size_t ws_frames_to_border(struct ws_frames *frames, struct slice bytes) {
    size_t used = 0;

    while (used < bytes.len && !ws_frames_at_border(frames))
        used += take(frames, slice_skip(bytes, used));
    return used;
}

struct slice ws_frames_close(char to[WS_CLOSE_MAX], uint16_t code, const uint8_t mask[4]) {
    const uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t len = 0;

    to[len++] = (char)(FIN | OPCODE_CLOSE);
    to[len++] = (char)((mask ? MASKED : 0) | sizeof payload);
    for (size_t i = 0; mask && i < 4; i++)
        to[len++] = (char)mask[i];
    for (size_t i = 0; i < sizeof payload; i++)
        to[len++] = (char)(payload[i] ^ (mask ? mask[i] : 0));
    return slice_of(to, len);
}

/* Takes the next byte of a head, or what there is of a payload; returns how much. */
static size_t take(struct ws_frames *frames, struct slice bytes) {
    size_t n = bytes.len;

    if (frames->is_lost)
        return n;
    if (frames->payload_left > 0) {
        if (n > frames->payload_left)
            n = (size_t)frames->payload_left;
        frames->payload_left -= n;
        return n;
    }
    assert(frames->head_seen < WS_HEAD_MAX);
    frames->head[frames->head_seen++] = (uint8_t)bytes.base[0];
    if (frames->head_seen >= HEAD_LEAST && frames->head_seen == head_bytes(frames))
        begin_payload(frames);
    return 1;
}

static unsigned length_bytes(const struct ws_frames *frames) {
    switch (frames->head[1] & LENGTH) {
    case LENGTH_16:
        return 2;
    case LENGTH_64:
        return 8;
    default:
        return 0;
    }
}

/* Of at least HEAD_LEAST bytes. */
static size_t head_bytes(const struct ws_frames *frames) {
    return HEAD_LEAST + length_bytes(frames) + (frames->head[1] & MASKED ? 4 : 0);
}

static void begin_payload(struct ws_frames *frames) {
    unsigned extended = length_bytes(frames);
    uint64_t length = 0;

    for (unsigned i = 0; i < extended; i++)
        length = length << 8 | frames->head[HEAD_LEAST + i];
    frames->payload_left = extended ? length : frames->head[1] & LENGTH;
    frames->is_closed |= (frames->head[0] & OPCODE) == OPCODE_CLOSE;
    frames->is_lost = length > INT64_MAX;
    frames->head_seen = 0;
}
