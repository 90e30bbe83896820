/* The TLS of one connection (RFC 8446, RFC 5246): OpenSSL between plain bytes and records. It does
 * no I/O: ciphertext is given to it, and what it has to say leaves through a sink. An idle one
 * holds no record buffers (SSL_MODE_RELEASE_BUFFERS). May travel between loops; used by one at a
 * time. Home: loop. */
#pragma once

#include "base/slice.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* Plain bytes of one record, and the most that its encrypted form may take more (TLS 1.2 allows
 * 2048, RFC 5246 section 6.2.3). */
#define TLS_PLAIN_MAX 16384
#define TLS_RECORD_MAX (TLS_PLAIN_MAX + 2048 + 5)

/* What a handshake fails with, beside the errors of the socket. */
#define TLS_ERR_PROTOCOL (-EPROTO)          /* the other side does not speak TLS as we do */
#define TLS_ERR_CERTIFICATE (-EKEYREJECTED) /* its certificate is missing or not to be believed */
#define TLS_ERR_ALERT (-EREMOTEIO)          /* it has sent an alert: it does not like us */

struct tls;
struct tls_client;

/* Takes records to the wire. 0, or -errno, which the call that made them returns. */
typedef int tls_sink_fn(void *ctx, struct slice records);

/* For a server that says what @ctx holds; never NULL. */
struct tls *tls_open_server(SSL_CTX *ctx);
/* For a client (tls_client.h), whose sessions are kept under @session_key. @name: asked for by SNI,
 * NULL: none. @session: to resume, NULL: none. */
struct tls *tls_open_client(SSL_CTX *ctx, struct tls_client *client, uint64_t session_key,
                            const char *name, SSL_SESSION *session);
/* Accepts NULL. */
void tls_free(struct tls *tls);

void tls_set_sink(struct tls *tls, tls_sink_fn *sink, void *ctx);

/* Gives it @records to read, borrowed until they are used up; none are left from before. */
void tls_give(struct tls *tls, struct slice records);

/* Where what it has not used yet begins: everything before may be overwritten. */
const char *tls_unread(const struct tls *tls);
bool tls_has_unread(const struct tls *tls);

/* 0: done; -EAGAIN: more of the other side is needed; else failed, tls_why() says more. */
int tls_handshake(struct tls *tls);

/* Plain bytes into @to: how many; 0: the other side has closed its sending side in due form
 * (close_notify); -EAGAIN: it needs more records; else broken. @max > 0. */
ssize_t tls_read(struct tls *tls, char *to, size_t max);

/* Sends all of @bufs, in full records where there are bytes for them. 0 or -errno. */
int tls_write(struct tls *tls, const uv_buf_t *bufs, unsigned count);

/* Says close_notify; nothing can be written afterwards. Once. */
int tls_notify(struct tls *tls);

/* Of the last failure: "unable to get local issuer certificate"; never NULL. */
const char *tls_why(const struct tls *tls);

bool tls_is_resumed(const struct tls *tls);

/* The protocol that was agreed on by ALPN (RFC 7301), "h2"; empty: none. Borrowed. */
struct slice tls_protocol(const struct tls *tls);

/* The other side's verified certificate as a Client-Cert field has it (RFC 9440 section 2.1);
 * empty: it has shown none. Borrowed. */
struct slice tls_certificate_text(struct tls *tls);

/* Who it is for, as RFC 4514 writes names ("CN=a,O=b"); empty: there is none. Borrowed. */
struct slice tls_subject_text(struct tls *tls);

/* Of the client that @ssl belongs to; NULL: of a server. */
struct tls_client *tls_client_of(const SSL *ssl, uint64_t *session_key);
