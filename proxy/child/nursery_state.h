/* The insides of the nursery, shared by its parts. */
#pragma once

#include "base/buffer.h"
#include "base/list.h"
#include "base/log.h"
#include "child/board.h"
#include "child/minder.h"
#include "child/nursery.h"
#include "child/output.h"
#include "child/program.h"
#include "child/ready.h"

#include <sys/types.h>

struct nursery;
struct grave;

/* An fd that is looked after. */
struct watch {
    int fd; /* -1: none */
    void (*ready)(struct nursery *nursery, struct watch *watch);
};

/* The programs of a gateway's configuration; counted, for those that run outlive it. */
struct program_set {
    unsigned refs;
    unsigned gateway; /* its number */
    struct programs *programs;
};

/* A way to a gateway. */
struct nursery_channel {
    struct list link;
    struct watch watch;
    struct program_set *set; /* counted */
    struct list children;    /* struct child, those that were started over it */
    struct buffer unsent;    /* what its gateway has not read, each with a NUL behind it */
};

struct instance;

/* A program and all that it has started, with its minder. */
struct child {
    struct list link;                /* in the nursery's */
    struct list in_channel;          /* of a program for a request */
    struct nursery_channel *channel; /* borrowed; NULL: an instance, or nobody wants to know */
    struct instance *instance;       /* borrowed; NULL: a program for a request */
    struct program_set *set;         /* counted */
    const struct program *program;   /* borrowed: set */
    struct board_row *row;           /* borrowed: the board */
    unsigned long id;                /* the gateway's */
    pid_t minder;
    pid_t pid;           /* of the program; 0: not known yet */
    struct watch socket; /* to the minder */
    struct watch said;   /* standard error, and of an instance standard output */
    struct output output;
    struct watch counts;       /* to a bridge's standard input, on which it tells: */
    struct mcp_counts counted; /* last */
    bool is_ending;
    bool is_told; /* of its end */
};

struct instance {
    struct resident *resident; /* borrowed */
    unsigned index;
    enum instance_state state;
    struct child *child; /* borrowed; NULL while IDLE */
    struct ready ready;
    int64_t since_ns;    /* of its state */
    int64_t start_at_ns; /* IDLE: not before */
    bool has_failed;     /* STOPPING: not because somebody wanted that */
};

/* A program that stays. */
struct resident {
    struct list link;
    char *name;                    /* owned */
    struct program_set *set;       /* counted; NULL: the configuration does not have it any more */
    const struct program *program; /* borrowed: set; what is to be running */
    struct respawn respawn;
    struct board_row *row; /* borrowed: the board */
    struct log_limit limit;
    struct instance instances[CONFIG_INSTANCES_MAX];
};

struct nursery {
    int epoll;
    struct watch supervisor, signals;
    void *memory; /* of the board */
    struct board *board;
    struct program_set *sets[NURSERY_GATEWAYS_MAX]; /* counted; the newest of each gateway */
    struct list channels;                           /* struct nursery_channel */
    struct list children;                           /* struct child */
    struct list residents;                          /* struct resident */
    unsigned channel_count, child_count;
    struct log_limit limits[BOARD_ROWS_MAX]; /* of the output of programs for requests */
    struct grave *dead;                      /* owned: freed at the end of the turn */
    int64_t looked_ns;                       /* when the sizes of instances were last looked at */
    bool is_ending;
    char packet[NURSERY_PACKET_MAX + 1];
};

/* nursery.c */
/* Looks after an fd, which is the watch's from now on. */
void nursery_watch(struct nursery *nursery, struct watch *watch, int fd);
/* ready() is called when it can be written, too; or no longer. */
void nursery_watch_writable(struct nursery *nursery, struct watch *watch, bool is_wanted);
/* Closes it; harmless when there is none. */
void nursery_unwatch(struct nursery *nursery, struct watch *watch);
/* Frees @memory when nobody can be called with it any more: at the end of the turn. */
void nursery_bury(struct nursery *nursery, void *memory);
void nursery_empty_graves(struct nursery *nursery);
struct program_set *program_set_ref(struct program_set *set);
void program_set_unref(struct program_set *set);

/* Its row of the board; NULL: there is no room, or no board. */
struct board_row *nursery_row(struct nursery *nursery, const char *name);

/* channels.c */
struct nursery_channel *channel_open(struct nursery *nursery, int fd, struct program_set *set);
void channel_close(struct nursery *nursery, struct nursery_channel *channel);
/* Reads what is there. */
void channel_read(struct nursery *nursery, struct nursery_channel *channel);
void channel_tell(struct nursery *nursery, struct nursery_channel *channel, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* children.c */
struct child_options {
    struct program_set *set;
    const struct program *program;
    struct board_row *row;
    struct log_limit *limit;
    const char *env;  /* "NAME=value", each with a NUL behind it */
    size_t env_bytes; /* with the last NUL */
    int in, out;      /* -1: none; the caller's; without out it goes where standard error goes */
};
/* -errno. */
int child_start(struct nursery *nursery, struct child **out, const struct child_options *options);
/* @fd, which is the child's from now on, is where its bridge tells what it has counted. */
void child_watch_counts(struct nursery *nursery, struct child *child, int fd);
/* Asks for the end of its tree. */
void child_end(struct child *child);
/* A minder has ended. */
void child_reaped(struct nursery *nursery, pid_t minder);
void children_free(struct nursery *nursery);

/* residents.c */
/* What @set has is to be running, and nothing else; NULL: nothing is. */
void residents_serve(struct nursery *nursery, struct program_set *set);
/* Starts what is to be started by now, stops what is to be stopped, asks who is starting. */
void residents_look(struct nursery *nursery, int64_t now_ns);
/* When to look again: at @next_ns, or before. */
int64_t residents_next_ns(const struct nursery *nursery, int64_t next_ns);
void residents_history(struct nursery *nursery, const char *name, const char *text);
/* NULL: of all. */
void residents_reset(struct nursery *nursery, const char *name);
/* A child of an instance is what its minder says. */
void instance_started(struct instance *instance);
void instance_gone(struct nursery *nursery, struct instance *instance,
                   const struct minder_report *report);
void residents_free(struct nursery *nursery);
