/* WebSocket framing; see ws_reader.h. */
#include "demo/ws_reader.h"

#include "base/utf8.h"

#define FINAL 0x80
#define RESERVED 0x70
#define MASKED 0x80
#define LENGTH 0x7f
#define LENGTH_16 126
#define LENGTH_64 127

enum {
    FAULT_PROTOCOL = 1002,
    FAULT_NO_CODE = 1005,
    FAULT_TEXT = 1007,
    FAULT_TOO_BIG = 1009,
};

static size_t head_size(const struct ws_reader *reader);
static unsigned check_start(const struct ws_reader *reader);
static unsigned open_frame(struct ws_reader *reader);
static void take_payload(struct ws_reader *reader, struct slice *in);
static enum ws_read end_frame(struct ws_reader *reader);

void ws_reader_deinit(struct ws_reader *reader) {
    buffer_deinit(&reader->message);
    buffer_deinit(&reader->control);
}

enum ws_read ws_reader_next(struct ws_reader *reader, struct slice *in) {
    if (reader->is_told) {
        reader->is_told = false;
        reader->type = WS_CONTINUATION;
        reader->message.len = 0;
    }
    for (;;) {
        if (reader->in_payload) {
            enum ws_read read = WS_READ_MORE;

            take_payload(reader, in);
            if (reader->left == 0)
                read = end_frame(reader);
            if (reader->left > 0 || read != WS_READ_MORE)
                return read;
        }
        while (in->len > 0 && reader->head_len < head_size(reader)) {
            reader->head[reader->head_len++] = (uint8_t)*in->base;
            *in = slice_skip(*in, 1);
            if (reader->head_len == 2)
                reader->fault = check_start(reader);
            if (reader->fault)
                return WS_READ_BROKEN;
        }
        if (reader->head_len < head_size(reader))
            return WS_READ_MORE;
        reader->fault = open_frame(reader);
        if (reader->fault)
            return WS_READ_BROKEN;
    }
}

/* As far as its first two bytes tell. */
static size_t head_size(const struct ws_reader *reader) {
    unsigned length = reader->head[1] & LENGTH;

    if (reader->head_len < 2)
        return 2;
    return 2 + (length == LENGTH_16 ? 2U : length == LENGTH_64 ? 8U : 0U) + 4;
}

/* What is wrong with the first two bytes, or 0. */
static unsigned check_start(const struct ws_reader *reader) {
    enum ws_opcode opcode = ws_reader_opcode(reader);
    bool is_final = reader->head[0] & FINAL, has_message = reader->type != WS_CONTINUATION;

    if ((reader->head[0] & RESERVED) || !(reader->head[1] & MASKED))
        return FAULT_PROTOCOL;
    switch (opcode) {
    case WS_CONTINUATION:
        return has_message ? 0 : FAULT_PROTOCOL;
    case WS_TEXT:
    case WS_BINARY:
        return has_message ? FAULT_PROTOCOL : 0;
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG:
        return is_final && (reader->head[1] & LENGTH) <= WS_CONTROL_BYTES_MAX ? 0 : FAULT_PROTOCOL;
    }
    return FAULT_PROTOCOL;
}

/* The head is whole: what is wrong with it, or 0. */
static unsigned open_frame(struct ws_reader *reader) {
    unsigned length = reader->head[1] & LENGTH;
    size_t bytes = length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
    enum ws_opcode opcode = ws_reader_opcode(reader);

    reader->left = bytes ? 0 : length;
    for (size_t i = 0; i < bytes; i++)
        reader->left = reader->left << 8 | reader->head[2 + i];
    /* Section 5.2: the shortest form must be used. */
    if ((bytes == 2 && reader->left < LENGTH_16) || (bytes == 8 && reader->left <= UINT16_MAX))
        return FAULT_PROTOCOL;
    reader->mask_at = 0;
    reader->in_payload = true;
    if (opcode & WS_CLOSE) { /* the bit that control frames share */
        reader->control.len = 0;
        return 0;
    }
    if (reader->left > WS_MESSAGE_BYTES_MAX - reader->message.len)
        return FAULT_TOO_BIG;
    if (opcode != WS_CONTINUATION)
        reader->type = opcode;
    return 0;
}

static void take_payload(struct ws_reader *reader, struct slice *in) {
    const uint8_t *mask = reader->head + reader->head_len - 4;
    struct buffer *out = ws_reader_opcode(reader) & WS_CLOSE ? &reader->control : &reader->message;
    size_t n = in->len < reader->left ? in->len : (size_t)reader->left;
    char *to;

    if (n == 0)
        return;
    to = buffer_reserve(out, n);
    for (size_t i = 0; i < n; i++)
        to[i] = (char)((uint8_t)in->base[i] ^ mask[(reader->mask_at + i) & 3]);
    out->len += n;
    reader->mask_at = (unsigned)((reader->mask_at + n) & 3);
    reader->left -= n;
    *in = slice_skip(*in, n);
}

/* WS_READ_MORE: the message goes on in another frame. */
static enum ws_read end_frame(struct ws_reader *reader) {
    reader->in_payload = false;
    reader->head_len = 0;
    if (ws_reader_opcode(reader) & WS_CLOSE)
        return WS_READ_CONTROL;
    if (!(reader->head[0] & FINAL))
        return WS_READ_MORE;
    if (reader->type == WS_TEXT && !utf8_is_valid(buffer_slice(&reader->message))) {
        reader->fault = FAULT_TEXT;
        return WS_READ_BROKEN;
    }
    reader->is_told = true;
    return WS_READ_MESSAGE;
}

unsigned ws_close_code(struct slice payload) {
    unsigned code;

    if (payload.len == 0)
        return FAULT_NO_CODE;
    if (payload.len == 1)
        return FAULT_PROTOCOL;
    code = (unsigned)(uint8_t)payload.base[0] << 8 | (uint8_t)payload.base[1];
    if (code < 1000 || code > 4999 || (code >= 1004 && code <= 1006) ||
        (code > 1014 && code < 3000))
        return FAULT_PROTOCOL;
    return utf8_is_valid(slice_skip(payload, 2)) ? code : FAULT_TEXT;
}

size_t ws_write_head(char *to, enum ws_opcode opcode, size_t len) {
    size_t bytes = len < LENGTH_16 ? 0 : len <= UINT16_MAX ? 2 : 8;

    to[0] = (char)(FINAL | opcode);
    to[1] = (char)(bytes == 0 ? len : bytes == 2 ? LENGTH_16 : LENGTH_64);
    for (size_t i = 0; i < bytes; i++)
        to[2 + i] = (char)((uint64_t)len >> (8 * (bytes - 1 - i)));
    return 2 + bytes;
}
