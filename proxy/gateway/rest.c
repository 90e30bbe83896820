#include "gateway/rest.h"

#include "base/log.h"
#include "base/thread.h"
#include "gateway/crossing.h"
#include "handler/handlers.h"

#include <malloc.h>
#include <string.h>

static bool are_all_at_rest(const struct gateway *gateway);
static void trim(struct gateway *gateway, int64_t now_ns);
static void *run(void *arg);

void rest_look(struct gateway_loop *gl) {
    struct gateway *gateway = gl->gateway;
    struct rest_loop *own = &gl->rest;
    int64_t now_ns = gl->loop.now_ns;

    if (own->begun != gl->begun || own->since_ns == 0) {
        own->begun = gl->begun;
        own->since_ns = now_ns;
        atomic_store(&own->is_at_rest, false);
    } else if (now_ns - own->since_ns >= REST_AFTER_NS && !atomic_load(&own->is_at_rest)) {
        spares_drop(&gl->spare_crossings);
        spares_drop(&gl->loop.spare_conns);
        for (size_t i = 0; i < gateway->config->listener_count; i++)
            spares_drop(&gl->listeners[i].h1.spares);
        chunk_pool_drop(&gl->loop);
        if (gl->desk)
            handler_desk_rest(gl->desk);
        atomic_store(&own->is_at_rest, true);
    }
    if (gl->loop.index != 0)
        return;
    if (!are_all_at_rest(gateway))
        gateway->rest.is_trimmed = false;
    else if (!gateway->rest.is_trimmed)
        trim(gateway, now_ns);
}

void rest_close(struct gateway *gateway) {
    if (gateway->rest.has_thread)
        pthread_join(gateway->rest.thread, NULL);
    gateway->rest.has_thread = false;
}

static bool are_all_at_rest(const struct gateway *gateway) {
    for (unsigned i = 0; i < gateway->loop_count; i++)
        if (!atomic_load(&gateway->loops[i].rest.is_at_rest))
            return false;
    return true;
}

static void trim(struct gateway *gateway, int64_t now_ns) {
    struct rest *rest = &gateway->rest;
    int err;

    if ((rest->trims > 0 && now_ns - rest->trimmed_ns < REST_TRIM_PAUSE_NS) ||
        atomic_load(&rest->is_trimming) ||
        (gateway->handlers && handlers_are_tainted(gateway->handlers)))
        return;
    rest_close(gateway);
    atomic_store(&rest->is_trimming, true);
    rest->is_trimmed = true;
    rest->trimmed_ns = now_ns;
    rest->trims++;
    err = thread_start(&rest->thread, run, rest);
    rest->has_thread = !err;
    if (err) {
        atomic_store(&rest->is_trimming, false);
        log_warn("cannot start a thread that gives memory back: %s", strerror(-err));
    }
}

static void *run(void *arg) {
    struct rest *rest = arg;

    pthread_setname_np(pthread_self(), "weir-rest");
    malloc_trim(0);
    atomic_store(&rest->is_trimming, false);
    return NULL;
}
