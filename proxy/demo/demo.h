/* `weir demo`: weir in front of an engine of its own, with nothing to configure. The engine is a
 * supervised process like those of [pipeline.process], on a free loopback port. Home: main thread.
 */
#pragma once

struct demo {
    char *config;  /* the text of the configuration that weir then serves; owned */
    unsigned port; /* of the engine */
    /* For the greeting; owned. */
    char *listen;
    char *admin;
};

/* Reads the arguments, makes the configuration, in which @binary is weir. Returns 0, or the exit
 * status after a message on standard error. */
int demo_open(struct demo *demo, const char *binary, int argc, char **argv);

/* Prints what to try, once weir and the engine listen. */
void demo_greet(const struct demo *demo);

void demo_close(struct demo *demo);

/* `weir engine`: is the engine, until SIGTERM. Returns the exit status. */
int demo_engine(void);
