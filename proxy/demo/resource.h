/* What the engine answers, by path. Home: loop. */
#pragma once

#include "origin/visit.h"

struct resource {
    const char *path; /* one that ends in '/' stands for everything below it, "/" for itself only */
    void (*open)(struct visit *v);
    bool reads_content; /* else it is thrown away */
    const char *curl;   /* how to try it; "@" stands for "http://host:port" */
    const char *help;   /* one line, or some */
};

/* Answers with the resource at v->path, or with 404. */
void resource_open(struct visit *v);

/* content.c */
void echo_open(struct visit *v);
void upload_open(struct visit *v);
/* paced.c */
void slow_open(struct visit *v);
void stream_open(struct visit *v);
void events_open(struct visit *v);
/* bulk.c */
void bulk_open(struct visit *v);
/* trouble.c */
void status_open(struct visit *v);
void trouble_open(struct visit *v);
void early_open(struct visit *v);
void flaky_open(struct visit *v);
/* websocket.c */
void websocket_open(struct visit *v);
