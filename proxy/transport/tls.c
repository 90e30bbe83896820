/* The engine between plain bytes and records; see tls.h. Records are gathered in one area per
 * thread, so that a flight or a response goes out in one write. */
#include "transport/tls.h"

#include "base/alloc.h"

#include <assert.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AREA_RECORDS 4 /* as many as a response of 64 KiB takes */
#define AREA_BYTES (AREA_RECORDS * (TLS_PLAIN_MAX + 256))
#define FIRST_ALERT 1000 /* OpenSSL's reasons from here on are alerts that came (ssl.h) */

struct tls {
    SSL *ssl;
    struct tls_client *client; /* borrowed: outlives the connection; NULL: we are the server */
    uint64_t session_key;
    struct slice in; /* borrowed: the caller's, see tls_give() */
    tls_sink_fn *sink;
    void *sink_ctx; /* borrowed */
    int sink_err;
    char *certificate; /* owned; NULL: not asked for yet */
    size_t certificate_len;
    char *subject; /* owned; NULL: not asked for yet */
    char why[120];
};

/* Of a thread, from its first connection on until it ends: what is thread-local itself is resident
 * memory of each thread, of those without a connection too. */
struct workspace {
    /* What is on its way to the sink; empty between calls. */
    char area[AREA_BYTES];
    size_t area_len;
    char plain[TLS_PLAIN_MAX]; /* where small pieces are gathered to a full record */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;
static pthread_key_t workspace_key; /* frees it with its thread */
static _Thread_local struct workspace *workspace;

static struct workspace *workspace_of_thread(void);
static struct tls *make(SSL_CTX *ctx);
static void make_method(void);
static int bio_read(BIO *bio, char *to, int max);
static int bio_write(BIO *bio, const char *bytes, int len);
static long bio_control(BIO *bio, int what, long number, void *pointer);
static int flush(struct tls *tls);
static void drain_area(struct tls *tls);
static int fail(struct tls *tls, int result);
static int write_record(struct tls *tls, const char *bytes, size_t len);

struct tls *tls_open_server(SSL_CTX *ctx) {
    struct tls *tls = make(ctx);

    SSL_set_accept_state(tls->ssl);
    return tls;
}

struct tls *tls_open_client(SSL_CTX *ctx, struct tls_client *client, uint64_t session_key,
                            const char *name, SSL_SESSION *session) {
    struct tls *tls = make(ctx);

    tls->client = client;
    tls->session_key = session_key;
    SSL_set_connect_state(tls->ssl);
    if (name)
        SSL_set_tlsext_host_name(tls->ssl, name);
    if (session)
        SSL_set_session(tls->ssl, session);
    return tls;
}

void tls_free(struct tls *tls) {
    if (!tls)
        return;
    /* Without a proper end OpenSSL takes the session for a broken one and forgets it. */
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    free(tls->certificate);
    free(tls->subject);
    free(tls);
}

void tls_set_sink(struct tls *tls, tls_sink_fn *sink, void *ctx) {
    tls->sink = sink;
    tls->sink_ctx = ctx;
}

void tls_give(struct tls *tls, struct slice records) {
    assert(tls->in.len == 0);
    tls->in = records;
}

const char *tls_unread(const struct tls *tls) {
    return tls->in.base;
}

bool tls_has_unread(const struct tls *tls) {
    return tls->in.len > 0;
}

int tls_handshake(struct tls *tls) {
    int result, err;

    ERR_clear_error();
    result = SSL_do_handshake(tls->ssl);
    err = result == 1 ? 0 : fail(tls, result);
    /* An alert is on its way now, if it failed. */
    result = flush(tls);
    return err ? err : result;
}

ssize_t tls_read(struct tls *tls, char *to, size_t max) {
    size_t len = 0;
    int result, err;

    assert(max > 0);
    ERR_clear_error();
    result = SSL_read_ex(tls->ssl, to, max, &len);
    if (result == 1)
        return (ssize_t)len;
    err = SSL_get_error(tls->ssl, result) == SSL_ERROR_ZERO_RETURN ? 0 : fail(tls, result);
    /* The answer to a KeyUpdate, or an alert. */
    result = flush(tls);
    return err == -EAGAIN && result ? result : err;
}

int tls_write(struct tls *tls, const uv_buf_t *bufs, unsigned count) {
    char *plain = workspace_of_thread()->plain;
    size_t gathered = 0;
    int err = 0;

    for (unsigned i = 0; i < count && !err; i++) {
        const char *at = bufs[i].base;
        size_t left = bufs[i].len;

        while (left > 0 && !err) {
            size_t some = TLS_PLAIN_MAX - gathered;

            if (gathered == 0 && left >= TLS_PLAIN_MAX) {
                err = write_record(tls, at, TLS_PLAIN_MAX);
                some = TLS_PLAIN_MAX;
            } else {
                some = left < some ? left : some;
                memcpy(plain + gathered, at, some);
                gathered += some;
            }
            at += some;
            left -= some;
            if (gathered == TLS_PLAIN_MAX) {
                err = write_record(tls, plain, gathered);
                gathered = 0;
            }
        }
    }
    if (!err && gathered > 0)
        err = write_record(tls, plain, gathered);
    return err ? err : flush(tls);
}

int tls_notify(struct tls *tls) {
    ERR_clear_error();
    SSL_shutdown(tls->ssl); /* 0: sent; 1: theirs was there already; -1: broken, nothing to say */
    ERR_clear_error();
    return flush(tls);
}

const char *tls_why(const struct tls *tls) {
    return tls->why[0] ? tls->why : "no reason given";
}

bool tls_is_resumed(const struct tls *tls) {
    return SSL_session_reused(tls->ssl) == 1;
}

struct slice tls_protocol(const struct tls *tls) {
    const unsigned char *name = NULL;
    unsigned len = 0;

    SSL_get0_alpn_selected(tls->ssl, &name, &len);
    return slice_of((const char *)name, len);
}

struct slice tls_certificate_text(struct tls *tls) {
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    unsigned char *der = NULL;
    int len;

    if (!cert || SSL_get_verify_result(tls->ssl) != X509_V_OK)
        return SLICE_NONE;
    if (!tls->certificate) {
        len = i2d_X509(cert, &der);
        if (len <= 0)
            return SLICE_NONE;
        tls->certificate = xmalloc((size_t)len / 3 * 4 + 8);
        tls->certificate[0] = ':';
        tls->certificate_len =
            1 + (size_t)EVP_EncodeBlock((unsigned char *)tls->certificate + 1, der, len);
        tls->certificate[tls->certificate_len++] = ':';
        OPENSSL_free(der);
    }
    return slice_of(tls->certificate, tls->certificate_len);
}

struct slice tls_subject_text(struct tls *tls) {
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    BIO *bio;
    char *text;
    long len;

    if (!cert || SSL_get_verify_result(tls->ssl) != X509_V_OK)
        return SLICE_NONE;
    if (!tls->subject) {
        bio = BIO_new(BIO_s_mem());
        X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253);
        len = BIO_get_mem_data(bio, &text);
        tls->subject = xstrndup(text, len > 0 ? (size_t)len : 0);
        BIO_free(bio);
    }
    return slice_str(tls->subject);
}

struct tls_client *tls_client_of(const SSL *ssl, uint64_t *session_key) {
    const struct tls *tls = SSL_get_app_data(ssl);

    *session_key = tls->session_key;
    return tls->client;
}

static struct tls *make(SSL_CTX *ctx) {
    struct tls *tls = xcalloc(1, sizeof *tls);
    BIO *bio;

    pthread_once(&once, make_method);
    tls->ssl = SSL_new(ctx);
    bio = BIO_new(method);
    if (!tls->ssl || !bio)
        abort(); /* out of memory */
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    return tls;
}

static struct workspace *workspace_of_thread(void) {
    if (!workspace) {
        workspace = xmalloc(sizeof *workspace);
        workspace->area_len = 0;
        pthread_setspecific(workspace_key, workspace);
    }
    return workspace;
}

static void make_method(void) {
    if (pthread_key_create(&workspace_key, free) != 0)
        abort(); /* there are 1,024 of them */
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir");
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
}

static int bio_read(BIO *bio, char *to, int max) {
    struct tls *tls = BIO_get_data(bio);
    size_t len = (size_t)max < tls->in.len ? (size_t)max : tls->in.len;

    BIO_clear_retry_flags(bio);
    if (len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, tls->in.base, len);
    tls->in = slice_skip(tls->in, len);
    return (int)len;
}

static int bio_write(BIO *bio, const char *bytes, int len) {
    struct tls *tls = BIO_get_data(bio);
    struct workspace *w = workspace_of_thread();
    size_t left = (size_t)len;

    while (left > 0) {
        size_t some = sizeof w->area - w->area_len;

        some = left < some ? left : some;
        memcpy(w->area + w->area_len, bytes, some);
        w->area_len += some;
        bytes += some;
        left -= some;
        if (w->area_len == sizeof w->area)
            drain_area(tls);
    }
    return len;
}

static long bio_control(BIO *bio, int what, long number, void *pointer) {
    return what == BIO_CTRL_FLUSH;
}

static int flush(struct tls *tls) {
    int err;

    drain_area(tls);
    err = tls->sink_err;
    tls->sink_err = 0;
    return err;
}

static void drain_area(struct tls *tls) {
    struct workspace *w = workspace_of_thread();
    int err = w->area_len > 0 ? tls->sink(tls->sink_ctx, slice_of(w->area, w->area_len)) : 0;

    w->area_len = 0;
    if (err < 0)
        tls->sink_err = err;
}

/* What OpenSSL means by @result. */
static int fail(struct tls *tls, int result) {
    int kind = SSL_get_error(tls->ssl, result);
    unsigned long error = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(error);
    int reason = ERR_GET_REASON(error), err = TLS_ERR_PROTOCOL;

    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        return -EAGAIN;
    if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
        if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
            text = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
            err = TLS_ERR_CERTIFICATE;
        } else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
            err = TLS_ERR_CERTIFICATE;
        } else if (reason >= FIRST_ALERT) {
            err = TLS_ERR_ALERT;
        }
    }
    snprintf(tls->why, sizeof tls->why, "%s", text ? text : "the TLS of the other side is broken");
    ERR_clear_error();
    return err;
}

static int write_record(struct tls *tls, const char *bytes, size_t len) {
    size_t written = 0;

    ERR_clear_error();
    /* The sink takes everything, so a record is never written in part. */
    if (SSL_write_ex(tls->ssl, bytes, len, &written) != 1 || written != len) {
        ERR_clear_error();
        drain_area(tls);
        return -EPIPE;
    }
    return 0;
}
