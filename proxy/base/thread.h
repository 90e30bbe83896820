/* Starting threads: all signals are blocked in them, for they are waited for elsewhere, but one,
 * by which a thread can be asked for its stack (serve/stacks.h). */
#pragma once

#include <pthread.h>
#include <signal.h>

#define THREAD_STACK_SIGNAL SIGUSR2

/* -errno. Any thread. */
int thread_start(pthread_t *thread, void *(*run)(void *), void *arg);
/* The same on a stack of the caller's, which has no guard but its own. */
int thread_start_on(pthread_t *thread, void *stack, size_t bytes, void *(*run)(void *), void *arg);
