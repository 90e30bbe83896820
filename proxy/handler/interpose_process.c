/* What would end the process, or change what its signals do. While plugin code runs the first is a
 * fault of the plugin, the second is refused. */
#include "handler/interpose.h"

#include "handler/guest.h"
#include "handler/trap.h"

#if !HANDLER_HAS_SANITIZER

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* glibc's own name for it. */
int __sigaction(int number, const struct sigaction *action, struct sigaction *old);

/* Called by the macro of assert.h. */
void __assert_fail(const char *claim, const char *file, unsigned line, const char *function);
void __stack_chk_fail(void);

static struct {
    __attribute__((noreturn)) void (*abort)(void);
    __attribute__((noreturn)) void (*exit)(int);
    __attribute__((noreturn)) void (*quick_exit)(int);
    __attribute__((noreturn)) void (*pthread_exit)(void *);
    __attribute__((noreturn)) void (*assert_fail)(const char *, const char *, unsigned,
                                                  const char *);
    __attribute__((noreturn)) void (*stack_chk_fail)(void);
    __typeof__(signal) *signal;
    __typeof__(sigprocmask) *sigprocmask;
    __typeof__(pthread_sigmask) *pthread_sigmask;
} libc;

void interpose_find(const char *name, void *function) {
    void *found = dlsym(RTLD_NEXT, name);

    memcpy(function, &found, sizeof found); /* what ISO C has no cast for */
}

size_t (*interpose_usable)(void *memory);

/* Before main, and before any constructor that could need it (libraries change signals, too). */
__attribute__((constructor(101))) void interpose_open(void) {
#define FIND(member, name) interpose_find(name, &libc.member)
    if (libc.abort)
        return;
    FIND(abort, "abort");
    FIND(exit, "exit");
    FIND(quick_exit, "quick_exit");
    FIND(pthread_exit, "pthread_exit");
    FIND(assert_fail, "__assert_fail");
    FIND(stack_chk_fail, "__stack_chk_fail");
    FIND(signal, "signal");
    FIND(sigprocmask, "sigprocmask");
    FIND(pthread_sigmask, "pthread_sigmask");
#undef FIND
    interpose_find("malloc_usable_size", &interpose_usable);
}

/* Parameters have better names than in the headers. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

EXPORT void abort(void) {
    if (guest_is_inside())
        guest_leave(FAULT_ABORT, "abort()");
    interpose_open();
    libc.abort();
}

EXPORT void __assert_fail(const char *claim, const char *file, unsigned line,
                          const char *function) {
    interpose_open();
    if (guest_is_inside()) {
        char text[FAULT_TEXT_MAX];

        snprintf(text, sizeof text, "%s:%u: assertion '%s' failed", file, line, claim);
        guest_leave(FAULT_ABORT, text);
    }
    libc.assert_fail(claim, file, line, function);
}

EXPORT void __stack_chk_fail(void) {
    if (guest_is_inside())
        guest_leave(FAULT_ABORT, "its stack is smashed");
    interpose_open();
    libc.stack_chk_fail();
}

EXPORT void exit(int status) {
    if (guest_is_inside())
        guest_leave(FAULT_EXIT, "exit()");
    interpose_open();
    libc.exit(status);
}

EXPORT void quick_exit(int status) {
    if (guest_is_inside())
        guest_leave(FAULT_EXIT, "quick_exit()");
    interpose_open();
    libc.quick_exit(status);
}

EXPORT void _exit(int status) {
    if (guest_is_inside())
        guest_leave(FAULT_EXIT, "_exit()");
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT void _Exit(int status) {
    if (guest_is_inside())
        guest_leave(FAULT_EXIT, "_Exit()");
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT void pthread_exit(void *result) {
    if (guest_is_inside())
        guest_leave(FAULT_EXIT, "pthread_exit()");
    interpose_open();
    libc.pthread_exit(result);
}

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (action && guest_is_inside()) {
        errno = EPERM;
        return -1;
    }
    return __sigaction(number, action, old);
}

EXPORT __sighandler_t signal(int number, __sighandler_t handler) {
    if (guest_is_inside()) {
        errno = EPERM;
        return SIG_ERR;
    }
    interpose_open();
    return libc.signal(number, handler);
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    if (set && guest_is_inside()) {
        errno = EPERM;
        return -1;
    }
    interpose_open();
    return libc.sigprocmask(how, set, old);
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    if (set && guest_is_inside())
        return EPERM;
    interpose_open();
    return libc.pthread_sigmask(how, set, old);
}

EXPORT int sigaltstack(const stack_t *stack, stack_t *old) {
    if (stack && guest_is_inside()) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_sigaltstack, stack, old);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

#else

void interpose_open(void) {
}

#endif
