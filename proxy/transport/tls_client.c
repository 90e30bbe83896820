/* The client's side; see tls_client.h. */
#include "transport/tls_client.h"

#include "base/alloc.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct tls_client {
    const struct config_pipeline *config; /* borrowed */
    bool is_address;                      /* server_name is an IP address */
    pthread_mutex_t lock;                 /* guards current, sessions */
    SSL_CTX *current;                     /* counted */
    struct {
        uint64_t key;
        SSL_SESSION *session; /* counted; NULL: none */
    } sessions[TLS_CLIENT_SESSIONS_MAX];
    _Atomic int64_t not_after_s;
    uint64_t used, seen; /* stamps of the files: those that were read last, and at the last look */
};

static SSL_CTX *load(struct tls_client *client, char **why);
static int demand_certificate(struct tls_client *client, SSL_CTX *ctx, char **why);
static int on_session(SSL *ssl, SSL_SESSION *session);
static void forget_sessions(struct tls_client *client);
static uint64_t stamp_of(const struct tls_client *client);
static uint64_t key_of(const struct sockaddr *address);

int tls_client_open(struct tls_client **out, const struct config_pipeline *pipeline, char **why) {
    struct tls_client *client = xcalloc(1, sizeof *client);
    unsigned char bytes[16];

    client->config = pipeline;
    client->is_address =
        pipeline->tls.server_name && (inet_pton(AF_INET, pipeline->tls.server_name, bytes) == 1 ||
                                      inet_pton(AF_INET6, pipeline->tls.server_name, bytes) == 1);
    pthread_mutex_init(&client->lock, NULL);
    client->used = client->seen = stamp_of(client);
    client->current = load(client, why);
    if (!client->current) {
        tls_client_close(client);
        return -EINVAL;
    }
    *out = client;
    return 0;
}

void tls_client_close(struct tls_client *client) {
    if (!client)
        return;
    forget_sessions(client);
    SSL_CTX_free(client->current);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

struct tls *tls_client_dial(struct tls_client *client, const struct sockaddr *address) {
    uint64_t key = key_of(address);
    size_t place = key % TLS_CLIENT_SESSIONS_MAX;
    /* An address is no name to ask for (RFC 6066 section 3). */
    const char *name = client->is_address ? NULL : client->config->tls.server_name;
    struct tls *tls;

    pthread_mutex_lock(&client->lock);
    tls = tls_open_client(client->current, client, key, name,
                          client->sessions[place].key == key ? client->sessions[place].session
                                                             : NULL);
    pthread_mutex_unlock(&client->lock);
    return tls;
}

void tls_client_refresh(struct tls_client *client) {
    uint64_t stamp = stamp_of(client);
    bool is_settled = stamp == client->seen;
    SSL_CTX *fresh, *old;
    char *why = NULL;

    client->seen = stamp;
    if (stamp == client->used || !is_settled)
        return;
    client->used = stamp;
    fresh = load(client, &why);
    if (!fresh) {
        log_error("cannot use the new certificates of pipeline '%s', the old ones stay: %s",
                  client->config->name, why);
        free(why);
        return;
    }
    pthread_mutex_lock(&client->lock);
    old = client->current;
    client->current = fresh;
    forget_sessions(client); /* they were made with the old authorities */
    pthread_mutex_unlock(&client->lock);
    SSL_CTX_free(old);
    log_info("the certificates of pipeline '%s' were read again", client->config->name);
}

int64_t tls_client_not_after_s(const struct tls_client *client) {
    return atomic_load(&client->not_after_s);
}

static SSL_CTX *load(struct tls_client *client, char **why) {
    const struct config_pipeline_tls *config = &client->config->tls;
    struct tls_protocols protocols = tls_protocols_of(client->config->protocol);
    SSL_CTX *ctx = tls_context_new(TLS_client_method(), config->min_version);
    int64_t not_after_s = 0;
    int err = 0;

    SSL_CTX_set_alpn_protos(ctx, protocols.list, protocols.len);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    if (config->own.cert)
        err = tls_context_take_pair(ctx, &config->own, &not_after_s, why);
    if (!err && config->verify)
        err = demand_certificate(client, ctx, why);
    if (err) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    atomic_store(&client->not_after_s, not_after_s);
    return ctx;
}

/* The chain, its time and the name (RFC 9110 section 4.3.4). */
static int demand_certificate(struct tls_client *client, SSL_CTX *ctx, char **why) {
    const struct config_pipeline_tls *config = &client->config->tls;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);

    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (client->is_address)
        X509_VERIFY_PARAM_set1_ip_asc(param, config->server_name);
    else
        X509_VERIFY_PARAM_set1_host(param, config->server_name, 0);
    if (config->ca)
        return tls_context_take_authorities(ctx, config->ca, false, NULL, why);
    if (SSL_CTX_set_default_verify_paths(ctx) == 1)
        return 0;
    *why = xstrdup("the system's authorities cannot be read");
    return -EINVAL;
}

/* The upstream has given a session: keeps it, unless the authorities have changed meanwhile. */
static int on_session(SSL *ssl, SSL_SESSION *session) {
    SSL_SESSION *old = session;
    struct tls_client *client;
    uint64_t key;
    size_t place;

    client = tls_client_of(ssl, &key);
    place = key % TLS_CLIENT_SESSIONS_MAX;
    pthread_mutex_lock(&client->lock);
    if (SSL_get_SSL_CTX(ssl) == client->current) {
        old = client->sessions[place].session;
        client->sessions[place].key = key;
        client->sessions[place].session = session;
    }
    pthread_mutex_unlock(&client->lock);
    if (old == session)
        return 0; /* not taken */
    SSL_SESSION_free(old);
    return 1;
}

/* Under the lock. */
static void forget_sessions(struct tls_client *client) {
    for (size_t i = 0; i < TLS_CLIENT_SESSIONS_MAX; i++) {
        SSL_SESSION_free(client->sessions[i].session);
        client->sessions[i].session = NULL;
    }
}

static uint64_t stamp_of(const struct tls_client *client) {
    const struct config_pipeline_tls *config = &client->config->tls;
    const char *const paths[] = {config->ca, config->own.cert, config->own.key};

    return tls_context_stamp(paths, sizeof paths / sizeof paths[0]);
}

/* FNV-1a over the address. Two of one key take turns: each handshake is whole then. */
static uint64_t key_of(const struct sockaddr *address) {
    size_t size = address->sa_family == AF_INET    ? sizeof(struct sockaddr_in)
                  : address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                   : sizeof(struct sockaddr_un);
    uint64_t key = 14695981039346656037u;

    for (size_t i = 0; i < size; i++)
        key = (key ^ ((const unsigned char *)address)[i]) * 1099511628211u;
    return key;
}
