/* A handler that does what the request tells it to, for the flow tests. Its config names the field
 * that it listens to: { tag = "a" } means x-do-a, and x-do-a-response for the response. In there
 * stand commands, separated by '|', with blanks between words; the last word of a command may have
 * blanks itself:
 *
 *     set NAME VALUE   add NAME VALUE   remove NAME   path PATH   var NAME VALUE
 *     show             what it sees of the request, into fields x-saw-... of what goes on
 *     see NAME         the variable NAME, into x-var
 *     field NAME VALUE, before: respond STATUS CONTENT   refuse STATUS TITLE
 *     status STATUS    of the response
 *     count            one more of its event "counted"
 *     want             to be called for the response
 *     crash   hang
 *
 * What the host does not take it tells in x-not-taken. { refuse = true } makes init() refuse,
 * { crash = true } crash, with { hang = true } hang. */
#include <weir/handler.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PUPPET_FLAGS
#define PUPPET_FLAGS 0
#endif
#ifndef PUPPET_ABI
#define PUPPET_ABI WEIR_ABI
#endif

struct puppet {
    const struct weir_host *host;
    char field[64], response_field[80];
};

static char *volatile nowhere; /* the compiler must not know */

static struct weir_text text_of(const char *text) {
    return (struct weir_text){text, strlen(text)};
}

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct puppet *puppet = calloc(1, sizeof *puppet);
    const char *tag = strstr(config.base, "\"tag\":\"");
    int len = tag ? (int)strcspn(tag + 7, "\"") : 0;

    if (strstr(config.base, "\"hang\":true"))
        pause();
    if (strstr(config.base, "\"crash\":true"))
        abort();
    if (strstr(config.base, "\"refuse\":true")) {
        snprintf(why, why_size, "refuse: found true, expected nothing of the kind");
        return 1;
    }
    puppet->host = host;
    snprintf(puppet->field, sizeof puppet->field, "x-do-%.*s", len, tag ? tag + 7 : "");
    snprintf(puppet->response_field, sizeof puppet->response_field, "%s-response", puppet->field);
    *state = puppet;
    return 0;
}

static void end(void *state) {
    free(state);
}

/* The next word of *@rest, terminated; "" at the end. */
static char *next_word(char **rest) {
    char *word = *rest, *blank = strchr(word, ' ');

    *rest = blank ? blank + 1 : word + strlen(word);
    if (blank)
        *blank = '\0';
    return word;
}

static void show(const struct weir_host *host, struct weir_call *call,
                 const struct weir_request *r) {
    char text[1024];

    snprintf(text, sizeof text, "%.*s %.*s://%.*s%.*s %u %.*s %.*s %u", (int)r->method.len,
             r->method.base, (int)r->scheme.len, r->scheme.base, (int)r->authority.len,
             r->authority.base, (int)r->path.len, r->path.base, r->version, (int)r->listener.len,
             r->listener.base, (int)r->route.len, r->route.base, (unsigned)r->field_count);
    host->set_field(call, WEIR_TEXT("x-saw-request"), text_of(text));
    snprintf(text, sizeof text, "%.*s %s%s%s%.*s", (int)r->client_address.len,
             r->client_address.base, r->client_port ? "port " : "", r->is_trusted ? "trusted " : "",
             r->is_secure ? "secure " : "", (int)r->client_subject.len, r->client_subject.base);
    text[strlen(text) - (text[strlen(text) - 1] == ' ')] = '\0';
    host->set_field(call, WEIR_TEXT("x-saw-client"), text_of(text));
    snprintf(text, sizeof text, "%s%s%s%zu", r->is_grpc ? "grpc " : "", r->has_body ? "body " : "",
             r->is_body_truncated ? "cut " : "", r->body.len);
    host->set_field(call, WEIR_TEXT("x-saw-body"), text_of(text));
    if (r->body.len <= 64)
        host->set_field(call, WEIR_TEXT("x-saw-content"), r->body);
    host->set_field(call, WEIR_TEXT("x-saw-id"), r->id);
}

static bool obey(const struct puppet *puppet, struct weir_call *call,
                 const struct weir_request *request, char *line, enum weir_verdict *verdict) {
    const struct weir_host *host = puppet->host;
    const char *word = next_word(&line);
    struct weir_text name;

    if (strcmp(word, "show") == 0) {
        show(host, call, request);
        return true;
    }
    if (strcmp(word, "see") == 0)
        return host->set_field(call, WEIR_TEXT("x-var"), host->variable(call, text_of(line)));
    if (strcmp(word, "count") == 0) {
        host->count(call, 0, 1);
        return true;
    }
    if (strcmp(word, "want") == 0)
        return host->want_response(call);
    if (strcmp(word, "crash") == 0)
        *nowhere = 0;
    while (strcmp(word, "hang") == 0)
        ;
    if (strcmp(word, "path") == 0)
        return host->set_path(call, text_of(line));
    if (strcmp(word, "remove") == 0)
        return host->remove_field(call, text_of(line));
    if (strcmp(word, "status") == 0)
        return host->set_status(call, (unsigned)atoi(line));
    name = text_of(next_word(&line));
    if (strcmp(word, "respond") == 0) {
        *verdict = WEIR_RESPOND;
        return host->respond(call, (unsigned)atoi(name.base), text_of(line));
    }
    if (strcmp(word, "refuse") == 0) {
        *verdict = WEIR_RESPOND;
        return host->refuse(call, (unsigned)atoi(name.base), text_of(line),
                            WEIR_TEXT("ask \"otherwise\""));
    }
    if (strcmp(word, "set") == 0)
        return host->set_field(call, name, text_of(line));
    if (strcmp(word, "add") == 0)
        return host->add_field(call, name, text_of(line));
    if (strcmp(word, "field") == 0)
        return host->respond_field(call, name, text_of(line));
    if (strcmp(word, "var") == 0)
        return host->set_variable(call, name, text_of(line));
    return false;
}

/* Does what the request's field @name says. */
static enum weir_verdict run(const struct puppet *puppet, struct weir_call *call,
                             const struct weir_request *request, const char *name) {
    enum weir_verdict verdict = WEIR_CONTINUE;
    char lines[4096], *line, *save = NULL;

    for (size_t i = 0; i < request->field_count; i++) {
        const struct weir_field *field = &request->fields[i];

        if (field->name.len != strlen(name) || memcmp(field->name.base, name, strlen(name)) != 0 ||
            field->value.len >= sizeof lines)
            continue;
        memcpy(lines, field->value.base, field->value.len);
        lines[field->value.len] = '\0';
        for (line = strtok_r(lines, "|", &save); line; line = strtok_r(NULL, "|", &save)) {
            char copy[4096];

            snprintf(copy, sizeof copy, "%s", line);
            if (!obey(puppet, call, request, line, &verdict))
                puppet->host->add_field(call, WEIR_TEXT("x-not-taken"), text_of(copy));
        }
    }
    return verdict;
}

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    const struct puppet *puppet = state;

    return run(puppet, call, request, puppet->field);
}

static enum weir_verdict on_response(void *state, struct weir_call *call,
                                     const struct weir_request *request,
                                     const struct weir_response *response) {
    const struct puppet *puppet = state;
    char text[128];

    snprintf(text, sizeof text, "%s %u %zu", puppet->field, response->status,
             response->field_count);
    puppet->host->add_field(call, WEIR_TEXT("x-response-call"), text_of(text));
    return run(puppet, call, request, puppet->response_field);
}

static const char *const events[] = {"counted", NULL};

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = PUPPET_ABI,
    .flags = PUPPET_FLAGS,
    .name = "puppet",
    .version = "1",
    .events = events,
    .init = init,
    .request = on_request,
    .response = on_response,
    .end = end,
};
