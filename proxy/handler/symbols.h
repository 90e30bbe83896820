/* The names of a shared library's functions, static ones too where the file still has them: for log
 * lines that say where a plugin failed, without asking the loader, which takes a lock. */
#pragma once

#include "base/slice.h"

#include <stdint.h>

struct symbols;

/* From the bytes of an ELF file, which may go then; one that is not well-formed has no symbols.
 * Never NULL. */
struct symbols *symbols_new(struct slice file);
void symbols_free(struct symbols *symbols);

/* The function around @offset (from the address that the file is loaded at), and how far inside it
 * that is; NULL: none is known. */
const char *symbols_find(const struct symbols *symbols, uintptr_t offset, uintptr_t *inside);
