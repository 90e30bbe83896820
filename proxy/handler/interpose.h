/* What the executable defines in front of libc, for plugin code that runs in weir's process:
 * malloc() and its like (interpose.c), mmap() and its like (interpose_maps.c), and what would end
 * the process or change its signals (interpose_process.c). For everybody else they are libc's own.
 * A build with a sanitizer has none of it. */
#pragma once

#include <stddef.h>

/* Looks up libc's functions that stand behind ours, so that nobody has to later. */
void interpose_open(void);

/* Makes @function, a pointer to a function, that of libc's @name. */
void interpose_find(const char *name, void *function);

/* malloc_usable_size() of libc's. */
extern size_t (*interpose_usable)(void *memory);
