/* Content to bytes: [head] [chunk size] content [CRLF] [last chunk, trailers], in one writev. */
#include "codec/h1_send.h"

#include "codec/h1_write.h"

#define CHUNK_SIZE_TEXT_MAX 20
#define BUFS_AROUND 4 /* head, chunk size, CRLF, last chunk */

static int send_some(struct h1_send *send, struct body *body, bool has_head);

int h1_send_body(struct h1_send *send, struct body *body, bool has_head) {
    int outcome = send_some(send, body, has_head);

    /* A body may be in more pieces than one write takes. When the socket has taken all of them, no
     * drained event will come for the others. */
    while (outcome == H1_SEND_MORE && conn_is_drained(send->conn) && body_waiting(body) > 0)
        outcome = send_some(send, body, false);
    return outcome;
}

static int send_some(struct h1_send *send, struct body *body, bool has_head) {
    uv_buf_t bufs[CONN_SEND_BUFS_MAX], *at = bufs, *data = bufs + 2;
    char chunk_size[CHUNK_SIZE_TEXT_MAX];
    size_t head_len = has_head ? send->scratch->len : 0, bytes = 0;
    bool is_chunked = send->framing.kind == CONTENT_CHUNKED;
    bool has_content = send->framing.kind != CONTENT_NONE && body->state != BODY_RESET;
    unsigned data_count = has_content ? body_peek(body, data, CONN_SEND_BUFS_MAX - BUFS_AROUND) : 0;
    bool is_last;
    int outcome;

    for (unsigned i = 0; i < data_count; i++)
        bytes += data[i].len;
    is_last = send->framing.kind == CONTENT_NONE ||
              (body->state == BODY_ENDED && bytes == body_waiting(body));
    if (send->framing.kind == CONTENT_LENGTH &&
        (bytes > send->left || (is_last && bytes < send->left)))
        return H1_SEND_MISMATCH;
    if (is_last && is_chunked) {
        send->scratch->len = head_len;
        h1_write_last_chunk(send->scratch, &body->trailers);
    }
    if (has_head)
        *at++ = (uv_buf_t){.base = send->scratch->base, .len = head_len};
    if (is_chunked && bytes > 0)
        *at++ = uv_buf_init(chunk_size, (unsigned)h1_write_chunk_size(chunk_size, bytes));
    for (unsigned i = 0; i < data_count; i++)
        *at++ = data[i];
    if (is_chunked && bytes > 0)
        *at++ = uv_buf_init((char *)"\r\n", 2);
    if (is_last && is_chunked)
        *at++ =
            uv_buf_init(send->scratch->base + head_len, (unsigned)(send->scratch->len - head_len));
    if (is_last && send->is_connection_last)
        conn_end_follows(send->conn);
    if (at > bufs) {
        outcome = conn_send(send->conn, bufs, (unsigned)(at - bufs));
        if (outcome < 0)
            return outcome;
    }
    send->left -= send->framing.kind == CONTENT_LENGTH ? bytes : 0;
    if (bytes > 0)
        body_drop(body, bytes);
    return is_last ? H1_SEND_END : H1_SEND_MORE;
}
