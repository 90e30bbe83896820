/* The nursery's side of a gateway's channels. */
#include "base/alloc.h"
#include "base/control.h"
#include "child/nursery_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_ready(struct nursery *nursery, struct watch *watch);
static void send_rest(struct nursery *nursery, struct nursery_channel *channel);
static void obey(struct nursery *nursery, struct nursery_channel *channel, size_t len,
                 struct control_message *message);
static void spawn(struct nursery *nursery, struct nursery_channel *channel, const char *rest,
                  size_t len, const struct control_message *message);
static int start(struct nursery *nursery, struct nursery_channel *channel, unsigned long id,
                 unsigned pipeline, struct slice env, const struct control_message *message);

struct nursery_channel *channel_open(struct nursery *nursery, int fd, struct program_set *set) {
    struct nursery_channel *channel;

    if (nursery->channel_count == NURSERY_CHANNELS_MAX || nursery->is_ending)
        return NULL;
    channel = xcalloc(1, sizeof *channel);
    channel->watch.ready = on_ready;
    channel->set = program_set_ref(set);
    list_init(&channel->children);
    list_push_back(&nursery->channels, &channel->link);
    nursery->channel_count++;
    nursery_watch(nursery, &channel->watch, fd);
    return channel;
}

void channel_close(struct nursery *nursery, struct nursery_channel *channel) {
    struct list *link;

    while ((link = list_pop(&channel->children))) {
        struct child *child = CONTAINER_OF(link, struct child, in_channel);

        child->channel = NULL;
        child_end(child);
    }
    nursery_unwatch(nursery, &channel->watch);
    list_remove(&channel->link);
    nursery->channel_count--;
    program_set_unref(channel->set);
    buffer_deinit(&channel->unsent);
    nursery_bury(nursery, channel);
}

void channel_read(struct nursery *nursery, struct nursery_channel *channel) {
    struct control_message message;
    int got = 0;
    size_t len;

    while (channel->watch.fd >= 0 &&
           (got = control_receive_bytes(channel->watch.fd, nursery->packet, NURSERY_PACKET_MAX,
                                        &len, &message)) > 0) {
        nursery->packet[len] = '\0';
        obey(nursery, channel, len, &message);
        control_message_deinit(&message);
    }
    if (got < 0 && channel->watch.fd >= 0)
        channel_close(nursery, channel);
}

void channel_tell(struct nursery *nursery, struct nursery_channel *channel, const char *format,
                  ...) {
    char text[256];
    va_list args;
    int err;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    err = channel->unsent.len > 0 ? -EAGAIN : control_send(channel->watch.fd, text, NULL, 0);
    if (!err)
        return;
    if (err == -EAGAIN && channel->unsent.len + sizeof text <= NURSERY_UNSENT_MAX) {
        buffer_append(&channel->unsent, slice_of(text, strlen(text) + 1));
        nursery_watch_writable(nursery, &channel->watch, true);
        return;
    }
    if (err != -EPIPE && err != -ECONNRESET)
        log_error("cannot tell a gateway '%s', its programs end: %s", text, strerror(-err));
    channel_close(nursery, channel);
}

static void on_ready(struct nursery *nursery, struct watch *watch) {
    struct nursery_channel *channel = CONTAINER_OF(watch, struct nursery_channel, watch);

    send_rest(nursery, channel);
    channel_read(nursery, channel);
}

static void send_rest(struct nursery *nursery, struct nursery_channel *channel) {
    struct buffer *unsent = &channel->unsent;
    size_t sent = 0;

    if (unsent->len == 0)
        return;
    while (sent < unsent->len && control_send(channel->watch.fd, unsent->base + sent, NULL, 0) == 0)
        sent += strlen(unsent->base + sent) + 1;
    memmove(unsent->base, unsent->base + sent, unsent->len - sent);
    unsent->len -= sent;
    if (unsent->len == 0)
        nursery_watch_writable(nursery, &channel->watch, false);
}

static void obey(struct nursery *nursery, struct nursery_channel *channel, size_t len,
                 struct control_message *message) {
    const char *rest;

    if (control_is(nursery->packet, "spawn", &rest)) {
        spawn(nursery, channel, rest, len - (size_t)(rest - nursery->packet), message);
    } else if (control_is(nursery->packet, "end", &rest)) {
        unsigned long id = strtoul(rest, NULL, 10);

        for (struct list *at = channel->children.next; at != &channel->children; at = at->next)
            if (CONTAINER_OF(at, struct child, in_channel)->id == id)
                child_end(CONTAINER_OF(at, struct child, in_channel));
    } else if (control_is(nursery->packet, "channel", &rest) && message->fd_count == 1) {
        if (channel_open(nursery, message->fds[0], channel->set))
            message->fds[0] = -1;
    } else if (control_is(nursery->packet, "reset", &rest)) {
        residents_reset(nursery, *rest ? rest : NULL);
    } else if (control_is(nursery->packet, "history", &rest) && strchr(rest, ' ')) {
        char *text = strchr(nursery->packet + (rest - nursery->packet), ' ');

        *text = '\0';
        residents_history(nursery, rest, text + 1);
    }
}

static void spawn(struct nursery *nursery, struct nursery_channel *channel, const char *rest,
                  size_t len, const struct control_message *message) {
    size_t head = strlen(rest) + 1;
    struct slice env = head < len ? slice_of(rest + head, len - head) : SLICE("");
    unsigned long id;
    unsigned pipeline;
    int err;

    if (sscanf(rest, "%lu %u", &id, &pipeline) != 2)
        return;
    err = start(nursery, channel, id, pipeline, env, message);
    if (err)
        channel_tell(nursery, channel, "failed %lu the nursery cannot start it: %s", id,
                     err == -EDQUOT ? "too many programs are running" : strerror(-err));
}

static int start(struct nursery *nursery, struct nursery_channel *channel, unsigned long id,
                 unsigned pipeline, struct slice env, const struct control_message *message) {
    const struct program *program = programs_find(channel->set->programs, pipeline);
    struct board_row *row;
    struct child *child;
    int err;

    if (!program || !program->is_exec || message->fd_count != 2)
        return -ENOENT;
    if (env.len > 0 && env.base[env.len - 1] != '\0')
        return -E2BIG; /* it was cut */
    row = nursery_row(nursery, program->name);
    if (!row || nursery->child_count >= NURSERY_CHILDREN_MAX)
        return -EDQUOT;
    err = child_start(nursery, &child,
                      &(struct child_options){
                          .set = channel->set,
                          .program = program,
                          .row = row,
                          .limit = &nursery->limits[row - nursery->board->rows],
                          .env = env.base,
                          .env_bytes = env.len,
                          .in = message->fds[0],
                          .out = message->fds[1],
                      });
    if (err) {
        atomic_fetch_add(&row->failed_starts, 1);
        return err;
    }
    child->id = id;
    child->channel = channel;
    list_push_back(&channel->children, &child->in_channel);
    atomic_fetch_add(&row->running, 1);
    return 0;
}
