/* Frames: the sums of what is to be copied, the copying, and moving. */
#include "handler/frame.h"

#include <assert.h>
#include <string.h>

struct writer {
    char *at, *end;
};

static size_t fields_bytes(const struct fields *fields);
static struct weir_text put(struct writer *to, struct slice text);
static const struct weir_field *put_fields(struct writer *to, struct weir_field *list,
                                           const struct fields *fields);
static void shift(struct weir_text *text, ptrdiff_t by);
static void shift_fields(const struct weir_field **fields, size_t count, ptrdiff_t by);

size_t frame_bytes(const struct call_input *input) {
    const struct request_head *request = input->request;
    size_t bytes = sizeof(struct frame) + fields_bytes(&request->fields);

    if (input->response)
        bytes += fields_bytes(&input->response->fields);
    bytes += input->variable_count * sizeof(struct frame_variable);
    for (unsigned i = 0; i < input->variable_count; i++)
        bytes += input->variables[i].name.len + input->variables[i].value.len;
    bytes += request->method_text.len + request->authority.len + request->path.len;
    bytes += input->request_id.len + input->scheme.len + input->listener.len + input->route.len;
    bytes += input->client_address.len + input->client_certificate.len + input->client_subject.len;
    return bytes + (input->has_body ? input->body.len : 0);
}

void frame_write(struct frame *frame, const struct call_input *input, int64_t deadline_ns) {
    const struct request_head *head = input->request;
    const struct response_head *response = input->response;
    struct weir_field *fields = (void *)(frame + 1);
    struct weir_field *response_fields = fields + head->fields.count;
    struct frame_variable *variables =
        (void *)(response_fields + (response ? response->fields.count : 0));
    size_t bytes = frame_bytes(input);
    struct writer to = {(char *)(variables + input->variable_count), (char *)frame + bytes};

    *frame = (struct frame){
        .bytes = bytes,
        .home = frame,
        .phase = input->phase,
        .handler = (uint32_t)input->handler,
        .variables = variables,
        .variable_count = input->variable_count,
    };
    frame->request = (struct weir_request){
        .size = sizeof frame->request,
        .id = put(&to, input->request_id),
        .method = put(&to, head->method_text),
        .scheme = put(&to, input->scheme),
        .authority = put(&to, head->authority),
        .path = put(&to, head->path),
        .fields = put_fields(&to, fields, &head->fields),
        .field_count = head->fields.count,
        .version = head->version,
        .listener = put(&to, input->listener),
        .route = put(&to, input->route),
        .client_address = put(&to, input->client_address),
        .client_port = input->client_port,
        .is_trusted = input->is_trusted,
        .is_secure = input->is_secure,
        .client_certificate = put(&to, input->client_certificate),
        .client_subject = put(&to, input->client_subject),
        .is_grpc = input->is_grpc,
        .has_body = input->has_body,
        .is_body_truncated = input->is_body_truncated,
        .body = put(&to, input->has_body ? input->body : SLICE_NONE),
        .deadline_ns = deadline_ns,
    };
    if (response)
        frame->response = (struct weir_response){
            .size = sizeof frame->response,
            .status = response->status,
            .fields = put_fields(&to, response_fields, &response->fields),
            .field_count = response->fields.count,
        };
    for (unsigned i = 0; i < input->variable_count; i++)
        variables[i] = (struct frame_variable){put(&to, input->variables[i].name),
                                               put(&to, input->variables[i].value)};
    assert(to.at == to.end);
}

void frame_move(struct frame *frame) {
    ptrdiff_t by = (char *)frame - (char *)frame->home;
    struct weir_request *request = &frame->request;
    struct weir_text *texts[] = {
        &request->id,
        &request->method,
        &request->scheme,
        &request->authority,
        &request->path,
        &request->listener,
        &request->route,
        &request->client_address,
        &request->client_certificate,
        &request->client_subject,
        &request->body,
        NULL,
    };
    struct frame_variable *variables;

    if (by == 0)
        return;
    for (struct weir_text **text = texts; *text; text++)
        shift(*text, by);
    shift_fields(&request->fields, request->field_count, by);
    if (frame->phase == CALL_RESPONSE)
        shift_fields(&frame->response.fields, frame->response.field_count, by);
    variables = (void *)((char *)frame->variables + by);
    for (uint32_t i = 0; i < frame->variable_count; i++) {
        shift(&variables[i].name, by);
        shift(&variables[i].value, by);
    }
    frame->variables = variables;
    frame->home = frame;
}

static size_t fields_bytes(const struct fields *fields) {
    size_t bytes = fields->count * sizeof(struct weir_field);

    for (uint32_t i = 0; i < fields->count; i++)
        bytes += fields->list[i].name.len + fields->list[i].value.len;
    return bytes;
}

static struct weir_text put(struct writer *to, struct slice text) {
    char *at = to->at;

    if (text.len > 0)
        memcpy(at, text.base, text.len);
    to->at += text.len;
    return (struct weir_text){at, text.len};
}

static const struct weir_field *put_fields(struct writer *to, struct weir_field *list,
                                           const struct fields *fields) {
    for (uint32_t i = 0; i < fields->count; i++)
        list[i] =
            (struct weir_field){put(to, fields->list[i].name), put(to, fields->list[i].value)};
    return list;
}

static void shift(struct weir_text *text, ptrdiff_t by) {
    text->base += by;
}

static void shift_fields(const struct weir_field **fields, size_t count, ptrdiff_t by) {
    struct weir_field *list = (void *)((char *)*fields + by);

    for (size_t i = 0; i < count; i++) {
        shift(&list[i].name, by);
        shift(&list[i].value, by);
    }
    *fields = list;
}
