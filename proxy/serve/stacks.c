#include "serve/stacks.h"

#include "base/thread.h"
#include "supervisor/control.h"

#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAMES_MAX 64
#define MODULES_MAX 64
#define OWN_FRAMES 2 /* of the handler, and of the kernel's way to it */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER /* which tells of failures itself */
#endif
#endif

struct module {
    const char *name; /* borrowed: the loader, for the life of the process */
    uintptr_t base, from, to;
};

/* Written before the handler can run. */
static struct {
    struct module modules[MODULES_MAX];
    unsigned count;
    int control;
} known;

struct line {
    char text[CONTROL_TEXT_MAX];
    size_t len;
};

static int add_module(struct dl_phdr_info *info, size_t size, void *unused);
static void on_asked(int number);
static void on_failure(int number);
static void tell_stack(void);
static void append(struct line *line, const char *text);
static void append_number(struct line *line, uintptr_t n, unsigned base);
static void append_frame(struct line *line, uintptr_t at);

void stacks_open(int control) {
    struct sigaction asked = {.sa_handler = on_asked, .sa_flags = SA_RESTART};
    struct sigaction failure = {.sa_handler = on_failure, .sa_flags = (int)SA_RESETHAND};
    const int failures[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    void *frames[2];

    known.control = control;
    dl_iterate_phdr(add_module, NULL);
    backtrace(frames, 2); /* loads what it needs */
    sigaction(THREAD_STACK_SIGNAL, &asked, NULL);
#ifndef HAS_SANITIZER
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        sigaction(failures[i], &failure, NULL);
#else
    (void)failure;
    (void)failures;
    (void)on_failure;
#endif
}

static int add_module(struct dl_phdr_info *info, size_t size, void *unused) {
    const char *slash = strrchr(info->dlpi_name, '/');

    for (unsigned i = 0; i < info->dlpi_phnum && known.count < MODULES_MAX; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD && (part->p_flags & PF_X))
            known.modules[known.count++] =
                (struct module){slash                ? slash + 1
                                : info->dlpi_name[0] ? info->dlpi_name
                                                     : "weir",
                                info->dlpi_addr, from, from + part->p_memsz};
    }
    return 0;
}

static void on_asked(int number) {
    tell_stack();
}

/* What it was for a moment ago happens again when this returns, and then ends the process. */
static void on_failure(int number) {
    tell_stack();
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

static void tell_stack(void) {
    struct line line = {.len = 0};
    void *frames[FRAMES_MAX];
    char name[17] = "";
    int count = backtrace(frames, FRAMES_MAX);

    prctl(PR_GET_NAME, name);
    append(&line, "stack of thread ");
    append_number(&line, (uintptr_t)syscall(SYS_gettid), 10);
    append(&line, " (");
    append(&line, name);
    append(&line, "):");
    for (int i = OWN_FRAMES; i < count; i++)
        append_frame(&line, (uintptr_t)frames[i]);
    send(known.control, line.text, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void append(struct line *line, const char *text) {
    while (*text && line->len < sizeof line->text)
        line->text[line->len++] = *text++;
}

static void append_number(struct line *line, uintptr_t n, unsigned base) {
    char digits[24];
    size_t at = sizeof digits;

    digits[--at] = '\0';
    do
        digits[--at] = "0123456789abcdef"[n % base];
    while ((n /= base) && at > 0);
    append(line, digits + at);
}

static void append_frame(struct line *line, uintptr_t at) {
    append(line, " ");
    for (unsigned i = 0; i < known.count; i++) {
        const struct module *module = &known.modules[i];

        if (at >= module->from && at < module->to) {
            append(line, module->name);
            append(line, "+");
            at -= module->base;
            break;
        }
    }
    append(line, "0x");
    append_number(line, at, 16);
}
