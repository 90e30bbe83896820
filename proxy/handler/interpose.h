/* What the executable defines in front of libc, for plugin code that runs in weir's process:
 * malloc() and its like (interpose.c), and what would end the process or change its signals
 * (interpose_process.c). For everybody else they are libc's own. A build with a sanitizer has none
 * of it. */
#pragma once

/* Looks up libc's functions that stand behind ours, so that nobody has to later. */
void interpose_open(void);

/* Makes @function, a pointer to a function, that of libc's @name. */
void interpose_find(const char *name, void *function);
