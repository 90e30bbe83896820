/* The host functions of a call: edits, answers, variables, the log, events, time. */
#include "handler/host.h"

#include "base/clock.h"
#include "handler/edits.h"
#include "handler/heap.h"

#include <stdio.h>
#include <string.h>

#define LOG_TEXT_MAX 1024 /* bytes of a line of host->log() */

static struct guest *enter_phase(const struct weir_call *call, enum call_phase phase);
static struct slice slice_from(struct weir_text text);
static void *alloc(struct weir_call *call, size_t bytes);
static void say(struct weir_call *call, enum weir_log_level level, struct weir_text text);
static void count(struct weir_call *call, unsigned event, uint64_t n);
static int64_t now(void);
static int64_t unix_now(void);
static bool edit(struct weir_call *call, enum answer_kind kind, struct weir_text name,
                 struct weir_text value);
static bool set_field(struct weir_call *call, struct weir_text name, struct weir_text value);
static bool add_field(struct weir_call *call, struct weir_text name, struct weir_text value);
static bool remove_field(struct weir_call *call, struct weir_text name);
static bool set_path(struct weir_call *call, struct weir_text path);
static bool set_variable(struct weir_call *call, struct weir_text name, struct weir_text value);
static struct weir_text variable(struct weir_call *call, struct weir_text name);
static bool respond(struct weir_call *call, unsigned status, struct weir_text content);
static bool respond_field(struct weir_call *call, struct weir_text name, struct weir_text value);
static bool refuse(struct weir_call *call, unsigned status, struct weir_text title,
                   struct weir_text remedy);
static bool set_status(struct weir_call *call, unsigned status);
static bool want_response(struct weir_call *call);

const struct weir_host plugin_host = {
    .size = sizeof plugin_host,
    .alloc = alloc,
    .log = say,
    .count = count,
    .now_ns = now,
    .unix_ns = unix_now,
    .set_field = set_field,
    .add_field = add_field,
    .remove_field = remove_field,
    .set_path = set_path,
    .set_variable = set_variable,
    .variable = variable,
    .respond = respond,
    .respond_field = respond_field,
    .refuse = refuse,
    .set_status = set_status,
    .table = host_table,
    .cell_get = host_cell_get,
    .cell_swap = host_cell_swap,
    .watch = host_watch,
    .content = host_content,
    .verify = host_verify,
    .sha256 = host_sha256,
    .equal = host_equal,
    .reject = host_reject,
    .want_response = want_response,
};

static void *alloc(struct weir_call *call, size_t bytes) {
    struct guest *guest = host_enter(call);
    void *memory = NULL;

    if (!guest)
        return NULL;
    if (call && call->room)
        memory = answer_alloc(call->room, bytes);
    host_leave(guest);
    return memory;
}

static void say(struct weir_call *call, enum weir_log_level level, struct weir_text text) {
    struct guest *guest = host_enter(call);
    struct slice id = SLICE_NONE;
    char copy[LOG_TEXT_MAX];
    size_t len = text.len < sizeof copy ? text.len : sizeof copy;

    if (!guest)
        return;
    if (len > 0)
        memcpy(copy, text.base, len);
    if (call && call->frame)
        id = frame_slice(call->frame->request.id);
    if (guest->say) {
        char line[LOG_TEXT_MAX + 80];
        int bytes = snprintf(line, sizeof line, "%.*s%s%.*s", (int)len, copy, id.len ? " xid=" : "",
                             id.len < 64 ? (int)id.len : 64, id.base);

        guest->say(guest, (enum log_level)level, line,
                   (size_t)bytes < sizeof line ? (size_t)bytes : sizeof line - 1);
        host_leave(guest);
        return;
    }
    guest->in_lock = 1;
    if (level >= WEIR_LOG_ERROR && level <= WEIR_LOG_DEBUG && log_is_on((enum log_level)level))
        log_limited(guest->handler->lines, (enum log_level)level, "handler '%s': %.*s%s%.*s",
                    guest->handler->name, (int)len, copy, id.len ? " xid=" : "", SLICE_ARG(id));
    guest->in_lock = 0;
    host_leave(guest);
}

static void count(struct weir_call *call, unsigned event, uint64_t n) {
    struct guest *guest = host_enter(call);

    if (!guest)
        return;
    if (event < guest->handler->event_count)
        atomic_fetch_add_explicit(&guest->handler->events[event], n, memory_order_relaxed);
    host_leave(guest);
}

static int64_t now(void) {
    return clock_now_ns();
}

static int64_t unix_now(void) {
    return clock_wall_ns();
}

static bool set_field(struct weir_call *call, struct weir_text name, struct weir_text value) {
    return edit(call, ANSWER_SET_FIELD, name, value);
}

static bool add_field(struct weir_call *call, struct weir_text name, struct weir_text value) {
    return edit(call, ANSWER_ADD_FIELD, name, value);
}

static bool remove_field(struct weir_call *call, struct weir_text name) {
    return edit(call, ANSWER_REMOVE_FIELD, name, (struct weir_text){"", 0});
}

static bool respond_field(struct weir_call *call, struct weir_text name, struct weir_text value) {
    return edit(call, ANSWER_RESPOND_FIELD, name, value);
}

static bool edit(struct weir_call *call, enum answer_kind kind, struct weir_text name,
                 struct weir_text value) {
    struct guest *guest = host_enter(call);
    bool is_done;

    if (!guest || !guest->call.room) {
        if (guest)
            host_leave(guest);
        return false;
    }
    is_done = edit_may_name(slice_from(name)) && edit_is_value(slice_from(value)) &&
              answer_add(guest->call.room, kind, slice_from(name), slice_from(value));
    host_leave(guest);
    return is_done;
}

static bool set_path(struct weir_call *call, struct weir_text path) {
    struct guest *guest = enter_phase(call, CALL_REQUEST);
    bool is_done;

    if (!guest)
        return false;
    is_done = edit_is_path(slice_from(path)) &&
              answer_add(guest->call.room, ANSWER_PATH, SLICE_NONE, slice_from(path));
    host_leave(guest);
    return is_done;
}

static bool set_variable(struct weir_call *call, struct weir_text name, struct weir_text value) {
    struct guest *guest = host_enter(call);
    bool is_done;

    if (!guest || !guest->call.room) {
        if (guest)
            host_leave(guest);
        return false;
    }
    is_done = edit_is_variable(slice_from(name), slice_from(value)) &&
              answer_has_variable_room(guest->call.room, guest->call.frame, slice_from(name)) &&
              answer_add(guest->call.room, ANSWER_VARIABLE, slice_from(name), slice_from(value));
    host_leave(guest);
    return is_done;
}

static struct weir_text variable(struct weir_call *call, struct weir_text name) {
    struct guest *guest = host_enter(call);
    struct weir_text value = {"", 0};

    if (!guest)
        return value;
    if (guest->call.room)
        value = answer_variable(guest->call.room, guest->call.frame, slice_from(name));
    host_leave(guest);
    return value;
}

static bool respond(struct weir_call *call, unsigned status, struct weir_text content) {
    struct guest *guest = enter_phase(call, CALL_REQUEST);
    bool is_done;

    if (!guest)
        return false;
    is_done = edit_is_status(status) && answer_reply(guest->call.room, ANSWER_RESPOND, status,
                                                     slice_from(content), SLICE_NONE);
    host_leave(guest);
    return is_done;
}

static bool refuse(struct weir_call *call, unsigned status, struct weir_text title,
                   struct weir_text remedy) {
    struct guest *guest = enter_phase(call, CALL_REQUEST);
    bool is_done;

    if (!guest)
        return false;
    is_done = edit_is_status(status) && edit_is_value(slice_from(title)) &&
              edit_is_value(slice_from(remedy)) &&
              answer_reply(guest->call.room, ANSWER_REFUSE, status, slice_from(title),
                           slice_from(remedy));
    host_leave(guest);
    return is_done;
}

static bool set_status(struct weir_call *call, unsigned status) {
    struct guest *guest = enter_phase(call, CALL_RESPONSE);
    bool is_done;

    if (!guest)
        return false;
    is_done = edit_is_status(status) && answer_add_status(guest->call.room, status);
    host_leave(guest);
    return is_done;
}

static bool want_response(struct weir_call *call) {
    struct guest *guest = enter_phase(call, CALL_REQUEST);

    if (!guest)
        return false;
    guest->call.room->head.wants_response = 1;
    host_leave(guest);
    return true;
}

struct guest *host_enter(const struct weir_call *call) {
    struct guest *guest = guest_current;

    if (!guest || (call && call != &guest->call))
        return NULL;
    guest->in_host++;
    heap_current = NULL;
    return guest;
}

static struct guest *enter_phase(const struct weir_call *call, enum call_phase phase) {
    struct guest *guest = host_enter(call);

    if (guest && (!guest->call.room || guest->call.frame->phase != phase)) {
        host_leave(guest);
        return NULL;
    }
    return guest;
}

/* A kick that came meanwhile is taken now, where nothing is held. */
void host_leave(struct guest *guest) {
    guest->in_host--;
    if (guest->in_host > 0)
        return;
    heap_current = guest->is_armed ? guest->heap : NULL;
    if (guest->is_kicked && guest->is_armed)
        guest_leave(FAULT_HANG, NULL);
}

static struct slice slice_from(struct weir_text text) {
    return slice_of(text.base, text.len);
}
