/* Was it clean? A run may be ended in the middle without a trace only where nothing of the process
 * was half done: every frame from the place of the fault up to guest_run() is the plugin's own
 * code, weir's that holds no lock, or a function of libc that is known to hold and keep nothing
 * (strlen(), memcpy(), qsort(), ...). The stack is unwound by its tables, never guessed at: what
 * cannot be unwound counts as dirty. */
#pragma once

#include "handler/guest.h"

#include <ucontext.h>

/* Loads the unwinder and finds out which functions of libc are harmless, by having each of them
 * fault. After traps_open(), before any worker. Home: main. */
void classify_learn(void);

/* @context: of the signal; NULL: asked by a function that plugin code has called. What a jump to
 * nowhere (fault->address) left in it is put right. fault->caller becomes the innermost place in
 * the plugin's code. Home: the guest's thread, signal handlers included. */
bool classify_is_clean(const struct guest *guest, ucontext_t *context, struct fault *fault);
