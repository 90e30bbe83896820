#include "base/thread.h"

int thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    sigset_t blocked, before;
    int err;

    sigfillset(&blocked);
    sigdelset(&blocked, THREAD_STACK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    err = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}
