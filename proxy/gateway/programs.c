/* Pipelines with programs of ours behind them: one that stays, which nothing is sent to while its
 * breaker holds; or one for each exchange, which finds the request in its environment:
 *
 *     WEIR_METHOD WEIR_SCHEME WEIR_AUTHORITY WEIR_PATH WEIR_QUERY    as received
 *     WEIR_PATH_REST WEIR_PATH_1 WEIR_PATH_2 ...  what is behind the route's path; its segments,
 * decoded WEIR_CLIENT_ADDRESS WEIR_REQUEST_ID WEIR_PIPELINE WEIR_ROUTE WEIR_CONTENT_LENGTH if it is
 * known WEIR_FIELD_<NAME>                           each field as it would be sent to an upstream,
 * its values joined by ", "
 *
 * Only fields whose names are letters, digits and '-' are there: of others two could become one. */
#include "gateway/crossing.h"

#include "base/alloc.h"
#include "base/control.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#define SEGMENTS_MAX 32

/* What a program takes along when its exchange goes first. */
struct program_slot {
    struct pipeline_loop *part; /* borrowed */
    struct permit permit;
};

/* The end of a loop's channel to the nursery, on its way to the loop. */
struct channel_letter {
    struct mail mail;
    struct gateway_loop *gl; /* borrowed */
    int fd;                  /* owned */
};

static const struct board_row *find_row(struct crossing *c);
static void ask_for_content(struct exchange *x);
static void make_env(struct crossing *c, struct buffer *env);
static void add(struct buffer *env, const char *name, struct slice value);
static void add_path(struct crossing *c, struct buffer *env);
static struct slice decode(struct arena *arena, struct slice text);
static void add_fields(struct buffer *env, const struct fields *fields);
static bool is_plain(struct slice name);
static bool is_first(const struct fields *fields, uint32_t index);
static void on_gone(void *ctx);
static int open_channel(int nursery, int *channel);
static void deliver(struct loop *loop, struct mail *mail);

void programs_open(struct gateway_loop *gl, int nursery) {
    int channel;

    if (open_channel(nursery, &channel) == 0)
        run_loop_take(&gl->programs, channel);
}

void gateway_take_nursery(struct gateway *gateway, int nursery) {
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        struct channel_letter *letter;
        int channel;

        if (open_channel(nursery, &channel) != 0)
            continue;
        letter = xcalloc(1, sizeof *letter);
        letter->mail.deliver = deliver;
        letter->gl = &gateway->loops[i];
        letter->fd = channel;
        loop_post(&gateway->loops[i].loop, &letter->mail);
    }
}

enum fail programs_refuse(struct crossing *c, const char **why) {
    const struct config_pipeline *config = c->part->shared->config;
    const struct board_row *row;
    int64_t left_ns;

    *why = NULL;
    if (!config->process)
        return FAIL_NONE;
    row = find_row(c);
    if (!row || atomic_load(&row->crash_state) != RESPAWN_HELD ||
        board_count(row, INSTANCE_READY) > 0)
        return FAIL_NONE;
    left_ns = atomic_load(&row->held_until_ns) - c->x.loop->now_ns;
    *why = arena_printf(&c->x.arena, "it died %u times lately, and is tried again in %lld s",
                        atomic_load(&row->death_count),
                        (long long)(left_ns > 0 ? (left_ns + NS_PER_S - 1) / NS_PER_S : 0))
               .base;
    return FAIL_PROCESS_HELD;
}

enum fail programs_start(struct crossing *c, const char **why) {
    const struct config_process *process = c->part->shared->config->process;
    struct program_slot *slot = xcalloc(1, sizeof *slot);
    struct run_options options = {
        .pipeline = (unsigned)c->pipeline_index,
        .output = process->output,
        .content_type = process->content_type,
        .grace_ns = process->stop.grace_ns,
        .on_gone = on_gone,
        .ctx = slot,
    };
    enum fail refusal;

    slot->part = c->part;
    make_env(c, &options.env);
    refusal = run_start(&c->run, &c->listener->gl->programs, &c->x, &options, why);
    if (refusal)
        free(slot);
    else
        ask_for_content(&c->x);
    return refusal;
}

/* A program cannot (RFC 9110 section 10.1.1). */
static void ask_for_content(struct exchange *x) {
    const struct response_head head = {
        .status = 100, .version = HTTP_1_1, .reason = SLICE("Continue")};

    if (x->client && x->request.state == BODY_OPEN && x->request.pushed == 0 &&
        fields_list_has(&x->request_head.fields, FIELD_EXPECT, SLICE("100-continue")))
        x->client->send_informational(x, &head);
}

void programs_let_go(struct crossing *c) {
    struct run *run = c->run;

    if (!run)
        return;
    c->run = NULL;
    if (!run_is_gone(run)) {
        struct program_slot *slot = run_ctx(run);

        slot->permit = c->permit;
        c->permit = (struct permit){0};
    }
    run_detach(run);
}

/* Mostly where it was. */
static const struct board_row *find_row(struct crossing *c) {
    struct gateway_loop *gl = c->listener->gl;
    const char *name = c->part->shared->config->name;
    const struct board_row *row = gl->child_rows[c->pipeline_index];

    if (!row || !atomic_load(&row->is_used) || strcmp(row->name, name) != 0)
        row = gl->child_rows[c->pipeline_index] = board_find(gl->gateway->children, name);
    return row;
}

static void on_gone(void *ctx) {
    struct program_slot *slot = ctx;

    permit_release(slot->part, &slot->permit);
    free(slot);
}

static void make_env(struct crossing *c, struct buffer *env) {
    struct exchange *x = &c->x;
    struct request_head head;
    char address[INET6_ADDRSTRLEN];

    forward_request(c, &head);
    add(env, "METHOD", head.method_text);
    add(env, "SCHEME", x->is_secure ? SLICE("https") : SLICE("http"));
    add(env, "AUTHORITY", head.authority);
    add(env, "CLIENT_ADDRESS",
        conn_address_text((const union conn_address *)x->client_address, address));
    add(env, "REQUEST_ID", c->request_id);
    add(env, "PIPELINE", slice_str(c->part->shared->config->name));
    add(env, "ROUTE", slice_str(c->route->name));
    if (x->request_content.kind == CONTENT_LENGTH && !x->request.filter)
        buffer_printf(env, "WEIR_CONTENT_LENGTH=%llu%c",
                      (unsigned long long)x->request_content.length, 0);
    add_path(c, env);
    add_fields(env, &head.fields);
}

static void add(struct buffer *env, const char *name, struct slice value) {
    buffer_printf(env, "WEIR_%s=%.*s%c", name, SLICE_ARG(value), 0);
}

static void add_path(struct crossing *c, struct buffer *env) {
    struct slice path = c->x.request_head.path, rest, normal;
    const char *query = memchr(path.base, '?', path.len), *why;
    size_t prefix = strlen(c->route->path ? c->route->path : "");

    add(env, "PATH", slice_of(path.base, query ? (size_t)(query - path.base) : path.len));
    add(env, "QUERY", query ? slice_skip(path, (size_t)(query - path.base) + 1) : SLICE(""));
    if (!route_normalise_path(path, &c->x.arena, &normal, &why) || prefix > normal.len)
        return; /* an asterisk has no segments */
    rest = slice_skip(normal, prefix);
    while (rest.len > 0 && rest.base[0] == '/')
        rest = slice_skip(rest, 1);
    add(env, "PATH_REST", rest);
    for (unsigned i = 1; rest.len > 0 && i <= SEGMENTS_MAX; i++) {
        const char *end = memchr(rest.base, '/', rest.len);
        size_t len = end ? (size_t)(end - rest.base) : rest.len;
        struct slice segment = decode(&c->x.arena, slice_of(rest.base, len));

        buffer_printf(env, "WEIR_PATH_%u=%.*s%c", i, SLICE_ARG(segment), 0);
        rest = slice_skip(rest, len + (end != NULL));
    }
}

/* Of a normalised path: escapes are whole, and none is of a NUL or a slash. */
static struct slice decode(struct arena *arena, struct slice text) {
    char *to = arena_alloc(arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        char hex[3] = "";

        if (text.base[i] == '%' && i + 2 < text.len) {
            memcpy(hex, text.base + i + 1, 2);
            to[len++] = (char)strtol(hex, NULL, 16);
            i += 2;
        } else {
            to[len++] = text.base[i];
        }
    }
    return slice_of(to, len);
}

static void add_fields(struct buffer *env, const struct fields *fields) {
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];

        if (!is_plain(field->name) || !is_first(fields, i))
            continue;
        buffer_append(env, SLICE("WEIR_FIELD_"));
        for (size_t j = 0; j < field->name.len; j++) {
            char letter = field->name.base[j];

            buffer_append_char(env, letter == '-' ? '_' : (char)toupper((unsigned char)letter));
        }
        buffer_append_char(env, '=');
        buffer_append(env, field->value);
        for (uint32_t j = i + 1; j < fields->count; j++) {
            if (!slice_equal_case(fields->list[j].name, field->name))
                continue;
            buffer_append(env, field->id == FIELD_COOKIE ? SLICE("; ") : SLICE(", "));
            buffer_append(env, fields->list[j].value);
        }
        buffer_append_char(env, '\0');
    }
}

static bool is_plain(struct slice name) {
    for (size_t i = 0; i < name.len; i++)
        if (!isalnum((unsigned char)name.base[i]) && name.base[i] != '-')
            return false;
    return true;
}

static bool is_first(const struct fields *fields, uint32_t index) {
    for (uint32_t i = 0; i < index; i++)
        if (slice_equal_case(fields->list[i].name, fields->list[index].name))
            return false;
    return true;
}

static int open_channel(int nursery, int *channel) {
    int ends[2], err = control_pair(ends);

    if (!err) {
        err = control_send(nursery, "channel", &ends[1], 1);
        close(ends[1]);
    }
    if (err) {
        log_error("cannot open a channel to the nursery: %s", strerror(-err));
        return err;
    }
    *channel = ends[0];
    return 0;
}

static void deliver(struct loop *loop, struct mail *mail) {
    struct channel_letter *letter = CONTAINER_OF(mail, struct channel_letter, mail);

    if (letter->gl->are_pools_closed)
        close(letter->fd); /* no request will come any more */
    else
        run_loop_take(&letter->gl->programs, letter->fd);
    free(letter);
}
