#include "base/thread.h"

static int start(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

int thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    return start(thread, NULL, run, arg);
}

int thread_start_on(pthread_t *thread, void *stack, size_t bytes, void *(*run)(void *), void *arg) {
    pthread_attr_t attr;
    int err;

    pthread_attr_init(&attr);
    err = -pthread_attr_setstack(&attr, stack, bytes);
    if (!err)
        err = start(thread, &attr, run, arg);
    pthread_attr_destroy(&attr);
    return err;
}

static int start(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg) {
    sigset_t blocked, before;
    int err;

    sigfillset(&blocked);
    sigdelset(&blocked, THREAD_STACK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    err = pthread_create(thread, attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}
