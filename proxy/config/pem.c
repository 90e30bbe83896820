/* PEM files; see pem.h. */
#include "config/pem.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int refuse_passphrase(char *to, int size, int is_writing, void *asked);
static int64_t time_of(const ASN1_TIME *time);
static int fail(char **why, const char *text);

int pem_read_file(const char *path, struct buffer *to, char **why) {
    /* A pipe or a terminal would keep us waiting. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err = 0;
    struct stat about;
    ssize_t got = 1;

    if (fd < 0 || fstat(fd, &about) < 0) {
        err = -errno;
        *why = xasprintf("it cannot be read: %s", strerror(-err));
    } else if (!S_ISREG(about.st_mode) || about.st_size > PEM_FILE_MAX) {
        err =
            fail(why, S_ISREG(about.st_mode) ? "it is larger than 4 MiB" : "it is no regular file");
    }
    while (!err && got != 0 && to->len <= PEM_FILE_MAX) {
        got = read(fd, buffer_reserve(to, 16384), 16384);
        if (got > 0) {
            to->len += (size_t)got;
        } else if (got < 0 && errno != EINTR) {
            err = -errno;
            *why = xasprintf("it cannot be read: %s", strerror(-err));
        }
    }
    if (fd >= 0)
        close(fd);
    return err;
}

int pem_load_chain(const char *path, struct pem_chain *out, char **why) {
    struct pem_chain chain = {.rest = sk_X509_new_null()};
    struct buffer text = {0};
    int err = pem_read_file(path, &text, why);
    BIO *bio = err ? NULL : BIO_new_mem_buf(text.base, (int)text.len);
    X509 *cert;

    while (bio && (cert = PEM_read_bio_X509(bio, NULL, refuse_passphrase, NULL))) {
        if (!chain.leaf)
            chain.leaf = cert;
        else if (sk_X509_num(chain.rest) < PEM_CHAIN_MAX)
            sk_X509_push(chain.rest, cert);
        else
            X509_free(cert);
    }
    if (!err && !chain.leaf)
        err = fail(why, ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE
                            ? "there is no BEGIN CERTIFICATE in it"
                            : "the certificate in it is damaged");
    ERR_clear_error(); /* "no more of them" is the usual end */
    BIO_free(bio);
    buffer_deinit(&text);
    if (err)
        pem_chain_deinit(&chain);
    else
        *out = chain;
    return err;
}

int pem_load_key(const char *path, EVP_PKEY **out, char **why) {
    struct buffer text = {0};
    int err = pem_read_file(path, &text, why);
    BIO *bio = err ? NULL : BIO_new_mem_buf(text.base, (int)text.len);
    bool is_locked = false;
    EVP_PKEY *key = NULL;

    if (bio)
        key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &is_locked);
    if (!err && !key)
        err = fail(why, is_locked ? "the key in it is encrypted; take the passphrase off with "
                                    "openssl pkey"
                                  : "there is no unencrypted private key in it");
    ERR_clear_error();
    BIO_free(bio);
    if (text.base)
        OPENSSL_cleanse(text.base, text.len);
    buffer_deinit(&text);
    if (!err)
        *out = key;
    return err;
}

int pem_take_store(struct slice text, X509_STORE **out, STACK_OF(X509_NAME) * *names, char **why) {
    BIO *bio = BIO_new_mem_buf(text.base, (int)text.len);
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509_NAME) *found = sk_X509_NAME_new_null();
    size_t count = 0;
    X509 *cert;

    while ((cert = PEM_read_bio_X509(bio, NULL, refuse_passphrase, NULL))) {
        X509_STORE_add_cert(store, cert);
        sk_X509_NAME_push(found, X509_NAME_dup(X509_get_subject_name(cert)));
        X509_free(cert);
        count++;
    }
    ERR_clear_error();
    BIO_free(bio);
    if (names && count > 0)
        *names = found;
    else
        sk_X509_NAME_pop_free(found, X509_NAME_free);
    if (count > 0) {
        *out = store;
        return 0;
    }
    X509_STORE_free(store);
    return fail(why, "there is no BEGIN CERTIFICATE in it");
}

void pem_chain_deinit(struct pem_chain *chain) {
    X509_free(chain->leaf);
    sk_X509_pop_free(chain->rest, X509_free);
    *chain = (struct pem_chain){0};
}

bool pem_is_pair(const struct pem_chain *chain, EVP_PKEY *key) {
    bool is_pair = X509_check_private_key(chain->leaf, key) == 1;

    ERR_clear_error();
    return is_pair;
}

int64_t pem_not_before_s(const X509 *cert) {
    return time_of(X509_get0_notBefore(cert));
}

int64_t pem_not_after_s(const X509 *cert) {
    return time_of(X509_get0_notAfter(cert));
}

/* OpenSSL would ask on the terminal. */
static int refuse_passphrase(char *to, int size, int is_writing, void *asked) {
    if (asked)
        *(bool *)asked = true;
    return -1;
}

static int64_t time_of(const ASN1_TIME *time) {
    struct tm tm;

    return ASN1_TIME_to_tm(time, &tm) ? (int64_t)timegm(&tm) : 0;
}

static int fail(char **why, const char *text) {
    *why = xstrdup(text);
    return -EINVAL;
}
