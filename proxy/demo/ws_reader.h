/* WebSocket frames from a client, to messages (RFC 6455 section 5): unmasked, put together when
 * they come in fragments, bounded; control frames may stand between the fragments. What the
 * section forbids is refused with the close code of section 7.4.1. Home: loop. */
#pragma once

#include "base/buffer.h"

#define WS_MESSAGE_BYTES_MAX (1024 * 1024)
#define WS_CONTROL_BYTES_MAX 125 /* section 5.5 */
#define WS_HEAD_BYTES_MAX 14     /* with a mask; 10 without */

enum ws_opcode {
    WS_CONTINUATION = 0x0,
    WS_TEXT = 0x1,
    WS_BINARY = 0x2,
    WS_CLOSE = 0x8,
    WS_PING = 0x9,
    WS_PONG = 0xa,
};

/* Zeroed memory is ready to use. */
struct ws_reader {
    uint8_t head[WS_HEAD_BYTES_MAX];
    size_t head_len;       /* bytes of the head that are there */
    uint64_t left;         /* payload bytes of the frame still to come */
    unsigned mask_at;      /* which byte of the mask is next */
    bool in_payload;       /* the head is whole */
    bool is_told;          /* what `message` holds was told: the next frame starts anew */
    enum ws_opcode type;   /* of the message under way: WS_TEXT, WS_BINARY; CONTINUATION: none */
    struct buffer message; /* owned */
    struct buffer control; /* owned; payload of the last control frame */
    unsigned fault;        /* WS_READ_BROKEN: close code */
};

enum ws_read {
    WS_READ_MORE,    /* all of the input is used, nothing is whole */
    WS_READ_MESSAGE, /* in `message`, of `type`, until the next call */
    WS_READ_CONTROL, /* in `control`; its opcode is in ws_reader_opcode() */
    WS_READ_BROKEN,  /* `fault` says why; there is no going on */
};

void ws_reader_deinit(struct ws_reader *reader);

/* Takes bytes off the front of @in until something is whole. */
enum ws_read ws_reader_next(struct ws_reader *reader, struct slice *in);

static inline enum ws_opcode ws_reader_opcode(const struct ws_reader *reader) {
    return (enum ws_opcode)(reader->head[0] & 0xf);
}

/* What a close frame's payload says: the code to answer with, 1005 when there is none, 1002 or 1007
 * when it is malformed (sections 5.5.1 and 7.4). */
unsigned ws_close_code(struct slice payload);

/* The head of a whole, unmasked frame into @to (WS_HEAD_BYTES_MAX); returns its length. */
size_t ws_write_head(char *to, enum ws_opcode opcode, size_t len);
