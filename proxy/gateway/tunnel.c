/* Tunnels that weir can see into: WebSockets. Their frames are followed, so that one that has to
 * end while it is under way is told so, to both sides, between two frames (RFC 6455 section 7.1):
 * the Close frame takes the place of whatever else would come. What either side answers is not
 * waited for longer than the drain's deadline. */
#include "gateway/crossing.h"

#include "base/random.h"
#include "codec/ws_frames.h"

struct tunnel {
    struct ws_frames asked, answered;
    bool is_ending;
};

static size_t see_asked(struct body *body, struct slice bytes);
static size_t see_answered(struct body *body, struct slice bytes);
static size_t see(struct crossing *c, struct ws_frames *frames, struct slice bytes);
static bool is_closing_itself(const struct tunnel *tunnel);
static void say_close(struct body *body, const struct ws_frames *frames, const uint8_t *mask);

void tunnel_begin(struct crossing *c) {
    struct exchange *x = &c->x;

    /* Content in front of the tunnel is no frames. Over HTTP/2 there can be none. */
    if (!forward_is_websocket(&x->request_head) ||
        (x->request_head.version < HTTP_2 && x->request_content.kind != CONTENT_NONE))
        return;
    c->tunnel = arena_alloc(&x->arena, sizeof *c->tunnel);
    *c->tunnel = (struct tunnel){0};
    body_set_tap(&x->request, see_asked);
}

void tunnel_send(struct crossing *c) {
    if (!c->tunnel)
        return;
    c->tunnel->answered = (struct ws_frames){0};
    body_set_tap(&c->x.response, see_answered);
}

void tunnel_end(struct crossing *c) {
    if (!c->tunnel || !c->x.is_tunnel || c->tunnel->is_ending)
        return;
    c->tunnel->is_ending = true;
    exchange_wake(&c->x, 0);
}

void tunnel_look(struct crossing *c) {
    struct tunnel *tunnel = c->tunnel;
    uint64_t random;
    uint8_t mask[4];

    if (!tunnel || !tunnel->is_ending || is_closing_itself(tunnel))
        return;
    random = random_next();
    memcpy(mask, &random, sizeof mask);
    say_close(&c->x.response, &tunnel->answered, NULL);
    say_close(&c->x.request, &tunnel->asked, mask);
}

static size_t see_asked(struct body *body, struct slice bytes) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, request));

    return see(c, &c->tunnel->asked, bytes);
}

static size_t see_answered(struct body *body, struct slice bytes) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, response));

    return see(c, &c->tunnel->answered, bytes);
}

static size_t see(struct crossing *c, struct ws_frames *frames, struct slice bytes) {
    size_t n = bytes.len;

    if (!c->tunnel->is_ending || is_closing_itself(c->tunnel)) {
        ws_frames_follow(frames, bytes);
        return n;
    }
    n = ws_frames_to_border(frames, bytes);
    exchange_wake(&c->x, 0);
    return n;
}

/* One side has said Close by itself, and the other one's answer is on its way. */
static bool is_closing_itself(const struct tunnel *tunnel) {
    return tunnel->asked.is_closed || tunnel->answered.is_closed;
}

static void say_close(struct body *body, const struct ws_frames *frames, const uint8_t *mask) {
    char frame[WS_CLOSE_MAX];

    if (body->state != BODY_OPEN || !ws_frames_at_border(frames))
        return;
    body_set_tap(body, NULL);
    body_push_copy(body, ws_frames_close(frame, WS_GOING_AWAY, mask));
    body_end(body);
    body_flush(body);
}
