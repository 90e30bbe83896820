/* One of our engines and one peer of the test's own, joined in memory: no sockets, no loop. */
#pragma once

#include "support/unit.h"
#include "transport/tls.h"

#include <openssl/err.h>

struct tls_link {
    struct tls *tls;
    SSL *peer;
    BIO *to_peer, *from_peer; /* borrowed: the peer's */
    int err;                  /* of our handshake; -EAGAIN: under way */
    int peer_err;             /* OpenSSL's reason why the peer failed; 0 */
};

static inline int link_sink(void *ctx, struct slice records) {
    struct tls_link *link = ctx;

    return BIO_write(link->to_peer, records.base, (int)records.len) == (int)records.len ? 0 : -EIO;
}

/* Takes over both ends. */
static inline void link_open(struct tls_link *link, struct tls *tls, SSL *peer) {
    *link = (struct tls_link){.tls = tls, .peer = peer, .err = -EAGAIN};
    link->to_peer = BIO_new(BIO_s_mem());
    link->from_peer = BIO_new(BIO_s_mem());
    SSL_set_bio(peer, link->to_peer, link->from_peer);
    tls_set_sink(tls, link_sink, link);
}

/* Hands our engine what the peer has said. */
static inline ssize_t link_hear(struct tls_link *link, char *to, size_t max) {
    static char records[65536];
    int n = BIO_read(link->from_peer, records, sizeof records);

    tls_give(link->tls, slice_of(records, n > 0 ? (size_t)n : 0));
    return to ? tls_read(link->tls, to, max) : 0;
}

/* Both shake hands until neither gets any further. True: both are through. */
static inline bool link_shake(struct tls_link *link) {
    bool is_peer_done = false;
    char text[16];

    for (int i = 0; i < 20; i++) {
        if (!is_peer_done && !link->peer_err) {
            int result = SSL_do_handshake(link->peer);

            is_peer_done = result == 1;
            if (!is_peer_done && SSL_get_error(link->peer, result) != SSL_ERROR_WANT_READ)
                link->peer_err = ERR_GET_REASON(ERR_peek_error());
            ERR_clear_error();
        }
        if (link->err == -EAGAIN) {
            link_hear(link, NULL, 0);
            link->err = tls_handshake(link->tls);
        }
    }
    /* Session tickets, or an alert behind the handshake. */
    if (is_peer_done) {
        int result = SSL_read(link->peer, text, sizeof text);

        if (SSL_get_error(link->peer, result) == SSL_ERROR_SSL)
            link->peer_err = ERR_GET_REASON(ERR_peek_error());
        ERR_clear_error();
    }
    if (link->err == 0)
        link_hear(link, text, sizeof text);
    return is_peer_done && link->err == 0 && !link->peer_err;
}

static inline void link_close(struct tls_link *link) {
    tls_free(link->tls);
    /* Else it forgets its session. */
    SSL_set_shutdown(link->peer, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(link->peer);
}
