/* The tls tables; see certificates.h. */
#include "config/certificates.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "config/pem.h"
#include "config/values.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* One table that is checked, and where its errors go. */
struct tls_table {
    const char *path;              /* "listener.tls" */
    const struct tomlc_node *node; /* borrowed */
    struct errors *errors;
    struct errors *warnings;
};

static void check_listener(const struct tls_table *table, struct config_listener *listener);
static void check_pipeline(const struct tls_table *table, struct config_pipeline *pipeline);
static bool has_both(const struct tls_table *table, const struct config_certificate *pair);
static void check_pair(const struct tls_table *table, const struct config_certificate *pair);
static void check_dates(const struct tls_table *table, const struct tomlc_node *node,
                        const X509 *cert);
static void check_authorities(const struct tls_table *table, const char *key, const char *path);
static char *common_name(const struct config_pipeline *pipeline);
static char *host_text(const struct config_address *address);
static void refuse(const struct tls_table *table, const char *key, const struct tomlc_node *node,
                   const char *expected, char *why);
static const struct tomlc_node *node_of(const struct tls_table *table, const char *key);

static const struct schema_key certificate_keys[] = {
    {"cert", value_file, offsetof(struct config_certificate, cert), .is_required = true},
    {"key", value_file, offsetof(struct config_certificate, key), .is_required = true},
};

static const struct schema schema_certificate = {
    "listener.tls.certificates",
    certificate_keys,
    sizeof certificate_keys / sizeof certificate_keys[0],
};

void certificates_list(struct reader *reader, const struct schema_key *key,
                       const struct tomlc_node *node, void *to) {
    struct config_listener_tls *tls = &((struct config_listener *)to)->tls;

    if (node->kind != TOMLC_ARRAY || node->len == 0 || node->len > CERTIFICATES_MAX) {
        reader_refuse(reader, node, NULL,
                      "a list of 1 to %d tables such as { cert = \"a.crt\", key = \"a.key\" }",
                      CERTIFICATES_MAX);
        return;
    }
    /* One more: that of the table itself comes first (check_listener). */
    tls->certificates = xcalloc(node->len + 1, sizeof tls->certificates[0]);
    tls->certificate_count = node->len;
    for (size_t i = 0; i < node->len; i++) {
        if (node->children[i].kind == TOMLC_TABLE)
            reader_take(reader, &schema_certificate, &node->children[i], &tls->certificates[i]);
        else
            reader_refuse(reader, &node->children[i], NULL,
                          "a table such as { cert = \"a.crt\", key = \"a.key\" }");
    }
}

void certificates_check(struct config *config, const struct tomlc_node *root, struct errors *errors,
                        struct errors *warnings) {
    struct tls_table table = {.errors = errors, .warnings = warnings};

    for (size_t i = 0; i < config->listener_count; i++) {
        table.path = "listener.tls";
        table.node = tomlc_find(&tomlc_find(root, "listener")->children[i], "tls");
        if (table.node && table.node->kind == TOMLC_TABLE)
            check_listener(&table, &config->listeners[i]);
    }
    for (size_t i = 0; i < config->pipeline_count; i++) {
        table.path = "pipeline.tls";
        table.node = tomlc_find(&tomlc_find(root, "pipeline")->children[i], "tls");
        if (table.node && table.node->kind == TOMLC_TABLE)
            check_pipeline(&table, &config->pipelines[i]);
    }
}

void certificates_free(struct config_listener_tls *tls) {
    for (size_t i = 0; i < tls->certificate_count; i++) {
        free(tls->certificates[i].cert);
        free(tls->certificates[i].key);
    }
    free(tls->certificates);
    free(tls->own.cert);
    free(tls->own.key);
    free(tls->client_ca);
}

void certificates_free_pipeline(struct config_pipeline_tls *tls) {
    free(tls->ca);
    free(tls->server_name);
    free(tls->own.cert);
    free(tls->own.key);
}

static void check_listener(const struct tls_table *table, struct config_listener *listener) {
    struct config_listener_tls *tls = &listener->tls;
    const struct tomlc_node *list = tomlc_find(table->node, "certificates");
    const struct tomlc_node *client_auth = tomlc_find(table->node, "client_auth");
    size_t first = tls->own.cert && tls->own.key;

    tls->is_on = true;
    if (has_both(table, &tls->own)) {
        check_pair(table, &tls->own);
    } else if (!tls->own.cert && !tls->own.key && !list) {
        errors_add(table->errors, table->node->at,
                   "listener.tls: found no certificate, expected cert and key, or certificates");
    }
    if (list && list->kind == TOMLC_ARRAY) {
        struct tls_table inner = *table;

        inner.path = "listener.tls.certificates";
        for (size_t i = 0; i < tls->certificate_count; i++) {
            inner.node = &list->children[i];
            if (tls->certificates[i].cert && tls->certificates[i].key)
                check_pair(&inner, &tls->certificates[i]);
        }
    }
    if (first) {
        if (!tls->certificates)
            tls->certificates = xcalloc(1, sizeof tls->certificates[0]);
        memmove(tls->certificates + 1, tls->certificates,
                tls->certificate_count * sizeof tls->certificates[0]);
        tls->certificates[0] = tls->own;
        tls->certificate_count++;
        tls->own = (struct config_certificate){0};
    }
    if (tls->client_ca)
        check_authorities(table, "client_ca", tls->client_ca);
    else if (client_auth && !tomlc_find(table->node, "client_ca"))
        errors_add(table->errors, client_auth->at,
                   "listener.tls.client_auth: found it without client_ca, expected both: the "
                   "authorities that sign the clients' certificates");
}

static void check_pipeline(const struct tls_table *table, struct config_pipeline *pipeline) {
    struct config_pipeline_tls *tls = &pipeline->tls;

    tls->is_on = true;
    if (has_both(table, &tls->own))
        check_pair(table, &tls->own);
    if (tls->ca && !tls->verify)
        refuse(table, "ca", tomlc_find(table->node, "ca"), "no ca where verify = false", NULL);
    else if (tls->ca)
        check_authorities(table, "ca", tls->ca);
    if (!tls->server_name)
        tls->server_name = common_name(pipeline);
    if (!tls->server_name && tls->verify && pipeline->endpoint_count > 0 &&
        !tomlc_find(table->node, "server_name"))
        errors_add(table->errors, table->node->at,
                   "pipeline.tls: found endpoints without one name in common, expected "
                   "server_name: the name that their certificates are for");
}

/* A certificate without its key is an error, neither is none. */
static bool has_both(const struct tls_table *table, const struct config_certificate *pair) {
    const struct tomlc_node *cert = tomlc_find(table->node, "cert");
    const struct tomlc_node *key = tomlc_find(table->node, "key");

    if (!cert != !key)
        errors_add(table->errors, (cert ? cert : key)->at,
                   "%s.%s: found it without %s, expected both", table->path, cert ? "cert" : "key",
                   cert ? "key" : "cert");
    return pair->cert && pair->key;
}

static void check_pair(const struct tls_table *table, const struct config_certificate *pair) {
    const struct tomlc_node *cert_node = tomlc_find(table->node, "cert");
    const struct tomlc_node *key_node = tomlc_find(table->node, "key");
    struct pem_chain chain = {0};
    EVP_PKEY *key = NULL;
    char *why = NULL;

    if (pem_load_chain(pair->cert, &chain, &why)) {
        refuse(table, "cert", cert_node, "a file with a certificate in PEM", why);
    } else {
        check_dates(table, cert_node, chain.leaf);
    }
    why = NULL;
    if (pem_load_key(pair->key, &key, &why))
        refuse(table, "key", key_node, "a file with a private key in PEM", why);
    else if (chain.leaf && !pem_is_pair(&chain, key))
        refuse(table, "key", key_node, "the key of the first certificate in cert",
               xasprintf("that in \"%s\" has another one", pair->cert));
    pem_chain_deinit(&chain);
    EVP_PKEY_free(key);
}

/* Clients will refuse it, but a proxy that does not start serves nobody. */
static void check_dates(const struct tls_table *table, const struct tomlc_node *node,
                        const X509 *cert) {
    int64_t now_s = clock_wall_ns() / NS_PER_S;
    int64_t from_s = pem_not_before_s(cert), to_s = pem_not_after_s(cert);
    time_t when = (time_t)(now_s < from_s ? from_s : to_s);
    char text[32];
    struct tm tm;

    if (from_s <= now_s && now_s < to_s)
        return;
    gmtime_r(&when, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
    errors_add(table->warnings, node->at, "warning: %s.cert: the certificate %s %s", table->path,
               now_s < from_s ? "is not valid before" : "has expired at", text);
}

static void check_authorities(const struct tls_table *table, const char *key, const char *path) {
    struct buffer text = {0};
    X509_STORE *store = NULL;
    char *why = NULL;

    if (pem_read_file(path, &text, &why) || pem_take_store(buffer_slice(&text), &store, NULL, &why))
        refuse(table, key, node_of(table, key), "a file with certificates in PEM", why);
    X509_STORE_free(store);
    buffer_deinit(&text);
}

/* The one host name or address that all endpoints have, or NULL; the caller frees. */
static char *common_name(const struct config_pipeline *pipeline) {
    char *name = NULL;

    for (size_t i = 0; i < pipeline->endpoint_count; i++) {
        const struct config_address *endpoint = &pipeline->endpoints[i];
        char *own = NULL;

        if (endpoint->kind == ADDRESS_NAME)
            own = xstrdup(endpoint->host);
        else if (endpoint->kind == ADDRESS_INET)
            own = host_text(endpoint);
        if (!own || (name && strcmp(name, own) != 0)) {
            free(own);
            free(name);
            return NULL;
        }
        free(name);
        name = own;
    }
    return name;
}

/* Of an ADDRESS_INET, without the port; the caller frees. */
static char *host_text(const struct config_address *address) {
    const struct sockaddr_in *in = (const void *)&address->sockaddr;
    const struct sockaddr_in6 *in6 = (const void *)&address->sockaddr;
    char text[INET6_ADDRSTRLEN] = "";

    if (address->sockaddr.ss_family == AF_INET)
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    else
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    return xstrdup(text);
}

/* Frees @why. */
static void refuse(const struct tls_table *table, const char *key, const struct tomlc_node *node,
                   const char *expected, char *why) {
    struct reader reader = {.errors = table->errors};

    snprintf(reader.path, sizeof reader.path, "%s.%s", table->path, key);
    reader_refuse(&reader, node, NULL, "%s%s%s", expected, why ? ": " : "", why ? why : "");
    free(why);
}

static const struct tomlc_node *node_of(const struct tls_table *table, const char *key) {
    const struct tomlc_node *node = tomlc_find(table->node, key);

    return node ? node : table->node;
}
