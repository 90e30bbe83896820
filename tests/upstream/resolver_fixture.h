/* A resolver whose name server is one on loopback, and who listens to its changes. */
#pragma once

#include "base/clock.h"
#include "dns_server.h"
#include "upstream/resolver.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PATIENCE_NS (10 * NS_PER_S)
#define OFTEN_NS (20 * NS_PER_MS)
#define SELDOM_NS INT64_MAX /* counts as RESOLVER_INTERVAL_MAX_NS */

/* Takes changed() calls; the test's thread waits for them. */
struct listener {
    pthread_mutex_t lock;
    pthread_cond_t has_changed;
    struct resolver_addresses last;
    size_t calls;
    char thread[16];
    bool are_signals_blocked;
};

/* What most tests need; made anew for each. */
struct world {
    struct dns_server *dns;
    struct resolver *resolver;
    struct listener listener;
    size_t fds_before;
    int stderr_before; /* -1: the log is not caught */
    int log;
};

int set_up(void **state);
/* Nothing may be left: no fd here, no memory by LeakSanitizer. */
int tear_down(void **state);

size_t count_entries(const char *path);

/* Have there been @calls of changed(), in time? */
bool await_changes(struct listener *listener, size_t calls, int64_t timeout_ns);
size_t count_changes(struct listener *listener);
/* The last change was to these addresses, as of text_of(). */
void assert_last(struct world *world, const char *text);

/* Until the end of the test. */
void catch_log(struct world *world);
/* How often @text is in what was caught. */
size_t count_logged(struct world *world, const char *text);

struct resolver_name name_of(struct world *world, const char *host, int64_t interval_ns);
/* Must succeed; @first may be NULL. */
void watch(struct world *world, const char *host, int64_t interval_ns,
           struct resolver_addresses *first);
/* Must fail with @err and the reason @text. */
void assert_not_watched(struct world *world, const char *host, int64_t timeout_ns, int err,
                        const char *text);

/* What the name server answers for @host. */
void set_v4(struct world *world, const char *host, uint32_t ttl_s, const char *address);
void set_v6(struct world *world, const char *host, uint32_t ttl_s, const char *address);
void set_mode(struct world *world, const char *host, enum dns_type type, enum dns_mode mode);

/* The addresses as one text, in their order: "10.0.0.1:8080 [::1]:8080". */
const char *text_of(const struct resolver_addresses *addresses);

/* Lets @host be resolved @count times more. */
void await_rounds(struct world *world, const char *host, enum dns_type type, size_t count);
