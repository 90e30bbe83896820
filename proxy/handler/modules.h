/* What code is whose: the executable mappings of the process, as they were when the plugins had
 * been loaded. It is asked by malloc() and by signal handlers, so it takes no lock and allocates
 * nothing.
 *
 * Home: written once, before any worker runs; then shared. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum module_kind {
    MODULE_UNKNOWN, /* none that was there: the vdso, code made at run time */
    MODULE_PROCESS, /* a library of the process with locks and state of its own: libc, libssl */
    MODULE_WEIR,    /* the executable */
    MODULE_GUEST,   /* a plugin, what it brought along, or a library without state */
};

/* Notes what is loaded: weir and its libraries. Before any plugin is. */
void modules_note_process(void);
/* Notes what is new since then: plugins and their libraries. */
void modules_note_guests(void);

enum module_kind module_of(uintptr_t pc);

/* "libc.so.6" and the offset of @pc in it; NULL: unknown. */
const char *module_name(uintptr_t pc, uintptr_t *offset);

/* Does @address lie in what a file was mapped to, code or data? */
bool modules_have(uintptr_t address);

/* Is @pc in a library of the process? */
bool module_is_process(uintptr_t pc);
