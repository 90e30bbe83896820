/* The hub between a server that hears only weir and clients that hear only themselves. */
#include "mcp/hub.h"
#include "support/unit.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CALLS 4
#define SESSIONS 8
#define QUEUE 3

/* A client's end: what it was told. */
struct ear {
    struct outlet outlet;
    struct buffer heard; /* each message and a newline */
    unsigned events;
    bool is_stream, is_full, is_ended;
};

struct fixture {
    struct hub hub;
    struct buffer said; /* to the server */
    bool is_deaf;       /* the server */
    bool is_ready, is_refused;
};

static bool has_room(const struct outlet *outlet) {
    const struct ear *ear = CONTAINER_OF(outlet, struct ear, outlet);

    return ear->is_stream && !ear->is_full;
}

static bool may_be_silent(const struct outlet *outlet) {
    return CONTAINER_OF(outlet, struct ear, outlet)->is_stream;
}

static void ear_hear(struct ear *ear, struct slice message) {
    assert_false(ear->is_ended);
    buffer_append(&ear->heard, message);
    buffer_append_char(&ear->heard, '\n');
}

static void on_event(struct outlet *outlet, struct slice message) {
    struct ear *ear = CONTAINER_OF(outlet, struct ear, outlet);

    assert_true(has_room(outlet));
    ear->events++;
    ear_hear(ear, message);
}

static void on_end(struct outlet *outlet, struct slice message) {
    struct ear *ear = CONTAINER_OF(outlet, struct ear, outlet);

    if (message.base)
        ear_hear(ear, message);
    ear->is_ended = true;
}

static const struct outlet_ops ear_ops = {
    .has_room = has_room, .may_be_silent = may_be_silent, .event = on_event, .end = on_end};

static struct ear ear_new(bool is_stream) {
    return (struct ear){.outlet = {&ear_ops}, .is_stream = is_stream};
}

static bool say_it(void *ctx, struct slice line) {
    struct fixture *f = ctx;

    assert_true(line.len > 0 && memchr(line.base, '\n', line.len) == line.base + line.len - 1);
    if (!f->is_deaf)
        buffer_append(&f->said, line);
    return !f->is_deaf;
}

static void on_ready(void *ctx) {
    ((struct fixture *)ctx)->is_ready = true;
}

static void on_refused(void *ctx, struct slice why) {
    ((struct fixture *)ctx)->is_refused = true;
}

static const struct hub_server_ops server_ops = {say_it, on_ready, on_refused};

/* The server writes a line. */
static void server_says(struct fixture *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void server_says(struct fixture *f, const char *format, ...) {
    char text[8192];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    hub_hear(&f->hub, &(struct lines_item){.text = slice_str(text)}, 0);
}

/* Was @text said to the server, or heard? Forgets what was, either way. */
static bool had(struct buffer *buffer, const char *text) {
    bool has = buffer->len > 0 && memmem(buffer->base, buffer->len, text, strlen(text));

    if (!has)
        print_message("not '%s' but: %.*s\n", text, SLICE_ARG(buffer_slice(buffer)));
    buffer->len = 0;
    return has;
}

static struct message message_of(const char *text) {
    struct message message;
    const char *why;

    assert_int_equal(message_read(&message, slice_str(text), 16, &why), MESSAGE_SOUND);
    return message;
}

static enum hub_outcome call(struct fixture *f, struct hub_session *session, const char *text,
                             struct ear *ear, struct hub_call **made) {
    struct message message = message_of(text);
    struct buffer answer = {0};
    struct hub_call *ignored;
    enum hub_outcome outcome =
        hub_call(&f->hub, session, &message, &ear->outlet, 0, made ? made : &ignored, &answer);

    if (answer.len > 0)
        on_end(&ear->outlet, buffer_slice(&answer));
    buffer_deinit(&answer);
    return outcome;
}

static void note(struct fixture *f, struct hub_session *session, const char *text) {
    struct message message = message_of(text);

    hub_note(&f->hub, session, &message, 0);
}

static struct hub_session *greet(struct fixture *f, const char *capabilities) {
    struct hub_session *session = NULL;
    struct buffer answer = {0};
    struct message message;
    char text[256];

    snprintf(text, sizeof text,
             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{"
             "\"protocolVersion\":\"2025-06-18\",\"capabilities\":%s}}",
             capabilities);
    message = message_of(text);
    assert_int_equal(hub_greet(&f->hub, &message, 0, &session, &answer), HUB_DONE);
    buffer_deinit(&answer);
    return session;
}

static int set_up(void **state) {
    struct fixture *f = xcalloc(1, sizeof *f);

    hub_init(&f->hub, &(struct hub_options){.limits = {.sessions = SESSIONS,
                                                       .calls = 2 * CALLS,
                                                       .calls_per_session = CALLS,
                                                       .queue = QUEUE,
                                                       .depth = 16,
                                                       .message_bytes = 4096,
                                                       .idle_ns = NS_PER_S,
                                                       .ping_ns = 10},
                                            .ops = &server_ops,
                                            .ctx = f,
                                            .name = "test"});
    hub_start(&f->hub);
    assert_true(had(&f->said, "\"id\":0,\"method\":\"initialize\""));
    server_says(f,
                "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-06-18\"}}");
    assert_true(f->is_ready);
    assert_true(had(&f->said, "notifications/initialized"));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;

    hub_end(&f->hub, "over", SLICE(""));
    assert_int_equal(f->hub.counts.sessions, 0);
    assert_int_equal(f->hub.counts.calls, 0);
    hub_deinit(&f->hub);
    buffer_deinit(&f->said);
    free(f);
    return 0;
}

#define REQUEST(id, rest) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"m\"" rest "}"

static void a_refusal_of_the_server_is_told(void **state) {
    struct fixture f = {0};

    hub_init(&f.hub, &(struct hub_options){
                         .limits = {.depth = 16}, .ops = &server_ops, .ctx = &f, .name = "test"});
    hub_start(&f.hub);
    hub_hear(&f.hub,
             &(struct lines_item){.text = SLICE("{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":7}")}, 0);
    assert_true(f.is_refused && !f.is_ready);
    hub_end(&f.hub, "over", SLICE(""));
    hub_deinit(&f.hub);
    buffer_deinit(&f.said);
}

static void answers_find_back_by_the_hubs_own_ids(void **state) {
    struct fixture *f = *state;
    struct hub_session *a = greet(f, "{}"), *b = greet(f, "{}");
    struct ear ears[2] = {ear_new(false), ear_new(false)};

    call(f, a, REQUEST("7", ",\"params\":{\"_meta\":{\"progressToken\":\"t\"}}"), &ears[0], NULL);
    assert_true(
        had(&f->said, "\"id\":1,\"method\":\"m\",\"params\":{\"_meta\":{\"progressToken\":1}}"));
    call(f, b, REQUEST("7", ""), &ears[1], NULL);
    assert_true(had(&f->said, "\"id\":2,"));
    server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"b\"}");
    server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}");
    assert_true(had(&ears[0].heard, "\"id\":7,\"error\""));
    assert_true(had(&ears[1].heard, "\"id\":7,\"result\":\"b\""));
    assert_int_equal(f->hub.counts.late, 0);
    server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"again\"}");
    server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":1}");
    server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":1}");
    server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999999,\"result\":1}");
    assert_int_equal(f->hub.counts.late, 4);
    buffer_deinit(&ears[0].heard);
    buffer_deinit(&ears[1].heard);
}

static void progress_is_only_for_who_asked_for_it_and_has_room(void **state) {
    struct fixture *f = *state;
    struct hub_session *a = greet(f, "{}");
    struct ear ear = ear_new(true), other = ear_new(true);

    call(f, a, REQUEST("7", ",\"params\":{\"_meta\":{\"progressToken\":\"t\"}}"), &ear, NULL);
    call(f, a, REQUEST("8", ""), &other, NULL);
    for (int id = 1; id <= 3; id++)
        server_says(f,
                    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
                    "\"progressToken\":%d}}",
                    id);
    assert_true(had(&ear.heard, "\"progressToken\":\"t\""));
    assert_int_equal(other.events, 0);
    assert_int_equal(f->hub.counts.late, 2);
    ear.is_full = true;
    server_says(f, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
                   "\"progressToken\":1}}");
    assert_int_equal(f->hub.counts.dropped, 1);
    hub_close(&f->hub, a, MESSAGE_NO_SESSION, "done");
    buffer_deinit(&ear.heard);
    buffer_deinit(&other.heard);
}

static void every_bound_is_reached_and_told(void **state) {
    struct fixture *f = *state;
    struct hub_session *sessions[SESSIONS], *none = NULL;
    struct ear ears[2 * CALLS], refused[3] = {ear_new(false), ear_new(false), ear_new(false)};
    struct buffer answer = {0};
    struct message message =
        message_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{}}");
    char text[128];

    for (int i = 0; i < SESSIONS; i++)
        sessions[i] = greet(f, "{}");
    assert_int_equal(hub_greet(&f->hub, &message, 0, &none, &answer), HUB_REFUSED);
    assert_true(had(&answer, "mcp.sessions"));
    buffer_deinit(&answer);
    for (int i = 0; i < 2 * CALLS; i++) {
        ears[i] = ear_new(false);
        snprintf(text, sizeof text, REQUEST("%d", ""), i);
        assert_int_equal(call(f, sessions[i / CALLS], text, &ears[i], NULL), HUB_UNDERWAY);
    }
    assert_int_equal(call(f, sessions[0], REQUEST("77", ""), &refused[0], NULL), HUB_REFUSED);
    assert_true(had(&refused[0].heard, "mcp.calls_per_session"));
    assert_int_equal(call(f, sessions[2], REQUEST("77", ""), &refused[1], NULL), HUB_REFUSED);
    assert_true(had(&refused[1].heard, "mcp.calls of"));
    hub_close(&f->hub, sessions[0], MESSAGE_NO_SESSION, "done");
    f->is_deaf = true;
    assert_int_equal(call(f, sessions[2], REQUEST("77", ""), &refused[2], NULL), HUB_REFUSED);
    assert_true(had(&refused[2].heard, "does not read"));
    assert_int_equal(f->hub.counts.refused, 4);
    hub_end(&f->hub, "the server ", SLICE("died"));
    for (int i = 0; i < 2 * CALLS; i++) {
        assert_true(had(&ears[i].heard, i < CALLS ? "-32001" : "the server died"));
        buffer_deinit(&ears[i].heard);
    }
    for (int i = 0; i < 3; i++)
        buffer_deinit(&refused[i].heard);
}

static void the_queue_of_a_session_is_bounded_by_count_and_bytes(void **state) {
    struct fixture *f = *state;
    struct hub_session *a = greet(f, "{}");
    struct ear ear = ear_new(true);
    char *large = xmalloc(HUB_QUEUE_BYTES_MAX / 2 + 256);
    int len;

    for (int i = 0; i < QUEUE + 2; i++)
        server_says(f, "{\"jsonrpc\":\"2.0\",\"method\":\"n/%d\"}", i);
    assert_int_equal(f->hub.counts.dropped, 2);
    ear.is_full = true;
    hub_attach(&f->hub, a, &ear.outlet);
    assert_int_equal(ear.events, 0);
    ear.is_full = false;
    hub_flush(&f->hub, a);
    assert_int_equal(ear.events, QUEUE);
    assert_true(had(&ear.heard, "n/2\"}\n{\"jsonrpc\":\"2.0\",\"method\":\"n/3\"}\n"));
    ear.is_full = true;
    len = sprintf(large, "{\"jsonrpc\":\"2.0\",\"method\":\"");
    memset(large + len, 'x', HUB_QUEUE_BYTES_MAX / 2);
    strcpy(large + len + HUB_QUEUE_BYTES_MAX / 2, "\"}");
    for (int i = 0; i < 3; i++)
        hub_hear(&f->hub, &(struct lines_item){.text = slice_str(large)}, 0);
    assert_int_equal(a->queue_count, 1);
    assert_true(a->queue_bytes <= HUB_QUEUE_BYTES_MAX);
    assert_int_equal(f->hub.counts.dropped, 4);
    hub_detach(&f->hub, a, 0);
    free(large);
    buffer_deinit(&ear.heard);
}

static void asks_of_a_session_are_bounded(void **state) {
    struct fixture *f = *state;
    struct hub_session *a = greet(f, "{\"sampling\":{}}");
    struct ear ear = ear_new(true);

    hub_attach(&f->hub, a, &ear.outlet);
    for (int i = 0; i <= HUB_ASKS_MAX; i++)
        server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":\"q%d\",\"method\":\"sampling/createMessage\"}",
                    i);
    assert_int_equal(ear.events, HUB_ASKS_MAX);
    assert_true(had(&f->said, "\"id\":\"q64\",\"error\":{\"code\":-32002"));
    note(f, a, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
    assert_true(had(&f->said, "\"id\":\"q0\",\"result\""));
    hub_close(&f->hub, a, MESSAGE_NO_SESSION, "done");
    assert_true(had(&f->said, "\"id\":\"q63\",\"error\":{\"code\":-32001"));
    assert_true(ear.is_ended);
    buffer_deinit(&ear.heard);
}

static void subscriptions_are_bounded(void **state) {
    struct fixture *f = *state;
    struct hub_session *a = greet(f, "{}");
    char text[HUB_URI_MAX + 256];

    for (int i = 0; i <= HUB_SUBSCRIPTIONS_MAX + 1; i++) {
        struct ear ear = ear_new(false);
        bool is_over = i >= HUB_SUBSCRIPTIONS_MAX;
        struct hub_call *made;

        snprintf(text, sizeof text,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/subscribe\",\"params\":{"
                 "\"uri\":\"%d%0*d\"}}",
                 i, i > HUB_SUBSCRIPTIONS_MAX ? HUB_URI_MAX : 1, 0);
        if (i > HUB_SUBSCRIPTIONS_MAX) { /* there is room, but not for this one */
            note(f, a, "{\"jsonrpc\":\"2.0\",\"method\":\"x\"}");
            struct ear end = ear_new(false);

            call(f, a,
                 "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"resources/unsubscribe\",\"params\":{"
                 "\"uri\":\"00\"}}",
                 &end, &made);
            hub_leave(&f->hub, made, 0);
        }
        assert_int_equal(call(f, a, text, &ear, &made), is_over ? HUB_REFUSED : HUB_UNDERWAY);
        if (!is_over)
            hub_leave(&f->hub, made, 0);
        buffer_deinit(&ear.heard);
    }
}

static void idle_sessions_end_unless_they_are_used(void **state) {
    struct fixture *f = *state;
    struct hub_session *calling = greet(f, "{}"), *listening = greet(f, "{}");
    struct ear ear = ear_new(false), stream = ear_new(true);
    char id[HUB_SESSION_ID_BYTES + 1];

    strcpy(id, greet(f, "{}")->id);
    call(f, calling, REQUEST("1", ""), &ear, NULL);
    hub_attach(&f->hub, listening, &stream.outlet);
    hub_expire(&f->hub, NS_PER_S - 1);
    assert_non_null(hub_find(&f->hub, slice_str(id)));
    hub_expire(&f->hub, NS_PER_S);
    assert_null(hub_find(&f->hub, slice_str(id)));
    assert_int_equal(f->hub.counts.sessions, 2);
    hub_detach(&f->hub, listening, NS_PER_S);
    hub_expire(&f->hub, 2 * NS_PER_S - 1);
    assert_int_equal(f->hub.counts.sessions, 2);
    hub_expire(&f->hub, 2 * NS_PER_S);
    assert_int_equal(f->hub.counts.sessions, 1);
    hub_close(&f->hub, calling, MESSAGE_NO_SESSION, "done");
    buffer_deinit(&ear.heard);
    buffer_deinit(&stream.heard);
}

#define CANCEL(id) \
    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":" id "}}"

static void a_cancellation_may_come_before_its_request(void **state) {
    struct fixture *f = *state;
    struct hub_session *a = greet(f, "{}"), *b = greet(f, "{}");
    struct ear ears[5] = {ear_new(true), ear_new(false), ear_new(true), ear_new(true),
                          ear_new(true)};
    struct message message = message_of(CANCEL("2"));

    note(f, a, CANCEL("\"x\""));
    note(f, a, CANCEL("7"));
    assert_int_equal(call(f, b, REQUEST("7", ""), &ears[2], NULL), HUB_UNDERWAY);
    assert_int_equal(call(f, a, REQUEST("\"x\"", ""), &ears[0], NULL), HUB_DONE);
    assert_int_equal(ears[0].heard.len, 0);
    assert_int_equal(call(f, a, REQUEST("7", ""), &ears[1], NULL), HUB_DONE);
    assert_true(had(&ears[1].heard, "-32800"));
    assert_int_equal(f->hub.counts.cancelled, 2);
    /* The word holds for one request, for a while, and of few at a time. */
    assert_int_equal(call(f, a, REQUEST("7", ""), &ears[3], NULL), HUB_UNDERWAY);
    hub_note(&f->hub, a, &message, -HUB_EARLY_NS - 1);
    assert_int_equal(call(f, a, REQUEST("2", ""), &ears[4], NULL), HUB_UNDERWAY);
    note(f, a, CANCEL("3"));
    for (int i = 0; i < HUB_EARLY_MAX; i++)
        note(f, a, CANCEL("4"));
    ears[0] = ear_new(false);
    assert_int_equal(call(f, a, REQUEST("3", ""), &ears[0], NULL), HUB_UNDERWAY);
    hub_end(&f->hub, "over", SLICE(""));
    for (int i = 0; i < 5; i++)
        buffer_deinit(&ears[i].heard);
}

static void who_was_not_used_for_the_longest_gives_way(void **state) {
    struct fixture *f = *state;
    struct message message =
        message_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{}}");
    struct hub_session *sessions[SESSIONS], *made = NULL;
    struct ear stream = ear_new(true);
    struct buffer answer = {0};
    char id[HUB_SESSION_ID_BYTES + 1];

    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = greet(f, "{}");
        sessions[i]->used_ns = i;
    }
    hub_attach(&f->hub, sessions[0], &stream.outlet);
    memcpy(id, sessions[1]->id, sizeof id);
    assert_int_equal(hub_greet(&f->hub, &message, HUB_GIVE_WAY_NS, &made, &answer), HUB_REFUSED);
    assert_int_equal(hub_greet(&f->hub, &message, HUB_GIVE_WAY_NS + 1, &made, &answer), HUB_DONE);
    assert_null(hub_find(&f->hub, slice_str(id)));
    assert_int_equal(f->hub.counts.sessions, SESSIONS);
    assert_int_equal(hub_greet(&f->hub, &message, HUB_GIVE_WAY_NS + 1, &made, &answer),
                     HUB_REFUSED);
    hub_detach(&f->hub, sessions[0], 0);
    buffer_deinit(&answer);
}

/* Whatever comes in whatever order: who is answered is answered once, and with its own. */
static void nobody_hears_what_is_anothers(void **state) {
    struct fixture *f = *state;
    struct hub_session *sessions[SESSIONS] = {0};
    uint64_t seed = 88172645463325252ULL;
    struct {
        struct ear ear;
        struct hub_call *call;
    } calls[2 * CALLS] = {0};
    uint64_t sent = 0;
    char text[256];

    for (int turn = 0; turn < 20000; turn++) {
        int i = (int)(rnd(&seed) % SESSIONS), j = (int)(rnd(&seed) % (2 * CALLS));

        switch (rnd(&seed) % 6) {
        case 0:
            if (!sessions[i])
                sessions[i] = greet(f, "{\"roots\":{}}");
            break;
        case 1:
            if (sessions[i] && rnd(&seed) % 16 == 0) {
                hub_close(&f->hub, sessions[i], MESSAGE_NO_SESSION, "done");
                sessions[i] = NULL;
            }
            break;
        case 2:
            if (!sessions[i] || calls[j].call)
                break;
            buffer_deinit(&calls[j].ear.heard);
            calls[j].ear = ear_new(rnd(&seed) % 2);
            snprintf(text, sizeof text, REQUEST("\"%d\"", ",\"params\":{\"of\":%d}"), j, i);
            if (call(f, sessions[i], text, &calls[j].ear, &calls[j].call) != HUB_UNDERWAY)
                calls[j].call = NULL;
            break;
        case 3:
            if (calls[j].call && !calls[j].ear.is_ended) {
                hub_leave(&f->hub, calls[j].call, 0);
                calls[j].call = NULL;
            }
            break;
        case 4:
            server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"roots/list\"}", turn);
            if (sessions[i]) {
                snprintf(text, sizeof text,
                         "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"result\":{}}",
                         f->hub.last_id - rnd(&seed) % 4);
                note(f, sessions[i], text);
            }
            break;
        case 5:
            /* The server answers with what was sent: its last request, or an old one. */
            sent = f->hub.last_id - rnd(&seed) % 6;
            server_says(f, "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"result\":%" PRIu64 "}", sent,
                        sent);
            break;
        }
        for (j = 0; j < 2 * CALLS; j++) {
            struct ear *ear = &calls[j].ear;

            if (!calls[j].call || !ear->is_ended)
                continue;
            snprintf(text, sizeof text, "\"id\":\"%d\"", j);
            assert_true(had(&ear->heard, text));
            calls[j].call = NULL;
        }
        f->said.len = 0;
    }
    assert_true(f->hub.counts.calls_all > 500 && f->hub.counts.asks_all > 100);
    hub_end(&f->hub, "over", SLICE(""));
    for (int j = 0; j < 2 * CALLS; j++)
        buffer_deinit(&calls[j].ear.heard);
}

static void a_silent_server_is_asked_whether_it_lives(void **state) {
    struct fixture *f = *state;

    assert_true(hub_is_alive(&f->hub, 9));
    server_says(f, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}");
    assert_true(hub_is_alive(&f->hub, 9));
    assert_int_equal(f->said.len, 0);
    assert_true(hub_is_alive(&f->hub, 1));
    assert_true(had(&f->said, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n"));
    assert_true(hub_is_alive(&f->hub, 9));
    server_says(f,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"what?\"}}");
    assert_int_equal(f->hub.counts.late, 0);
    assert_true(hub_is_alive(&f->hub, 10));
    assert_true(had(&f->said, "\"id\":2,\"method\":\"ping\""));
    assert_true(hub_is_alive(&f->hub, 9));
    assert_int_equal(f->said.len, 0);
    assert_false(hub_is_alive(&f->hub, 1));
}

static void a_server_with_calls_is_not_asked(void **state) {
    struct fixture *f = *state;
    struct hub_session *session = greet(f, "{}");
    struct ear ear = ear_new(false), late = ear_new(false);
    struct hub_call *made = NULL;

    assert_true(hub_is_alive(&f->hub, 9));
    call(f, session, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\"}", &ear, &made);
    f->said.len = 0;
    for (int i = 0; i < 10; i++)
        assert_true(hub_is_alive(&f->hub, 9));
    assert_int_equal(f->said.len, 0);
    hub_leave(&f->hub, made, 0);
    assert_true(hub_is_alive(&f->hub, 10));
    assert_true(had(&f->said, "\"method\":\"ping\""));
    /* A call behind the question does not put off the answer. */
    call(f, session, "{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"m\"}", &late, NULL);
    assert_false(hub_is_alive(&f->hub, 10));
    buffer_deinit(&ear.heard);
    hub_end(&f->hub, "over", SLICE(""));
    buffer_deinit(&late.heard);
}

static void nobody_has_to_be_asked(void **state) {
    struct fixture *f = *state;

    f->hub.limits.ping_ns = 0;
    assert_true(hub_is_alive(&f->hub, NS_PER_S));
    assert_int_equal(f->said.len, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_of_the_server_is_told),
        TEST(a_silent_server_is_asked_whether_it_lives),
        TEST(a_server_with_calls_is_not_asked),
        TEST(nobody_has_to_be_asked),
        TEST(answers_find_back_by_the_hubs_own_ids),
        TEST(progress_is_only_for_who_asked_for_it_and_has_room),
        TEST(every_bound_is_reached_and_told),
        TEST(the_queue_of_a_session_is_bounded_by_count_and_bytes),
        TEST(asks_of_a_session_are_bounded),
        TEST(subscriptions_are_bounded),
        TEST(idle_sessions_end_unless_they_are_used),
        TEST(a_cancellation_may_come_before_its_request),
        TEST(who_was_not_used_for_the_longest_gives_way),
        TEST(nobody_hears_what_is_anothers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
