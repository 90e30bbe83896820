/* What plugins may call: the functions behind struct weir_host. They run outside the instance's
 * heap, are not interrupted by a kick, and copy what they were given before they take any lock, so
 * that a bad pointer faults while nothing is held. */
#pragma once

#include "handler/guest.h"

/* What is handed to init(). One for all: the functions know their handler by the thread. */
extern const struct weir_host plugin_host;

/* Into a host function: plugin code does not run meanwhile. NULL: this thread runs none, or @call
 * (which may be NULL) is not what runs here. */
struct guest *host_enter(const struct weir_call *call);
/* And out again. */
void host_leave(struct guest *guest);
/* Reads each page of @text now, before a lock is taken. */
void host_touch(struct weir_text text);

/* Those of tables, files and signatures (host_shared.c). */
struct weir_table *host_table(const struct weir_host *host, struct weir_text name, unsigned cells);
bool host_cell_get(struct weir_table *table, struct weir_text key, struct weir_cell *cell);
bool host_cell_swap(struct weir_table *table, struct weir_text key, struct weir_cell *from,
                    struct weir_cell to);
struct weir_file *host_watch(const struct weir_host *host, struct weir_text path);
struct weir_text host_content(struct weir_file *file, uint64_t *version);
void host_reject(struct weir_file *file, uint64_t version);
bool host_verify(enum weir_signature kind, struct weir_text key, struct weir_text data,
                 struct weir_text signature);
void host_sha256(struct weir_text data, unsigned char digest[32]);
bool host_equal(struct weir_text a, struct weir_text b);
