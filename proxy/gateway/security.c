/* Certificates over the life of a gateway; see security.h. */
#include "gateway/security.h"

#include "base/alloc.h"
#include "metrics/metrics.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

static void *run(void *arg);
static void look(struct security *security);
static void add_certificate(struct buffer *text, const char *kind, const char *name,
                            const char *path, int64_t not_after_s);

int security_open(struct security *security, const struct config *config, char **why) {
    pthread_condattr_t attr;
    char *reason = NULL;
    int err = 0;

    *security = (struct security){.config = config};
    pthread_mutex_init(&security->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&security->end, &attr);
    pthread_condattr_destroy(&attr);
    security->servers = xcalloc(config->listener_count, sizeof(struct tls_server *));
    security->clients = xcalloc(config->pipeline_count, sizeof(struct tls_client *));
    for (size_t i = 0; !err && i < config->listener_count; i++) {
        if (!config->listeners[i].tls.is_on)
            continue;
        security->has_any = true;
        err = tls_server_open(&security->servers[i], &config->listeners[i], &reason);
        if (err)
            *why = xasprintf("TLS of listener '%s': %s", config->listeners[i].name, reason);
    }
    for (size_t i = 0; !err && i < config->pipeline_count; i++) {
        if (!config->pipelines[i].tls.is_on)
            continue;
        security->has_any = true;
        err = tls_client_open(&security->clients[i], &config->pipelines[i], &reason);
        if (err)
            *why = xasprintf("TLS of pipeline '%s': %s", config->pipelines[i].name, reason);
    }
    free(reason);
    return err;
}

int security_start(struct security *security) {
    sigset_t all, before;
    int err;

    if (!security->has_any)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&security->thread, NULL, run, security);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    security->is_running = !err;
    return -err;
}

void security_close(struct security *security) {
    if (!security->config)
        return;
    if (security->is_running) {
        pthread_mutex_lock(&security->lock);
        security->is_ending = true;
        pthread_cond_signal(&security->end);
        pthread_mutex_unlock(&security->lock);
        pthread_join(security->thread, NULL);
    }
    for (size_t i = 0; i < security->config->listener_count; i++)
        tls_server_close(security->servers[i]);
    for (size_t i = 0; i < security->config->pipeline_count; i++)
        tls_client_close(security->clients[i]);
    free(security->servers);
    free(security->clients);
    pthread_mutex_destroy(&security->lock);
    pthread_cond_destroy(&security->end);
    *security = (struct security){0};
}

void security_collect(const struct security *security, struct buffer *text) {
    const struct config *config = security->config;

    if (!security->has_any)
        return;
    buffer_printf(text,
                  "# HELP weir_tls_certificate_not_after_timestamp_seconds When a certificate "
                  "that is in use ends.\n"
                  "# TYPE weir_tls_certificate_not_after_timestamp_seconds gauge\n");
    for (size_t i = 0; i < config->listener_count; i++)
        for (size_t j = 0; security->servers[i] && j < config->listeners[i].tls.certificate_count;
             j++)
            add_certificate(text, "listener", config->listeners[i].name,
                            config->listeners[i].tls.certificates[j].cert,
                            tls_server_not_after_s(security->servers[i], j));
    for (size_t i = 0; i < config->pipeline_count; i++)
        if (security->clients[i] && config->pipelines[i].tls.own.cert)
            add_certificate(text, "pipeline", config->pipelines[i].name,
                            config->pipelines[i].tls.own.cert,
                            tls_client_not_after_s(security->clients[i]));
}

static void *run(void *arg) {
    struct security *security = arg;
    int64_t due_ns = clock_now_ns();

    pthread_mutex_lock(&security->lock);
    while (!security->is_ending) {
        struct timespec until;

        due_ns += SECURITY_LOOK_NS;
        until = (struct timespec){due_ns / NS_PER_S, due_ns % NS_PER_S};
        while (!security->is_ending && clock_now_ns() < due_ns)
            pthread_cond_timedwait(&security->end, &security->lock, &until);
        if (security->is_ending)
            break;
        pthread_mutex_unlock(&security->lock);
        look(security);
        pthread_mutex_lock(&security->lock);
    }
    pthread_mutex_unlock(&security->lock);
    return NULL;
}

static void look(struct security *security) {
    for (size_t i = 0; i < security->config->listener_count; i++)
        if (security->servers[i])
            tls_server_refresh(security->servers[i]);
    for (size_t i = 0; i < security->config->pipeline_count; i++)
        if (security->clients[i])
            tls_client_refresh(security->clients[i]);
}

static void add_certificate(struct buffer *text, const char *kind, const char *name,
                            const char *path, int64_t not_after_s) {
    struct buffer labels = {0};

    metrics_label(&labels, kind, name);
    metrics_label(&labels, "certificate", path);
    buffer_printf(text, "weir_tls_certificate_not_after_timestamp_seconds{%.*s} %lld\n",
                  SLICE_ARG(buffer_slice(&labels)), (long long)not_after_s);
    buffer_deinit(&labels);
}
