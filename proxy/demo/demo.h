/* `weir demo`: weir in front of an engine of its own, with nothing to configure. The engine is a
 * child process that is forked before weir has threads, listens on a free loopback port and ends
 * with its parent. Home: main thread. */
#pragma once

#include <sys/types.h>

struct demo {
    char *config; /* the text of the configuration that weir then serves; owned */
    pid_t engine;
    /* For the greeting; owned. */
    char *listen;
    char *admin;
};

/* Reads the arguments, starts the engine, makes the configuration. Returns 0, or the exit status
 * after a message on standard error. */
int demo_open(struct demo *demo, int argc, char **argv);

/* Prints what to try, once weir listens. */
void demo_greet(const struct demo *demo);

/* Ends the engine and waits for it. */
void demo_close(struct demo *demo);
