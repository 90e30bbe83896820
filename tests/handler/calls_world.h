/* Handlers, with plugins of the tests, and a loop whose calls they are given. */
#pragma once

#include "handler/handlers_state.h"
#include "support/unit.h"

struct world {
    struct loop loop;
    struct config config;
    struct config_handler handlers[2];
    struct handlers *all;
    struct handler_desk *desk;
};

struct asked {
    struct call *call;
    bool is_done;
    enum call_outcome outcome;
    char count[24]; /* x-count of the answer */
    size_t content; /* bytes of a reply, all of them 'c' */
    unsigned edits, order;
};

extern struct world world;
extern unsigned loops; /* that begin() makes room for */
extern unsigned done;  /* calls that were answered */

/* @handlers of them, 1 or 2, each with tests/plugins/@plugin; in threads, or in processes. */
void begin(const char *plugin, unsigned threads, unsigned handlers, int64_t timeout_ns,
           unsigned queue);
void end(void);

/* Asks the handler, of a desk or of the world's, for what x-fault names; NULL: nothing. */
void ask_at(struct handler_desk *desk, struct asked *asked, size_t handler, const char *what);
void ask(struct asked *asked, size_t handler, const char *what);

/* Calls of the handler that no worker has taken. */
unsigned queued_of(size_t handler);
/* Does so many workers have calls of the first handler, and do so many wait? */
bool is_running(unsigned running, unsigned queued);

/* Lets calls of "wait" go on, until the next begin(). */
void open_gate(void);

/* Fixtures of a test: handlers run in processes, in threads again. */
int in_process(void **state);
int in_thread(void **state);
/* Of all tests. */
int make_gate(void **state);
int remove_gate(void **state);
