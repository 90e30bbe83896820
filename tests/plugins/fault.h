/* What the parts of the plugin that faults (fault.c) share. */
#pragma once

#include <weir/handler.h>

#define TEXT(literal) WEIR_TEXT(literal)

/* A call in which something is to go wrong. */
struct scene {
    const struct weir_host *host;
    struct weir_call *call;
    const struct weir_request *request;
    const char *path;
};

struct fault_kind {
    const char *name; /* NULL: the last one */
    void (*run)(struct scene *s);
};

/* fault_memory.c */
extern const struct fault_kind fault_memory_kinds[];

/* fault.c: tells a number in the request's field @name. */
void fault_tell(struct scene *s, const char *name, unsigned long number);
