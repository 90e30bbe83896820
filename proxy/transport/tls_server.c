/* The server's side; see tls_server.h. All that one reading of the files gives hangs on one counted
 * pointer: the context of the first certificate, with a table of the others. */
#include "transport/tls_server.h"

#include "base/alloc.h"
#include "base/log.h"
#include "transport/tls_tickets.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SESSION_S (2 * 3600) /* how long a client may resume */

struct tls_server {
    const struct config_listener *config; /* borrowed */
    struct tls_protocols protocols;
    struct tls_tickets tickets;
    pthread_mutex_t lock;         /* guards current */
    SSL_CTX *current;             /* counted */
    _Atomic int64_t *not_after_s; /* owned; of current */
    int64_t *loaded_s;            /* owned; of what load() has read last */
    uint64_t used, seen; /* stamps of the files: those that were read last, and at the last look */
};

/* The certificates behind the first one; lives as long as its context. */
struct other_certificates {
    size_t count;
    SSL_CTX *list[]; /* counted */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int others_index;

static SSL_CTX *load(struct tls_server *server, char **why);
static SSL_CTX *make(struct tls_server *server);
static void publish(struct tls_server *server);
static int demand_certificates(struct tls_server *server, SSL_CTX *ctx, char **why);
static uint64_t stamp_of(const struct tls_server *server);
static void make_index(void);
static void free_others(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                        void *pointer);
static int on_server_name(SSL *ssl, int *alert, void *arg);
static bool is_for(SSL_CTX *ctx, const char *name, unsigned flags);
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg);
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int is_sealing);

int tls_server_open(struct tls_server **out, const struct config_listener *listener, char **why) {
    struct tls_server *server = xcalloc(1, sizeof *server);

    pthread_once(&once, make_index);
    server->config = listener;
    server->protocols = tls_protocols_of(listener->protocol);
    tls_tickets_init(&server->tickets);
    pthread_mutex_init(&server->lock, NULL);
    server->not_after_s = xcalloc(listener->tls.certificate_count, sizeof server->not_after_s[0]);
    server->loaded_s = xcalloc(listener->tls.certificate_count, sizeof server->loaded_s[0]);
    server->used = server->seen = stamp_of(server);
    server->current = load(server, why);
    if (!server->current) {
        tls_server_close(server);
        return -EINVAL;
    }
    publish(server);
    *out = server;
    return 0;
}

void tls_server_close(struct tls_server *server) {
    if (!server)
        return;
    SSL_CTX_free(server->current);
    tls_tickets_deinit(&server->tickets);
    pthread_mutex_destroy(&server->lock);
    free(server->not_after_s);
    free(server->loaded_s);
    free(server);
}

struct tls *tls_server_accept(struct tls_server *server) {
    struct tls *tls;

    pthread_mutex_lock(&server->lock);
    tls = tls_open_server(server->current);
    pthread_mutex_unlock(&server->lock);
    return tls;
}

void tls_server_refresh(struct tls_server *server) {
    uint64_t stamp = stamp_of(server);
    bool is_settled = stamp == server->seen;
    SSL_CTX *fresh, *old;
    char *why = NULL;

    server->seen = stamp;
    if (stamp == server->used || !is_settled)
        return;
    server->used = stamp;
    fresh = load(server, &why);
    if (!fresh) {
        log_error("cannot use the new certificates of listener '%s', the old ones stay: %s",
                  server->config->name, why);
        free(why);
        return;
    }
    pthread_mutex_lock(&server->lock);
    old = server->current;
    server->current = fresh;
    pthread_mutex_unlock(&server->lock);
    SSL_CTX_free(old);
    publish(server);
    log_info("the certificates of listener '%s' were read again", server->config->name);
}

int64_t tls_server_not_after_s(const struct tls_server *server, size_t index) {
    return atomic_load(&server->not_after_s[index]);
}

static SSL_CTX *load(struct tls_server *server, char **why) {
    size_t count = server->config->tls.certificate_count;
    struct other_certificates *others = xcalloc(1, sizeof *others + count * sizeof(SSL_CTX *));
    SSL_CTX *first = NULL;
    int err = 0;

    for (size_t i = 0; i < count && !err; i++) {
        SSL_CTX *ctx = make(server);

        if (i == 0) {
            first = ctx;
            SSL_CTX_set_ex_data(first, others_index, others); /* which frees them */
        } else {
            others->list[others->count++] = ctx;
        }
        err = tls_context_take_pair(ctx, &server->config->tls.certificates[i], &server->loaded_s[i],
                                    why);
        if (!err)
            err = demand_certificates(server, ctx, why);
    }
    if (!err)
        return first;
    SSL_CTX_free(first);
    return NULL;
}

/* Only what clients get is told. */
static void publish(struct tls_server *server) {
    for (size_t i = 0; i < server->config->tls.certificate_count; i++)
        atomic_store(&server->not_after_s[i], server->loaded_s[i]);
}

static SSL_CTX *make(struct tls_server *server) {
    SSL_CTX *ctx = tls_context_new(TLS_server_method(), server->config->tls.min_version);

    SSL_CTX_set_app_data(ctx, server);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, server);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    /* Tickets only: what clients could make us keep would need a bound. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, SESSION_S);
    return ctx;
}

/* A session counts only under the demands that it was made under. */
static int demand_certificates(struct tls_server *server, SSL_CTX *ctx, char **why) {
    const struct config_listener_tls *config = &server->config->tls;
    unsigned char demands[64] = {0}, digest[32]; /* those of the authorities, and ours */
    int err = 0;

    if (config->client_ca) {
        bool is_required = config->client_auth == CLIENT_AUTH_REQUIRED;

        err = tls_context_take_authorities(ctx, config->client_ca, true, demands, why);
        SSL_CTX_set_verify(
            ctx, SSL_VERIFY_PEER | (is_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
        demands[32] = is_required ? 2 : 1;
    }
    EVP_Digest(demands, sizeof demands, digest, NULL, EVP_sha256(), NULL);
    SSL_CTX_set_session_id_context(ctx, digest, sizeof digest);
    return err;
}

static uint64_t stamp_of(const struct tls_server *server) {
    const struct config_listener_tls *config = &server->config->tls;
    size_t count = 2 * config->certificate_count + 1;
    const char **paths = xcalloc(count, sizeof(char *));
    uint64_t stamp;

    for (size_t i = 0; i < config->certificate_count; i++) {
        paths[2 * i] = config->certificates[i].cert;
        paths[2 * i + 1] = config->certificates[i].key;
    }
    paths[count - 1] = config->client_ca;
    stamp = tls_context_stamp(paths, count);
    free(paths);
    return stamp;
}

static void make_index(void) {
    others_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_others);
}

static void free_others(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                        void *pointer) {
    struct other_certificates *others = value;

    for (size_t i = 0; others && i < others->count; i++)
        SSL_CTX_free(others->list[i]);
    free(others);
}

/* A certificate for exactly this name, else one with a wildcard that covers it, else the first. */
static int on_server_name(SSL *ssl, int *alert, void *arg) {
    static const unsigned passes[] = {X509_CHECK_FLAG_NO_WILDCARDS,
                                      X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS};
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    SSL_CTX *first = SSL_get_SSL_CTX(ssl);
    const struct other_certificates *others = SSL_CTX_get_ex_data(first, others_index);

    if (!name || !others)
        return SSL_TLSEXT_ERR_NOACK;
    for (size_t pass = 0; pass < 2; pass++) {
        if (is_for(first, name, passes[pass]))
            return SSL_TLSEXT_ERR_OK;
        for (size_t i = 0; i < others->count; i++) {
            if (is_for(others->list[i], name, passes[pass])) {
                SSL_set_SSL_CTX(ssl, others->list[i]);
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static bool is_for(SSL_CTX *ctx, const char *name, unsigned flags) {
    return X509_check_host(SSL_CTX_get0_certificate(ctx), name, 0, flags, NULL) == 1;
}

/* Ours in our order (RFC 7301 section 3.2). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg) {
    const struct tls_server *server = arg;
    unsigned char *chosen;

    if (SSL_select_next_proto(&chosen, out_len, server->protocols.list, server->protocols.len, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int is_sealing) {
    struct tls_server *server = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    int outcome =
        tls_tickets_use(&server->tickets, clock_now_ns(), name, iv, cipher, mac, is_sealing);

    /* Clients use a ticket of TLS 1.3 once (RFC 8446 appendix C.4): they get the next one. */
    return outcome == 1 && !is_sealing && SSL_version(ssl) == TLS1_3_VERSION ? 2 : outcome;
}
