/* Where the frames of a WebSocket begin and end (RFC 6455 section 5.2), in one direction of a
 * tunnel: heads are followed, payloads skipped, nothing is kept. At a border between two frames a
 * gateway that has to leave can say so with a Close frame, which may stand inside a fragmented
 * message. Home: loop. */
#pragma once

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define WS_HEAD_MAX 14     /* bytes of a frame's head */
#define WS_CLOSE_MAX 8     /* bytes of the frame that ws_frames_close() makes */
#define WS_GOING_AWAY 1001 /* section 7.4.1 */

/* Zeroed: before the first frame. */
struct ws_frames {
    uint64_t payload_left;
    uint8_t head[WS_HEAD_MAX];
    uint8_t head_seen; /* bytes of the head so far */
    bool is_closed;    /* the head of a Close frame was seen */
    bool is_lost;      /* what came is no frame: no border is known any more */
};

/* Follows @bytes to their end. */
void ws_frames_follow(struct ws_frames *frames, struct slice bytes);

/* Follows @bytes to the first border, their beginning included, and returns how many these are: all
 * when there is none. */
size_t ws_frames_to_border(struct ws_frames *frames, struct slice bytes);

static inline bool ws_frames_at_border(const struct ws_frames *frames) {
    return frames->head_seen == 0 && frames->payload_left == 0 && !frames->is_lost;
}

/* Writes a Close frame with @code, masked as clients have to if there is a @mask (section 5.3). */
struct slice ws_frames_close(char to[WS_CLOSE_MAX], uint16_t code, const uint8_t mask[4]);
