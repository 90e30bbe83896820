/* A call: one request (or response head) before one handler. A loop fills it with copies of what
 * the handler may see and submits it; a worker (a thread or a process) runs the plugin; the loop
 * gets it back with what the plugin wants done, or what went wrong with it. A call holds nothing of
 * its exchange and may outlive it.
 *
 * Home: the loop that made it; between call_submit() and its done callback, the worker. */
#pragma once

#include "base/list.h"
#include "exchange/head.h"
#include "loop/loop.h"

struct call;
struct handler_desk;

enum call_phase { CALL_REQUEST, CALL_RESPONSE };

#define CALL_ALLOC_MAX (1024 * 1024)   /* bytes of host->alloc() and edits in one call */
#define CALL_CONTENT_MAX (1024 * 1024) /* of host->respond() */
#define CALL_VARIABLES_MAX 16
#define CALL_VARIABLE_NAME_MAX 32
#define CALL_VARIABLE_VALUE_MAX 256

struct call_variable {
    struct slice name, value;
};

/* What a handler gets to see. All of it is copied. */
struct call_input {
    size_t handler; /* index in the config */
    enum call_phase phase;
    const struct request_head *request;
    const struct response_head *response; /* CALL_RESPONSE */
    struct slice request_id, scheme, listener, route;
    struct slice client_address, client_certificate, client_subject; /* "": none */
    unsigned client_port;
    bool is_trusted, is_secure, is_grpc;
    bool has_body, is_body_truncated;
    struct slice body;
    const struct call_variable *variables;
    unsigned variable_count;
};

enum call_outcome {
    CALL_CONTINUE,    /* with edits */
    CALL_RESPOND,     /* with status, fields, content */
    CALL_REFUSE,      /* with status, title, remedy */
    CALL_FAULT,       /* it crashed */
    CALL_HANG,        /* it took too long, in the queue or in the plugin */
    CALL_QUARANTINED, /* the handler faults too often: not called */
    CALL_BYPASSED,    /* the same, and the handler may be passed over */
    CALL_FULL,        /* no room in the handler's queue, or in its memory budget */
};

enum call_edit_kind { CALL_SET_FIELD, CALL_ADD_FIELD, CALL_REMOVE_FIELD };

struct call_edit {
    enum call_edit_kind kind;
    struct slice name, value;
};

/* What the plugin wants; lives as long as the call. Checked: names are tokens that may be edited,
 * values are field values, a path begins with '/', whatever kind of isolation it came from. */
struct call_answer {
    enum call_outcome outcome;
    const struct call_edit *edits; /* in order */
    unsigned edit_count;
    struct slice path;                     /* "" : as it was */
    const struct call_variable *variables; /* all that are set now */
    unsigned variable_count;
    unsigned status;                /* 0: as it was (CALL_CONTINUE of a response) */
    const struct call_edit *fields; /* CALL_RESPOND, CALL_REFUSE: of the answer; CALL_CONTINUE of a
                                       request: of whoever answers. CALL_ADD_FIELD only */
    unsigned field_count;
    struct slice content;       /* CALL_RESPOND */
    struct slice title, remedy; /* CALL_REFUSE */
};

/* Back on the loop, not from within call_submit(). */
typedef void call_done_fn(struct call *call, void *ctx);

/* Queues a call of @input at @desk (the loop's; handler/handlers.h); @done follows, exactly once,
 * unless call_forget() comes first. Never NULL: that there is no room, or a quarantine, is told by
 * @done, too. Home: loop. */
struct call *call_submit(struct handler_desk *desk, const struct call_input *input,
                         call_done_fn *done, void *ctx);
/* The exchange does not wait any more; the call ends on its own. Home: loop. */
void call_forget(struct call *call);

/* From within done on. */
const struct call_answer *call_answer(const struct call *call);
void call_free(struct call *call);
