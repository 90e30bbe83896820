/* /ws: the WebSocket handshake and an echo (RFC 6455). Messages that are not read hold back those
 * that are sent: at most one message and a window of answers are kept. */
#include "codec/websocket.h"
#include "demo/resource.h"
#include "demo/ws_reader.h"

#include <openssl/evp.h>

#define KEY_LEN 24 /* 16 bytes in base64, section 4.1 */
#define GOING_AWAY 1001
#define NO_CODE 1005

struct websocket {
    struct ws_reader reader;
    bool is_closing; /* our close frame is sent; what still comes is thrown away */
};

static const char *find_fault(const struct visit *v);
static bool is_key(struct slice key);
static void websocket_move(struct visit *v);
static void websocket_leave(struct visit *v);
static void handle(struct visit *v, enum ws_read read);
static void send_frame(struct visit *v, enum ws_opcode opcode, struct slice payload);
static void send_close(struct visit *v, unsigned code);

void websocket_open(struct visit *v) {
    struct slice key = visit_field(v, SLICE("sec-websocket-key"));
    const char *fault = find_fault(v);

    if (fault) {
        visit_discard(v);
        visit_add(v, "upgrade", SLICE("websocket"));
        visit_add(v, "sec-websocket-version", SLICE("13"));
        visit_say(v, 426, "this is for WebSockets: %s", fault);
        return;
    }
    visit_state(v, sizeof(struct websocket));
    v->leave = websocket_leave;
    v->move = websocket_move;
    v->x.is_stream = true;
    visit_add(v, "upgrade", SLICE("websocket"));
    visit_add(v, "sec-websocket-accept", websocket_accept(&v->x.arena, key));
    visit_begin(v, 101, NULL, (struct content){CONTENT_TUNNEL, 0});
    visit_read(v);
    exchange_wake(&v->x, 0);
}

/* Section 4.2.1. */
static const char *find_fault(const struct visit *v) {
    const struct request_head *head = &v->x.request_head;

    if (head->method != METHOD_GET || head->version < HTTP_1_1)
        return "a GET of HTTP/1.1 is needed";
    if (!fields_list_has(&head->fields, FIELD_UPGRADE, SLICE("websocket")) ||
        !fields_list_has(&head->fields, FIELD_CONNECTION, SLICE("upgrade")))
        return "the Upgrade field does not ask for one";
    if (!slice_equal(visit_field(v, SLICE("sec-websocket-version")), SLICE("13")))
        return "Sec-WebSocket-Version is not 13";
    if (!is_key(visit_field(v, SLICE("sec-websocket-key"))))
        return "Sec-WebSocket-Key is not 16 bytes in base64";
    return v->x.request.state == BODY_OPEN ? "the request has content" : NULL;
}

static bool is_key(struct slice key) {
    unsigned char bytes[KEY_LEN];

    return key.len == KEY_LEN && key.base[21] != '=' &&
           slice_equal(slice_skip(key, 22), SLICE("==")) &&
           EVP_DecodeBlock(bytes, (const unsigned char *)key.base, KEY_LEN) > 0;
}

static void websocket_move(struct visit *v) {
    struct websocket *ws = v->state;
    struct body *in = &v->x.request, *out = &v->x.response;
    uv_buf_t buf;

    if ((v->x.events & VISIT_ENDING) && !ws->is_closing)
        send_close(v, GOING_AWAY);
    while (!ws->is_closing && body_has_room(out) && body_peek(in, &buf, 1) > 0) {
        struct slice bytes = slice_of(buf.base, buf.len);
        enum ws_read read = ws_reader_next(&ws->reader, &bytes);

        handle(v, read);
        body_drop(in, buf.len - bytes.len);
    }
    if (ws->is_closing)
        body_drop(in, body_waiting(in));
    else if (in->state != BODY_OPEN && body_waiting(in) == 0)
        body_end(out); /* left without a close frame */
    body_flush(out);
}

static void websocket_leave(struct visit *v) {
    struct websocket *ws = v->state;

    ws_reader_deinit(&ws->reader);
}

static void handle(struct visit *v, enum ws_read read) {
    struct websocket *ws = v->state;
    struct ws_reader *reader = &ws->reader;

    switch (read) {
    case WS_READ_MORE:
        break;
    case WS_READ_MESSAGE:
        send_frame(v, reader->type, buffer_slice(&reader->message));
        break;
    case WS_READ_CONTROL:
        if (ws_reader_opcode(reader) == WS_PING)
            send_frame(v, WS_PONG, buffer_slice(&reader->control));
        else if (ws_reader_opcode(reader) == WS_CLOSE)
            send_close(v, ws_close_code(buffer_slice(&reader->control)));
        break;
    case WS_READ_BROKEN:
        send_close(v, reader->fault);
        break;
    }
}

static void send_frame(struct visit *v, enum ws_opcode opcode, struct slice payload) {
    char head[WS_HEAD_BYTES_MAX];
    size_t len = ws_write_head(head, opcode, payload.len);

    body_push_copy(&v->x.response, slice_of(head, len));
    body_push_copy(&v->x.response, payload);
}

/* The last frame; the server is the first to close the connection (section 7.1.1). */
static void send_close(struct visit *v, unsigned code) {
    struct websocket *ws = v->state;
    const char payload[] = {(char)(code >> 8), (char)code};

    send_frame(v, WS_CLOSE, slice_of(payload, code == NO_CODE ? 0 : sizeof payload));
    ws->is_closing = true;
    body_end(&v->x.response);
}
