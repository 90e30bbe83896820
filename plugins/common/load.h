/* A watched file that a plugin makes something of: keys, say. */
#pragma once

#include <weir/handler.h>

/* Takes @text in place of what @plugin has. 0; -1: @why says what is wrong with it, and nothing has
 * changed. */
typedef int load_parse_fn(void *plugin, struct weir_text text, char *why, size_t why_size);

enum load_result {
    LOAD_DONE = 0,   /* the plugin has what the file holds */
    LOAD_OLD = 1,    /* @why says why not; it has what the file held before */
    LOAD_FAILED = 2, /* the same, and there was nothing before */
};

/* Looks whether @file is another version than *@version (0: none yet), and has @parse take it. One
 * that is of no use is rejected for all instances, so that those to come do not fail for it. */
enum load_result load_file(const struct weir_host *host, struct weir_file *file, uint64_t *version,
                           load_parse_fn *parse, void *plugin, char *why, size_t why_size);
