/* The signals of guests: those of a fault, and the one by which a guest that hangs is kicked out.
 * A fault of plugin code leaves guest_run(); one of anybody else goes to whoever handled such
 * signals before, and ends the process. Sanitizers have handlers of their own: there nothing is
 * caught. */
#pragma once

#include "handler/guest.h"

#include <sys/types.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HANDLER_HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HANDLER_HAS_SANITIZER 1
#endif
#endif
#ifndef HANDLER_HAS_SANITIZER
#define HANDLER_HAS_SANITIZER 0
#endif

/* Installs the handlers. Home: main, before any worker. */
void traps_open(void);
/* Puts back what was before. After the last worker. */
void traps_close(void);

/* How much memory a thread's stack for signals needs. */
size_t trap_stack_bytes(void);

/* Makes this thread the home of @guest: its stack for signals is @memory, and the signals can come.
 * Memory and guest stay until trap_leave_thread(). */
void trap_enter_thread(struct guest *guest, void *memory);
void trap_leave_thread(void);

/* Asks the guest of thread @tid to leave @run. False: there is no such thread. Any thread. */
bool trap_kick(struct guest *guest, uint64_t run, pid_t tid);
