/* A host of plugins without weir: loads a plugin's shared library and runs requests and responses
 * through it. Time stands still unless a test moves it; cells, watched files and signatures are
 * weir's own. One plugin and one call at a time.
 *
 * All results are terminated texts that live until the next call. */
#pragma once

#include "support/unit.h"

#include <weir/handler.h>

#define HOST_FIELDS_MAX 64

struct host_field {
    const char *name, *value;
};

/* What is not set is that of a plain GET. */
struct host_request {
    const char *method, *path, *client_address, *route;
    struct host_field fields[HOST_FIELDS_MAX]; /* up to the first without a name */
    const char *body;                          /* NULL: none */
    size_t body_len;                           /* 0: a terminated text */
    bool is_grpc, is_trusted;
    struct host_field variables[8]; /* that handlers in front have set */
};

extern int64_t host_now_ns, host_unix_ns;
extern uint64_t host_events[16];
extern char host_last_log[1024];

/* A plugin of the build's folder, and a folder of its own for files. */
void host_open(const char *plugin);
void host_close(void);

/* A file for watch(); a change of one that is in use is seen at once. */
void host_put_file(const char *name, const char *text);
void host_drop_file(const char *name);

/* Makes an instance in place of the last one, with @config in JSON. */
void host_init(const char *config);
/* Tries to; the plugin must refuse, and say something with @phrase in it. */
void host_init_fails(const char *config, const char *phrase);

enum weir_verdict host_run(const struct host_request *request);
#define RUN(...) host_run(&(struct host_request){__VA_ARGS__})
/* The response to the last request. */
void host_respond(unsigned status, const struct host_field *fields);

/* What the plugin has answered: of WEIR_RESPOND. */
unsigned host_status(void);
bool host_is_refusal(void); /* in weir's own form, whose title host_content() is */
const char *host_content(void);
const char *host_answer_field(const char *name); /* NULL: there is none */

/* What goes on, the request or the response: NULL, there is none; several lines are joined by
 * ", ". */
const char *host_sent(const char *name);
const char *host_path(void);
bool host_wants_response(void);
const char *host_variable(const char *name); /* "" when it is not set */

/* Of the loaded plugin, for who wants to call it otherwise. */
const struct weir_plugin *host_plugin(void);
const struct weir_host *host_table(void);
