/* Endpoints: counts, backoff, and their address as text. */
#include "upstream/endpoint.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "transport/tls.h"
#include "upstream/outlier.h"
#include "upstream/trial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static bool is_in_service(unsigned conditions);
static void write_text(struct endpoint *endpoint);

/* Of an endpoint that nobody has set. */
static const struct endpoint_settings no_settings = {
    .breaker = {.open_for_ns = NS_PER_S, .open_max_ns = NS_PER_S, .passes = 1}};

struct endpoint *endpoint_new(const struct sockaddr_storage *address, unsigned connections,
                              unsigned loops) {
    struct endpoint *endpoint = xcalloc(1, sizeof *endpoint);

    atomic_init(&endpoint->refs, 1);
    endpoint->address = *address;
    write_text(endpoint);
    endpoint->id = hash_of(slice_str(endpoint->text)) | 1;
    gate_init(&endpoint->connections, connections, UINT32_MAX);
    endpoint->settings = &no_settings;
    breaker_init(&endpoint->breaker, &no_settings.breaker);
    endpoint->tallies = tallies_new(loops);
    pthread_mutex_init(&endpoint->lock, NULL);
    endpoint->pools = xcalloc(loops, sizeof(struct pool *));
    endpoint->loops = loops;
    return endpoint;
}

struct endpoint *endpoint_ref(struct endpoint *endpoint) {
    atomic_fetch_add(&endpoint->refs, 1);
    return endpoint;
}

void endpoint_unref(struct endpoint *endpoint) {
    if (atomic_fetch_sub(&endpoint->refs, 1) > 1)
        return;
    gate_deinit(&endpoint->connections);
    pthread_mutex_destroy(&endpoint->lock);
    breaker_deinit(&endpoint->breaker);
    free(endpoint->tallies);
    free(endpoint->record);
    free(endpoint->pools);
    free(endpoint);
}

void endpoint_set(struct endpoint *endpoint, const struct endpoint_settings *settings) {
    endpoint->settings = settings;
    endpoint->breaker.settings = &settings->breaker;
}

bool endpoint_is_in_service(const struct endpoint *endpoint) {
    return is_in_service(atomic_load_explicit(&endpoint->conditions, memory_order_relaxed));
}

bool endpoint_is_usable(const struct endpoint *endpoint, int64_t now_ns) {
    unsigned conditions = atomic_load_explicit(&endpoint->conditions, memory_order_relaxed);

    return (conditions == 0 || is_in_service(conditions)) &&
           breaker_may_enter(&endpoint->breaker, now_ns);
}

bool endpoint_is_usable_again(const struct endpoint *endpoint, int64_t now_ns) {
    unsigned conditions = atomic_load_explicit(&endpoint->conditions, memory_order_relaxed);

    return is_in_service(conditions & ~(unsigned)ENDPOINT_DRAINED) &&
           breaker_may_enter(&endpoint->breaker, now_ns);
}

unsigned endpoint_weight(const struct endpoint *endpoint, int64_t now_ns) {
    int64_t returned_ns = atomic_load_explicit(&endpoint->returned_ns, memory_order_relaxed);
    int64_t whole_ns = endpoint->settings->slow_start_ns, past_ns = now_ns - returned_ns;
    int64_t weight;

    if (returned_ns == 0 || whole_ns == 0 || past_ns >= whole_ns)
        return ENDPOINT_WEIGHT_MAX;
    /* It has returned on a thread whose clock was read later than ours. */
    if (past_ns < 0)
        return ENDPOINT_WEIGHT_MIN;
    weight = past_ns * ENDPOINT_WEIGHT_MAX / whole_ns;
    return weight < ENDPOINT_WEIGHT_MIN ? ENDPOINT_WEIGHT_MIN : (unsigned)weight;
}

bool endpoint_change(struct endpoint *endpoint, unsigned set, unsigned clear, int64_t now_ns) {
    unsigned old = atomic_load(&endpoint->conditions), new;

    do
        new = (old & ~clear) | set;
    while (!atomic_compare_exchange_weak(&endpoint->conditions, &old, new));
    if ((old ^ new) & ~(unsigned)ENDPOINT_PANIC)
        atomic_store(&endpoint->changed_ns, now_ns);
    if (!is_in_service(old) && is_in_service(new))
        atomic_store(&endpoint->returned_ns, now_ns);
    return new != old;
}

void endpoint_tell_ejected(struct endpoint *endpoint, int64_t now_ns) {
    struct breaker_view view = breaker_view(&endpoint->breaker);

    log_warn("endpoint '%s' is left alone for %.0f s: %s, the last: %s", endpoint->text,
             (double)(view.until_ns - now_ns) / 1e9, breaker_cause_name(view.cause),
             view.what ? view.what : "-");
}

static bool is_in_service(unsigned conditions) {
    return !(conditions & (ENDPOINT_DRAINED | ENDPOINT_DISABLED | ENDPOINT_UNCHECKED)) &&
           (!(conditions & ENDPOINT_UNHEALTHY) || (conditions & ENDPOINT_PANIC));
}

bool endpoint_may_dial(const struct endpoint *endpoint, int64_t now_ns) {
    return now_ns >= atomic_load_explicit(&endpoint->dial_after_ns, memory_order_relaxed);
}

void endpoint_dial_failed(struct endpoint *endpoint, enum fail fail, int64_t now_ns) {
    uint32_t failures = atomic_fetch_add(&endpoint->dial_failures, 1);
    int64_t backoff_ns = ENDPOINT_BACKOFF_MAX_NS;

    if (failures < 16 && ENDPOINT_BACKOFF_MIN_NS << failures < backoff_ns)
        backoff_ns = ENDPOINT_BACKOFF_MIN_NS << failures;
    backoff_ns = backoff_ns / 2 + (int64_t)random_below((uint64_t)backoff_ns / 2);
    atomic_fetch_add(&endpoint->dialled[fail == FAIL_CONNECT_REFUSED   ? DIAL_REFUSED
                                        : fail == FAIL_CONNECT_TIMEOUT ? DIAL_TIMEOUT
                                        : fail_is_tls(fail)            ? DIAL_TLS
                                                                       : DIAL_ERROR],
                     1);
    atomic_store(&endpoint->dial_fail, (int)fail);
    atomic_store(&endpoint->dial_failed_ns, now_ns);
    atomic_store(&endpoint->dial_after_ns, now_ns + backoff_ns);
}

void endpoint_dial_succeeded(struct endpoint *endpoint) {
    atomic_fetch_add(&endpoint->dialled[DIAL_OK], 1);
    atomic_store(&endpoint->dial_failures, 0);
    atomic_store(&endpoint->dial_after_ns, 0);
}

enum fail endpoint_fail_of(int err) {
    switch (err) {
    case -ECONNREFUSED:
    case -ENOENT: /* unix: no such socket */
    case -EAGAIN: /* unix: its backlog is full */
    case -ECONNRESET:
        return FAIL_CONNECT_REFUSED;
    case -ETIMEDOUT:
        return FAIL_CONNECT_TIMEOUT;
    case TLS_ERR_PROTOCOL:
        return FAIL_TLS_PROTOCOL;
    case TLS_ERR_CERTIFICATE:
        return FAIL_TLS_CERTIFICATE;
    case TLS_ERR_ALERT:
        return FAIL_TLS_ALERT;
    case -EMFILE:
    case -ENFILE:
        return FAIL_FDS_USED_UP;
    default:
        return FAIL_CONNECT_FAILED;
    }
}

const char *endpoint_dial_result_name(enum dial_result result) {
    static const char *const names[DIAL_RESULTS] = {"ok", "refused", "timeout", "tls", "error"};

    return names[result];
}

bool endpoint_is_at(const struct endpoint *endpoint, const struct sockaddr_storage *address) {
    const struct sockaddr_storage *own = &endpoint->address;
    size_t size = 0;

    if (own->ss_family != address->ss_family)
        return false;
    if (own->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const void *)own, *b = (const void *)address;

        return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
    }
    if (own->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *)own, *b = (const void *)address;

        return a->sin6_port == b->sin6_port &&
               memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0;
    }
    size = sizeof(struct sockaddr_un);
    return memcmp(own, address, size) == 0;
}

static void write_text(struct endpoint *endpoint) {
    const struct sockaddr_storage *address = &endpoint->address;
    const struct sockaddr_in *in = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;
    char host[INET6_ADDRSTRLEN];

    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(endpoint->text, sizeof endpoint->text, "%s:%u", host, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(endpoint->text, sizeof endpoint->text, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        snprintf(endpoint->text, sizeof endpoint->text, "unix:%s",
                 ((const struct sockaddr_un *)address)->sun_path);
    }
}
