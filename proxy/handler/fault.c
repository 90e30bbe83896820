/* What is said of faults: one line with all that helps to find the place in the plugin. */
#include "handler/handlers_state.h"
#include "handler/modules.h"

#include <signal.h>
#include <string.h>

static void place_of(const struct handler *handler, const struct fault *fault, struct buffer *text);

const char *fault_kind_name(enum fault_kind kind) {
    static const char *const names[] = {"none",  "segv",   "bus",  "fpe",  "ill",
                                        "abort", "trap",   "sys",  "exit", "heap",
                                        "hang",  "answer", "init", "cpu",  "state"};

    return names[kind];
}

void fault_report(struct handler *handler, const struct fault *fault, struct slice id) {
    struct buffer text = {0};

    atomic_fetch_add(&handler->faults[fault->kind], 1);
    if (fault->is_dirty)
        atomic_fetch_add(&handler->dirty_faults, 1);
    if (fault->kind == FAULT_HANG)
        buffer_printf(&text, "took longer than %lld ms",
                      (long long)(handler->config->timeout_ns / NS_PER_MS));
    else if (fault->signal)
        buffer_printf(&text, "failed: SIG%s", sigabbrev_np(fault->signal));
    else
        buffer_printf(&text, "failed: %s", fault_kind_name(fault->kind));
    if (fault->signal == SIGSEGV || fault->signal == SIGBUS)
        buffer_printf(&text, " at address 0x%llx", (unsigned long long)fault->address);
    if (fault->text[0])
        buffer_printf(&text, " (%s)", fault->text);
    place_of(handler, fault, &text);
    log_limited(&handler->faults_logged, LOG_ERROR, "handler '%s' %.*s, %s%s%.*s",
                handler->config->name, (int)text.len, text.base,
                fault->is_dirty ? "dirty: the gateway will be replaced" : "clean",
                id.len > 0 ? " xid=" : "", SLICE_ARG(id));
    buffer_deinit(&text);
}

/* "in check_token+0x1f", or "at libc.so.6+0x9ae41, called in check_token+0x1f". */
static void place_of(const struct handler *handler, const struct fault *fault,
                     struct buffer *text) {
    uintptr_t inside = 0;
    const char *function = plugin_symbol(handler->plugin, fault->pc, &inside);
    const char *module = module_name(fault->pc, &inside);

    if (!function && fault->pc != 0 && module)
        buffer_printf(text, " at %s+0x%llx", module, (unsigned long long)inside);
    else if (!function && fault->pc != 0)
        buffer_printf(text, " at 0x%llx", (unsigned long long)fault->pc);
    if (!function) {
        function = plugin_symbol(handler->plugin, fault->caller, &inside);
        if (function && fault->pc != 0)
            buffer_append(text, SLICE(", called"));
    } else {
        plugin_symbol(handler->plugin, fault->pc, &inside);
    }
    if (function)
        buffer_printf(text, " in %s+0x%llx", function, (unsigned long long)inside);
}
