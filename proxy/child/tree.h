/* All processes that descend from this one, whatever they have done to get away: this process is to
 * be a subreaper (prctl(2)), so that who loses its parent becomes its child. Linux. Home: a process
 * of one thread that reaps its own children. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Makes this process the parent of its orphaned descendants. -errno. */
int tree_hold(void);

/* Sends signal @number to every descendant but those that descend from @spared (of @spared_count).
 * One that is gone meanwhile is not mistaken for another that has its number. Returns how many were
 * there. */
unsigned tree_signal(int number, const pid_t *spared, unsigned spared_count);
