/* Failures on demand: well-formed ones by the codec, the others on the bare connection. */
#include "base/random.h"
#include "demo/resource.h"

#include <inttypes.h>

#define TRUNCATED_ANNOUNCED 1000 /* bytes */

static void reset(struct visit *v);
static void leave(struct visit *v);
static void truncate_content(struct visit *v);
static void send_garbage(struct visit *v);
static void hang(struct visit *v);

static const struct {
    struct slice how;
    void (*act)(struct visit *v);
} troubles[] = {
    {{"reset", 5}, reset},          {{"close", 5}, leave}, {{"truncate", 8}, truncate_content},
    {{"garbage", 7}, send_garbage}, {{"hang", 4}, hang},
};

void status_open(struct visit *v) {
    struct slice text = slice_skip(v->path, sizeof "/status/" - 1);
    unsigned status = 0;

    for (size_t i = 0; i < text.len && text.len == 3; i++)
        if (text.base[i] >= '0' && text.base[i] <= '9')
            status = status * 10 + (unsigned)(text.base[i] - '0');
    if (status < 200 || status > 599)
        visit_say(v, 400, "/status/N: N is a number from 200 to 599");
    else
        visit_say(v, status, "status %u, as you asked", status);
}

void trouble_open(struct visit *v) {
    struct slice how = visit_parameter(v, SLICE("how"));

    for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++) {
        if (slice_equal(how, troubles[i].how)) {
            troubles[i].act(v);
            return;
        }
    }
    visit_say(v, 400, "how: one of reset, close, truncate, garbage and hang");
}

void early_open(struct visit *v) {
    visit_say(v, 200, "answered when %" PRIu64 " bytes of the content had been read",
              v->x.request.taken);
    visit_discard(v);
}

void flaky_open(struct visit *v) {
    const struct visit_number number = {"percent", 50, 0, 100};
    uint64_t percent;

    if (!visit_number(v, &number, &percent))
        return;
    if (random_below(100) < percent)
        visit_say(v, 503, "bad luck");
    else
        visit_say(v, 200, "good luck");
}

static void reset(struct visit *v) {
    conn_reset(visit_conn(v));
    visit_break(v);
}

static void leave(struct visit *v) {
    visit_break(v);
}

static void truncate_content(struct visit *v) {
    const struct content content = {CONTENT_LENGTH, TRUNCATED_ANNOUNCED};

    if (!visit_begin(v, 200, "text/plain; charset=utf-8", content))
        return;
    body_push_copy(&v->x.response, SLICE("this is not all of it\n"));
    body_flush(&v->x.response);
    visit_break(v);
}

static void send_garbage(struct visit *v) {
    static const char garbage[] = "HTTP/one.one OK 200\r\nthis is no field\r\n\r\n";
    uv_buf_t buf = uv_buf_init((char *)garbage, sizeof garbage - 1);

    conn_send(visit_conn(v), &buf, 1);
    visit_break(v);
}

/* Until the client loses its patience, or the engine ends. */
static void hang_on(struct visit *v) {
    if (v->x.events & VISIT_ENDING)
        visit_break(v);
}

static void hang(struct visit *v) {
    v->move = hang_on;
}
