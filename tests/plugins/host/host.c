#include "plugins/host/host.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "exchange/field.h"
#include "handler/cells.h"
#include "handler/signatures.h"
#include "handler/watched.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALLOC_MAX (1024 * 1024) /* of one call */
#define VARIABLES_MAX 16

struct weir_call {
    struct arena arena;
    size_t allocated;
    struct weir_field sent[2 * HOST_FIELDS_MAX]; /* the request's, or the response's */
    size_t sent_count;
    struct weir_text path;
    struct weir_field variables[VARIABLES_MAX];
    size_t variable_count;
    unsigned status;
    bool is_answered, is_refusal, wants_response;
    struct weir_text content;
    struct weir_field answer[HOST_FIELDS_MAX];
    size_t answer_count;
};

int64_t host_now_ns, host_unix_ns;
uint64_t host_events[16];
char host_last_log[1024];

static char folder[64];
static void *library;
static const struct weir_plugin *plugin;
static void *state;
static struct cells *cells;
static struct watched_files *files;
static struct weir_file *views[8];
static unsigned view_count;
static uint64_t calls;
static struct weir_call call;
static struct weir_request last_request;
static struct weir_field last_fields[HOST_FIELDS_MAX];
static unsigned event_count;

static struct weir_text keep(struct weir_text text);
static const char *terminated(struct weir_text text);
static size_t fill(struct weir_field *to, const struct host_field *from);
static void begin_call(void);

static struct weir_text text_or(const char *text, const char *otherwise) {
    const char *s = text ? text : otherwise;

    return (struct weir_text){s, strlen(s)};
}

static bool is_same_name(struct weir_text a, struct weir_text b) {
    return a.len == b.len && strncasecmp(a.base, b.base, a.len) == 0;
}

static bool may_edit(struct weir_text name, struct weir_text value) {
    static const char *const fixed[] = {"host", "content-length", "transfer-encoding", "connection",
                                        "te",   "upgrade"};

    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (is_same_name(name, text_or(fixed[i], "")))
            return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.base[i] <= ' ' || strchr(":,;\"(){}", name.base[i]))
            return false;
    for (size_t i = 0; i < value.len; i++)
        if (strchr("\r\n", value.base[i])) /* NUL, too */
            return false;
    return name.len > 0 &&
           (value.len == 0 || (value.base[0] != ' ' && value.base[value.len - 1] != ' '));
}

static void *do_alloc(struct weir_call *c, size_t bytes) {
    if (bytes > ALLOC_MAX - c->allocated)
        return NULL;
    c->allocated += bytes;
    return arena_alloc(&c->arena, bytes);
}

static void do_log(struct weir_call *c, enum weir_log_level level, struct weir_text text) {
    snprintf(host_last_log, sizeof host_last_log, "%.*s", (int)text.len, text.base);
}

static void do_count(struct weir_call *c, unsigned event, uint64_t n) {
    assert_true(event < event_count);
    host_events[event] += n;
}

static int64_t get_now_ns(void) {
    return host_now_ns;
}

static int64_t get_unix_ns(void) {
    return host_unix_ns;
}

static bool do_remove_field(struct weir_call *c, struct weir_text name) {
    size_t kept = 0;

    if (!may_edit(name, text_or("", "")))
        return false;
    for (size_t i = 0; i < c->sent_count; i++)
        if (!is_same_name(c->sent[i].name, name))
            c->sent[kept++] = c->sent[i];
    c->sent_count = kept;
    return true;
}

static bool do_add_field(struct weir_call *c, struct weir_text name, struct weir_text value) {
    if (!may_edit(name, value))
        return false;
    assert_true(c->sent_count < sizeof c->sent / sizeof *c->sent);
    c->sent[c->sent_count++] = (struct weir_field){keep(name), keep(value)};
    return true;
}

static bool do_set_field(struct weir_call *c, struct weir_text name, struct weir_text value) {
    return may_edit(name, value) && do_remove_field(c, name) && do_add_field(c, name, value);
}

static bool do_set_path(struct weir_call *c, struct weir_text path) {
    if (path.len == 0 || path.base[0] != '/')
        return false;
    c->path = keep(path);
    return true;
}

static struct weir_text get_variable(struct weir_call *c, struct weir_text name) {
    for (size_t i = 0; i < c->variable_count; i++)
        if (is_same_name(c->variables[i].name, name))
            return c->variables[i].value;
    return text_or("", "");
}

static bool do_set_variable(struct weir_call *c, struct weir_text name, struct weir_text value) {
    size_t i = 0;

    while (i < c->variable_count && !is_same_name(c->variables[i].name, name))
        i++;
    if (i == VARIABLES_MAX || name.len == 0 || name.len > 32 || value.len > 256)
        return false;
    c->variables[i] = (struct weir_field){keep(name), keep(value)};
    c->variable_count += i == c->variable_count;
    return true;
}

static bool do_respond(struct weir_call *c, unsigned status, struct weir_text content) {
    if (status < 200 || status > 599 || content.len > 1024 * 1024)
        return false;
    c->status = status;
    c->content = keep(content);
    c->is_answered = true;
    c->is_refusal = false;
    return true;
}

static bool do_respond_field(struct weir_call *c, struct weir_text name, struct weir_text value) {
    if (!may_edit(name, value))
        return false;
    assert_true(c->answer_count < HOST_FIELDS_MAX);
    c->answer[c->answer_count++] = (struct weir_field){keep(name), keep(value)};
    return true;
}

static bool do_refuse(struct weir_call *c, unsigned status, struct weir_text title,
                      struct weir_text remedy) {
    assert_true(remedy.len > 0);
    if (!do_respond(c, status, title))
        return false;
    c->is_refusal = true;
    return true;
}

static bool do_set_status(struct weir_call *c, unsigned status) {
    c->status = status;
    return true;
}

static bool do_want_response(struct weir_call *c) {
    c->wants_response = true;
    return true;
}

static struct weir_table *get_table(const struct weir_host *host, struct weir_text name,
                                    unsigned count) {
    return cells_table(cells, slice_str(plugin->name), slice_of(name.base, name.len), count);
}

static struct weir_file *do_watch(const struct weir_host *host, struct weir_text path) {
    char *why = NULL;
    int err = watched_view_open(&views[view_count], files, slice_of(path.base, path.len), &why);

    free(why);
    assert_true(view_count < sizeof views / sizeof *views);
    return err ? NULL : views[view_count++];
}

static struct weir_text get_content(struct weir_file *file, uint64_t *version) {
    return watched_view_content(file, calls, version);
}

static const struct weir_host host = {
    .size = sizeof host,
    .alloc = do_alloc,
    .log = do_log,
    .count = do_count,
    .now_ns = get_now_ns,
    .unix_ns = get_unix_ns,
    .set_field = do_set_field,
    .add_field = do_add_field,
    .remove_field = do_remove_field,
    .set_path = do_set_path,
    .set_variable = do_set_variable,
    .variable = get_variable,
    .respond = do_respond,
    .respond_field = do_respond_field,
    .refuse = do_refuse,
    .set_status = do_set_status,
    .table = get_table,
    .cell_get = cells_get,
    .cell_swap = cells_swap,
    .watch = do_watch,
    .content = get_content,
    .verify = signatures_verify,
    .sha256 = signatures_sha256,
    .equal = signatures_equal,
    .reject = watched_view_reject,
    .want_response = do_want_response,
};

void host_open(const char *name) {
    char *path = xasprintf("%s/%s.so", PLUGIN_DIR, name);

    /* Stays loaded: the leak checker wants to name its functions. */
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail_msg("%s", dlerror());
    free(path);
    plugin = dlsym(library, "weir_plugin");
    assert_non_null(plugin);
    assert_int_equal(plugin->size, sizeof *plugin);
    assert_int_equal(plugin->abi, WEIR_ABI);
    for (event_count = 0; plugin->events && plugin->events[event_count]; event_count++)
        ;
    memset(host_events, 0, sizeof host_events);
    host_now_ns = 1000 * NS_PER_S;
    host_unix_ns = 1800000000 * NS_PER_S;
    snprintf(folder, sizeof folder, "/tmp/weir-plugin-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(cells_open(&cells, -1), 0);
    assert_int_equal(watched_open(&files, folder), 0);
    begin_call();
}

static void end_instance(void) {
    if (state)
        plugin->end(state);
    state = NULL;
    while (view_count > 0)
        watched_view_close(views[--view_count]);
}

void host_close(void) {
    char *command = xasprintf("rm -r '%s'", folder);

    end_instance();
    watched_close(files);
    cells_close(cells);
    arena_deinit(&call.arena);
    memset(&call, 0, sizeof call);
    assert_int_equal(system(command), 0);
    free(command);
}

void host_put_file(const char *name, const char *text) {
    char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
    free(path);
    watched_look(files);
    watched_look(files);
}

void host_drop_file(const char *name) {
    char *path = xasprintf("%s/%s", folder, name);

    assert_int_equal(unlink(path), 0);
    free(path);
    watched_look(files);
    watched_look(files);
}

static int try_init(const char *config, char *why, size_t why_size) {
    end_instance();
    calls++;
    return plugin->init(&host, text_or(config, "{}"), &state, why, why_size);
}

void host_init(const char *config) {
    char why[512] = "";

    if (try_init(config, why, sizeof why) != 0)
        fail_msg("refused: %s", why);
}

void host_init_fails(const char *config, const char *phrase) {
    char why[512] = "";

    assert_int_not_equal(try_init(config, why, sizeof why), 0);
    assert_null(state);
    end_instance();
    if (!strstr(why, phrase))
        fail_msg("'%s' does not say '%s'", why, phrase);
}

enum weir_verdict host_run(const struct host_request *request) {
    enum weir_verdict verdict;

    begin_call();
    call.path = keep(text_or(request->path, "/"));
    last_request = (struct weir_request){
        .size = sizeof last_request,
        .id = text_or("id-1", ""),
        .method = text_or(request->method, request->body ? "POST" : "GET"),
        .scheme = text_or("http", ""),
        .authority = text_or("example.org", ""),
        .path = call.path,
        .fields = last_fields,
        .field_count = fill(last_fields, request->fields),
        .version = 11,
        .listener = text_or("http", ""),
        .route = text_or(request->route, "a-route"),
        .client_address = text_or(request->client_address, "192.0.2.7"),
        .client_port = 1234,
        .client_certificate = text_or("", ""),
        .client_subject = text_or("", ""),
        .is_trusted = request->is_trusted,
        .is_grpc = request->is_grpc,
        .has_body = request->body && (plugin->flags & WEIR_WANTS_BODY),
        .deadline_ns = host_now_ns + NS_PER_S,
    };
    if (last_request.has_body)
        last_request.body = (struct weir_text){
            request->body, request->body_len ? request->body_len : strlen(request->body)};
    memcpy(call.sent, last_fields, sizeof last_fields);
    call.sent_count = last_request.field_count;
    call.variable_count = fill(call.variables, request->variables);
    assert_non_null(plugin->request);
    verdict = plugin->request(state, &call, &last_request);
    assert_true(verdict == WEIR_CONTINUE || (verdict == WEIR_RESPOND && call.is_answered));
    return verdict;
}

void host_respond(unsigned status, const struct host_field *fields) {
    struct weir_field list[HOST_FIELDS_MAX];
    struct weir_response response = {.size = sizeof response, .status = status, .fields = list};

    response.field_count = fill(list, fields);
    memcpy(call.sent, list, response.field_count * sizeof *list);
    call.sent_count = response.field_count;
    call.status = status;
    calls++;
    assert_non_null(plugin->response);
    assert_int_equal(plugin->response(state, &call, &last_request, &response), WEIR_CONTINUE);
}

unsigned host_status(void) {
    return call.status;
}

bool host_is_refusal(void) {
    return call.is_refusal;
}

const char *host_content(void) {
    return terminated(call.content);
}

static const char *join(const struct weir_field *fields, size_t count, const char *name) {
    struct buffer joined = {0};
    const char *text = NULL;

    for (size_t i = 0; i < count; i++) {
        if (!is_same_name(fields[i].name, text_or(name, "")))
            continue;
        if (text)
            buffer_append(&joined, SLICE(", "));
        buffer_append(&joined, slice_of(fields[i].value.base, fields[i].value.len));
        text = terminated((struct weir_text){joined.base, joined.len});
    }
    buffer_deinit(&joined);
    return text;
}

const char *host_answer_field(const char *name) {
    return join(call.answer, call.answer_count, name);
}

const char *host_sent(const char *name) {
    return join(call.sent, call.sent_count, name);
}

const char *host_path(void) {
    return terminated(call.path);
}

bool host_wants_response(void) {
    return call.wants_response;
}

const char *host_variable(const char *name) {
    return terminated(get_variable(&call, text_or(name, "")));
}

const struct weir_plugin *host_plugin(void) {
    return plugin;
}

const struct weir_host *host_table(void) {
    return &host;
}

static struct weir_text keep(struct weir_text text) {
    char *to = arena_alloc(&call.arena, text.len + 1);

    if (text.len > 0)
        memcpy(to, text.base, text.len);
    to[text.len] = '\0';
    return (struct weir_text){to, text.len};
}

static const char *terminated(struct weir_text text) {
    return keep(text).base;
}

static size_t fill(struct weir_field *to, const struct host_field *from) {
    size_t count = 0;

    for (; from[count].name; count++)
        to[count] = (struct weir_field){keep(text_or(from[count].name, "")),
                                        keep(text_or(from[count].value, ""))};
    return count;
}

static void begin_call(void) {
    static char first[4096];

    arena_deinit(&call.arena);
    memset(&call, 0, sizeof call);
    arena_init(&call.arena, first, sizeof first);
    calls++;
}
