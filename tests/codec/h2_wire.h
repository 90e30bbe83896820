/* HTTP/2 by hand, for tests that play the other side: frames and header sections as bytes, well-
 * formed or not, and what comes back as text, a line for each frame. */
#pragma once

#include "base/buffer.h"

#include <nghttp2/nghttp2.h>

/* Appends a frame. */
void h2_frame(struct buffer *to, uint8_t type, uint8_t flags, uint32_t stream_id,
              struct slice payload);

/* Appends @lines, "name: value" with '\n' behind each, as HPACK literals that enter no table
 * (RFC 7541 section 6.2.2). A name may begin with a colon; "\\r", "\\n" and "\\0" in a value stand
 * for these bytes. */
void h2_section(struct buffer *to, const char *lines);

/* HEADERS with such a section. */
void h2_head(struct buffer *to, uint32_t stream_id, uint8_t flags, const char *lines);

void h2_data(struct buffer *to, uint32_t stream_id, uint8_t flags, struct slice data);
void h2_rst(struct buffer *to, uint32_t stream_id, uint32_t code);
void h2_window_update(struct buffer *to, uint32_t stream_id, uint32_t by);
/* One entry; none when @id is 0. */
void h2_settings(struct buffer *to, uint16_t id, uint32_t value);
void h2_settings_ack(struct buffer *to);

/* Reads frames. Zeroed but for the inflater, which h2_reader_open() makes. */
struct h2_reader {
    nghttp2_hd_inflater *inflater; /* owned */
    struct buffer in;              /* not yet a whole frame */
    struct buffer log;             /* a line for each frame, NUL-terminated */
    struct buffer content;         /* of all DATA */
    unsigned settings;             /* SETTINGS that are not acknowledged yet */
    unsigned pings;                /* the same */
    uint64_t ping;                 /* content of the last one, in network order */
};

void h2_reader_open(struct h2_reader *reader);
void h2_reader_close(struct h2_reader *reader);
/* Lines: "HEADERS 1 END_STREAM :status=200, date=..", "DATA 1 5 END_STREAM hello" (text when it is
 * short), "RST_STREAM 1 CANCEL", "GOAWAY 3 NO_ERROR", "WINDOW_UPDATE 0 100", "SETTINGS", "SETTINGS
 * ACK", "PING", "PING ACK", "frame N". */
void h2_reader_feed(struct h2_reader *reader, struct slice bytes);
/* Is there a line that begins with @text? */
bool h2_reader_has(const struct h2_reader *reader, const char *text);
/* How many? */
unsigned h2_reader_count(const struct h2_reader *reader, const char *text);
