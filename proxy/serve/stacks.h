/* Stacks of threads, for the log of the supervisor: of every thread when a process that hangs is
 * about to be replaced, of the one that fails when a signal ends the process. They are taken in a
 * signal handler, which must work whatever lock the thread holds: it allocates nothing, takes no
 * lock and writes to the supervisor's socket without waiting.
 *
 * A frame is told as module+offset, for addr2line(1). */
#pragma once

/* Catches THREAD_STACK_SIGNAL and the signals of failure from here on. Home: main thread, before
 * there are others. */
void stacks_open(int control);
