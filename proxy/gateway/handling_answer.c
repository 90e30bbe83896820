/* What becomes of a handler's answer. */
#include "gateway/handling.h"

#include "codec/h1_write.h"

static void edit(struct fields *fields, struct arena *arena, const struct call_edit *edit);
static void set_path(struct crossing *c, struct slice path);
static void set_status(struct crossing *c, unsigned status);
static void keep_variables(struct crossing *c, const struct call_answer *answer);
static void keep_fields(struct crossing *c, const struct call_answer *answer);
static bool has_own_framing(unsigned status);
static void respond(struct crossing *c, const struct call_answer *answer);
static enum handling_outcome refuse(struct crossing *c, const struct config_handler *handler,
                                    const struct call_answer *answer);
static const char *text_of(struct arena *arena, struct slice text);

enum handling_outcome handling_apply(struct crossing *c, const struct config_handler *handler,
                                     const struct call_answer *answer) {
    struct exchange *x = &c->x;
    struct fields *fields =
        c->handling->is_response ? &x->response_head.fields : &x->request_head.fields;

    switch (answer->outcome) {
    case CALL_CONTINUE:
        break;
    case CALL_BYPASSED:
        return HANDLING_DONE;
    case CALL_RESPOND:
        c->handling->last = handler;
        keep_variables(c, answer);
        respond(c, answer);
        return HANDLING_ANSWERED;
    case CALL_REFUSE:
        keep_variables(c, answer);
        return refuse(c, handler, answer);
    case CALL_FAULT:
        return handling_fail(c, handler, FAIL_HANDLER_FAULT);
    case CALL_HANG:
        return handling_fail(c, handler, FAIL_HANDLER_HANG);
    case CALL_QUARANTINED:
        return handling_fail(c, handler, FAIL_HANDLER_QUARANTINED);
    case CALL_FULL:
        return handling_fail(c, handler, FAIL_HANDLER_FULL);
    }
    for (unsigned i = 0; i < answer->edit_count; i++)
        edit(fields, &x->arena, &answer->edits[i]);
    if (answer->path.len > 0 && !c->handling->is_response)
        set_path(c, answer->path);
    if (answer->status && c->handling->is_response)
        set_status(c, answer->status);
    keep_variables(c, answer);
    keep_fields(c, answer);
    return HANDLING_DONE;
}

/* RFC 9110 has none of these; the nearest in meaning, and what clients act upon in the same way. */
enum grpc_status handling_grpc_status(unsigned http) {
    switch (http) {
    case 400:
    case 411:
    case 415:
    case 422:
        return GRPC_INVALID_ARGUMENT;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
    case 451:
        return GRPC_PERMISSION_DENIED;
    case 404:
    case 410:
        return GRPC_NOT_FOUND;
    case 405:
    case 501:
        return GRPC_UNIMPLEMENTED;
    case 408:
    case 504:
        return GRPC_DEADLINE_EXCEEDED;
    case 409:
        return GRPC_ABORTED;
    case 412:
    case 428:
        return GRPC_FAILED_PRECONDITION;
    case 413:
    case 414:
    case 429:
    case 431:
        return GRPC_RESOURCE_EXHAUSTED;
    case 416:
        return GRPC_OUT_OF_RANGE;
    case 499:
        return GRPC_CANCELLED;
    case 500:
        return GRPC_INTERNAL;
    case 502:
    case 503:
        return GRPC_UNAVAILABLE;
    default:
        return http / 100 == 2 ? GRPC_OK : GRPC_UNKNOWN;
    }
}

/* To set is to put it where the first of that name was, and to remove the others. */
static void edit(struct fields *fields, struct arena *arena, const struct call_edit *edit) {
    bool is_put = edit->kind == CALL_REMOVE_FIELD;
    struct slice name, value;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < fields->count && edit->kind != CALL_ADD_FIELD; i++) {
        if (!slice_equal_case(fields->list[i].name, edit->name)) {
            fields->list[kept++] = fields->list[i];
        } else if (!is_put) {
            is_put = true;
            fields->list[kept] = fields->list[i];
            fields->list[kept++].value = arena_copy(arena, edit->value);
        }
    }
    if (edit->kind != CALL_ADD_FIELD)
        fields->count = kept;
    if (is_put)
        return;
    name = arena_copy(arena, edit->name);
    value = arena_copy(arena, edit->value);
    fields_add(fields, arena, field_id_of(name), name, value);
}

/* The log still tells what the client asked for. */
static void set_path(struct crossing *c, struct slice path) {
    struct request_head *head = &c->x.request_head;

    if (c->handling->target.len == 0)
        c->handling->target = head->path;
    head->path = arena_copy(&c->x.arena, path);
    if (head->form == TARGET_ASTERISK)
        head->form = TARGET_ORIGIN;
}

/* Not where the status says how the content is framed, or that there is none; nor that of a gRPC
 * call, which says nothing. */
static void set_status(struct crossing *c, unsigned status) {
    struct response_head *head = &c->x.response_head;

    if (c->is_grpc || has_own_framing(status) || has_own_framing(head->status))
        return;
    head->status = status;
    head->reason = h1_reason(status);
}

static bool has_own_framing(unsigned status) {
    return status < 200 || status == 204 || status == 304;
}

static void keep_variables(struct crossing *c, const struct call_answer *answer) {
    struct arena *arena = &c->x.arena;
    struct call_variable *kept;

    if (answer->variable_count == 0)
        return;
    kept = arena_alloc(arena, answer->variable_count * sizeof *kept);
    for (unsigned i = 0; i < answer->variable_count; i++)
        kept[i] = (struct call_variable){arena_copy(arena, answer->variables[i].name),
                                         arena_copy(arena, answer->variables[i].value)};
    c->handling->variables = kept;
    c->handling->variable_count = answer->variable_count;
}

/* For an answer whose form is weir's. */
static void keep_fields(struct crossing *c, const struct call_answer *answer) {
    for (unsigned i = 0; i < answer->field_count; i++)
        if (field_id_of(answer->fields[i].name) != FIELD_CONTENT_TYPE)
            edit(&c->handling->fields, &c->x.arena, &answer->fields[i]);
}

/* In the upstream's place. Of a gRPC call the content is the status's message. */
static void respond(struct crossing *c, const struct call_answer *answer) {
    struct exchange *x = &c->x;
    struct fields *fields = &x->response_head.fields;
    bool has_content = !c->is_grpc && !has_own_framing(answer->status);

    x->response_head = (struct response_head){
        .status = answer->status,
        .version = HTTP_1_1,
        .reason = h1_reason(answer->status),
        .fields = c->handling->fields,
    };
    for (unsigned i = 0; i < answer->field_count; i++)
        if (!c->is_grpc || field_id_of(answer->fields[i].name) != FIELD_CONTENT_TYPE)
            edit(fields, &x->arena, &answer->fields[i]);
    if (c->is_grpc) {
        grpc_reply_begin(c);
        grpc_add_status(fields, &x->arena, handling_grpc_status(answer->status), answer->content);
    }
    reply_add_own(c);
    x->response_content = reply_fill(c, has_content ? answer->content : SLICE(""));
}

static enum handling_outcome refuse(struct crossing *c, const struct config_handler *handler,
                                    const struct call_answer *answer) {
    struct handling *h = c->handling;
    struct arena *arena = &c->x.arena;

    h->status = answer->status;
    h->title = text_of(arena, answer->title);
    h->remedy = text_of(arena, answer->remedy);
    keep_fields(c, answer);
    return handling_fail(c, handler, FAIL_HANDLER_REFUSED);
}

/* Cut at a NUL, which has no place in it. */
static const char *text_of(struct arena *arena, struct slice text) {
    return arena_printf(arena, "%.*s", SLICE_ARG(text)).base;
}
