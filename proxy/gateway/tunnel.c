/* Tunnels that weir can see into: WebSockets. Their frames are followed, so that one that has to
 * end while it is under way is told so, to both sides, between two frames (RFC 6455 section 7.1):
 * the Close frame takes the place of whatever else would come. The connections end once both sides
 * have said Close, for some take an end that comes together with the frame for a break; but that is
 * not waited for longer than TUNNEL_ANSWER_NS. */
#include "gateway/crossing.h"

#include "base/random.h"
#include "codec/ws_frames.h"

enum way_state {
    WAY_PASSES,
    WAY_IS_CUT, /* at a border: what comes is dropped, a Close frame is due */
    WAY_SAYS,   /* it is being pushed */
    WAY_IS_TOLD /* what comes is dropped */
};

struct way {
    struct ws_frames frames;
    enum way_state state;
};

struct tunnel {
    struct way asked, answered;
    bool is_ending;
};

static size_t see_asked(struct body *body, struct slice bytes);
static size_t see_answered(struct body *body, struct slice bytes);
static size_t see(struct crossing *c, struct way *way, struct slice bytes);
static bool is_closing_itself(const struct tunnel *tunnel);
static void say_close(struct crossing *c, struct body *body, struct way *way, const uint8_t *mask);
static void end_told(struct body *body, const struct way *way);

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
    c->tunnel->answered = (struct way){0};
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

    if (!tunnel || !tunnel->is_ending)
        return;
    random = random_next();
    memcpy(mask, &random, sizeof mask);
    say_close(c, &c->x.response, &tunnel->answered, NULL);
    say_close(c, &c->x.request, &tunnel->asked, mask);
    if ((tunnel->asked.frames.is_closed && tunnel->answered.frames.is_closed) ||
        c->x.events & CROSSING_WAIT_OVER) {
        end_told(&c->x.response, &tunnel->answered);
        end_told(&c->x.request, &tunnel->asked);
    }
}

static size_t see_asked(struct body *body, struct slice bytes) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, request));

    return see(c, &c->tunnel->asked, bytes);
}

static size_t see_answered(struct body *body, struct slice bytes) {
    struct crossing *c = crossing_of(CONTAINER_OF(body, struct exchange, response));

    return see(c, &c->tunnel->answered, bytes);
}

static size_t see(struct crossing *c, struct way *way, struct slice bytes) {
    size_t n = bytes.len;

    if (way->state == WAY_SAYS)
        return n;
    if (c->tunnel->is_ending) {
        if (way->state != WAY_PASSES) {
            n = 0;
        } else if (!is_closing_itself(c->tunnel)) {
            n = ws_frames_to_border(&way->frames, bytes);
            if (ws_frames_at_border(&way->frames) && !way->frames.is_closed)
                way->state = WAY_IS_CUT;
            bytes = slice_skip(bytes, n);
        }
        exchange_wake(&c->x, 0);
    }
    ws_frames_follow(&way->frames, bytes); /* of what is dropped too: a Close frame answers ours */
    return n;
}

/* One side has said Close by itself, and the other one's answer is on its way. */
static bool is_closing_itself(const struct tunnel *tunnel) {
    return (tunnel->asked.frames.is_closed && tunnel->asked.state == WAY_PASSES) ||
           (tunnel->answered.frames.is_closed && tunnel->answered.state == WAY_PASSES);
}

static void say_close(struct crossing *c, struct body *body, struct way *way, const uint8_t *mask) {
    char frame[WS_CLOSE_MAX];
    bool is_due = way->state == WAY_IS_CUT ||
                  (way->state == WAY_PASSES && ws_frames_at_border(&way->frames) &&
                   !is_closing_itself(c->tunnel));

    if (!is_due || body->state != BODY_OPEN)
        return;
    way->state = WAY_SAYS;
    body_push_copy(body, ws_frames_close(frame, WS_GOING_AWAY, mask));
    way->state = WAY_IS_TOLD;
    body_flush(body);
    if (!timer_is_running(&c->wait))
        loop_timer_start(c->x.loop, &c->wait, TUNNEL_ANSWER_NS);
}

static void end_told(struct body *body, const struct way *way) {
    if (way->state != WAY_IS_TOLD || body->state != BODY_OPEN)
        return;
    body_end(body);
    body_flush(body);
}
