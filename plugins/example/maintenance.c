/* maintenance: an example of a handler, to be copied and changed. It is useful as it is: while a
 * file has anything in it, requests are refused with 503 and the file's first line as the reason;
 * once the file is empty again (or was made empty, for weir keeps the last content of one that went
 * away) they pass.
 *
 *     [[handler]]
 *     name = "maintenance"
 *     plugin = "./maintenance.so"
 *     config = { file = "maintenance.txt", retry_after = 120, allow = "192.0.2.7" }
 *
 *     [[route]]
 *     match = { path = "/" }
 *     handlers = ["maintenance"]
 *     pipeline = "app"
 *
 * `make` builds it: all it needs is weir's header (`pkg-config --cflags weir-handler`) and, to read
 * its configuration, jansson. */
#include <weir/handler.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One for each worker that runs the handler, made by init(). Nothing in it needs a lock, and
 * nothing in it may be missed: a worker that faults takes its instance with it. */
struct maintenance {
    const struct weir_host *host; /* what weir does for us */
    json_t *config;               /* owned; the texts below point into it */
    const char *path, *allow;     /* allow: an address that is let in, "" for none */
    char retry_after[24];         /* seconds, as text */
    struct weir_file *file;       /* weir's; it reads the file again when it changes */
};

/* What we count: weir_handler_events_total{handler="maintenance",event="refused"}. */
enum { EVENT_REFUSED };
static const char *const events[] = {"refused", NULL};

static void end(void *state) {
    struct maintenance *m = state;

    json_decref(m->config);
    free(m);
}

/* Whatever is wrong is said in @why: `weir check` prints it, and weir does not start with it. */
static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct maintenance *m = calloc(1, sizeof *m);
    json_error_t error;
    int seconds = 60;

    if (!m)
        return -1;
    m->host = host;
    m->allow = "";
    m->config = json_loadb(config.base, config.len, 0, &error);
    /* JSON_STRICT: a key that is not there in the format, a misspelt one, is an error. */
    if (json_unpack_ex(m->config, &error, JSON_STRICT, "{s:s, s?i, s?s}", "file", &m->path,
                       "retry_after", &seconds, "allow", &m->allow) != 0) {
        snprintf(why, why_size, "%s; expected file, and perhaps retry_after and allow", error.text);
        end(m);
        return -1;
    }
    snprintf(m->retry_after, sizeof m->retry_after, "%d", seconds);
    m->file = host->watch(host, (struct weir_text){m->path, strlen(m->path)});
    if (!m->file) {
        snprintf(why, why_size, "file: '%s' cannot be read", m->path);
        end(m);
        return -1;
    }
    *state = m;
    return 0;
}

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    struct maintenance *m = state;
    uint64_t version; /* changes with the content: for those who make something of it */
    struct weir_text reason = m->host->content(m->file, &version);
    const char *newline = reason.len > 0 ? memchr(reason.base, '\n', reason.len) : NULL;

    if (reason.len == 0)
        return WEIR_CONTINUE;
    if (request->client_address.len == strlen(m->allow) &&
        memcmp(request->client_address.base, m->allow, request->client_address.len) == 0) {
        m->host->set_field(call, WEIR_TEXT("x-maintenance"), WEIR_TEXT("on"));
        return WEIR_CONTINUE;
    }
    if (newline)
        reason.len = (size_t)(newline - reason.base);
    m->host->count(call, EVENT_REFUSED, 1);
    /* In the form that the client understands: problem+json, or trailers of gRPC. */
    m->host->refuse(call, 503, reason, WEIR_TEXT("come back later"));
    m->host->respond_field(call, WEIR_TEXT("retry-after"),
                           (struct weir_text){m->retry_after, strlen(m->retry_after)});
    return WEIR_RESPOND;
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .flags = WEIR_SKIPPABLE, /* when it is broken, weir may let requests pass without it */
    .name = "maintenance",
    .version = "1",
    .events = events,
    .init = init,
    .request = on_request,
    .end = end,
};
