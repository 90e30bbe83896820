/* Certificates; see certs.h. */
#include "support/certs.h"

#include <assert.h>
#include <dirent.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void add_extension(X509 *cert, X509 *issuer, int id, const char *value) {
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, id, value);
    assert(extension);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

static X509 *make(const char *subject, EVP_PKEY *key, long from_s, long to_s) {
    static long serial;
    X509 *cert = X509_new();

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial + (long)getpid() * 1000);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)subject, -1, -1, 0);
    return cert;
}

static FILE *create(struct certs *certs, const char *file, const char *end) {
    char name[64];
    FILE *out;

    snprintf(name, sizeof name, "%s%s", file, end);
    out = fopen(certs_path(certs, name), "w");
    assert(out);
    return out;
}

void certs_open(struct certs *certs) {
    FILE *out;

    *certs = (struct certs){.dir = "/tmp/weir-certs-XXXXXX"};
    if (!mkdtemp(certs->dir))
        abort();
    certs->key = EVP_EC_gen("P-256");
    certs->authority = make("test authority", certs->key, -7200, 7200);
    X509_set_issuer_name(certs->authority, X509_get_subject_name(certs->authority));
    add_extension(certs->authority, certs->authority, NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(certs->authority, certs->key, EVP_sha256());
    out = create(certs, "ca", ".crt");
    PEM_write_X509(out, certs->authority);
    fclose(out);
}

void certs_close(struct certs *certs) {
    DIR *dir = opendir(certs->dir);
    struct dirent *entry;

    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            unlink(certs_path(certs, entry->d_name));
    closedir(dir);
    rmdir(certs->dir);
    X509_free(certs->authority);
    EVP_PKEY_free(certs->key);
}

void certs_make(struct certs *certs, const struct certs_order *order) {
    bool is_usual = order->from_s == 0 && order->to_s == 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make(order->name ? order->name : "nobody", key, is_usual ? -3600 : order->from_s,
                      is_usual ? 3600 : order->to_s);
    char names[256] = "";
    FILE *out;

    X509_set_issuer_name(cert, X509_get_subject_name(certs->authority));
    if (order->name)
        snprintf(names, sizeof names, "DNS:%s", order->name);
    if (order->address)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%sIP:%s",
                 order->name ? "," : "", order->address);
    if (names[0])
        add_extension(cert, certs->authority, NID_subject_alt_name, names);
    X509_sign(cert, certs->key, EVP_sha256());
    out = create(certs, order->file, ".crt");
    PEM_write_X509(out, cert);
    fclose(out);
    out = create(certs, order->file, ".key");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(cert);
    EVP_PKEY_free(key);
}

const char *certs_path(struct certs *certs, const char *file) {
    static char paths[4][400];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", certs->dir, file);
    return path;
}

void certs_write(struct certs *certs, const char *file, const char *text) {
    FILE *out = create(certs, file, "");

    fputs(text, out);
    fclose(out);
}

SSL_CTX *certs_context(struct certs *certs, const SSL_METHOD *method, const char *file) {
    SSL_CTX *ctx = SSL_CTX_new(method);
    char name[64];

    SSL_CTX_load_verify_file(ctx, certs_path(certs, "ca.crt"));
    if (!file)
        return ctx;
    snprintf(name, sizeof name, "%s.crt", file);
    SSL_CTX_use_certificate_file(ctx, certs_path(certs, name), SSL_FILETYPE_PEM);
    snprintf(name, sizeof name, "%s.key", file);
    SSL_CTX_use_PrivateKey_file(ctx, certs_path(certs, name), SSL_FILETYPE_PEM);
    return ctx;
}
