/* A pipeline's TLS: what it believes, what it asks for and shows, and the sessions that it keeps.
 */
#include "transport/tls_client.h"

#include "base/alloc.h"
#include "support/certs.h"
#include "support/tls_link.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <utime.h>

static struct certs certs;
static struct config_pipeline pipeline;
static struct tls_client *client;
static struct tls_link wire;
static const char *cert_of_server;
static SSL_CTX *ctx; /* the server's; NULL: one of its own for each */
static char asked_for[64];

static int open_group(void **state) {
    certs_open(&certs);
    CERTS_MAKE(&certs, .file = "up", .name = "up.example", .address = "192.0.2.7");
    CERTS_MAKE(&certs, .file = "wild", .name = "*.up.example");
    CERTS_MAKE(&certs, .file = "old", .name = "up.example", .from_s = -7200, .to_s = -60);
    CERTS_MAKE(&certs, .file = "me", .name = "me.example");
    return 0;
}

static int close_group(void **state) {
    certs_close(&certs);
    return 0;
}

static int set_up(void **state) {
    pipeline = (struct config_pipeline){
        .name = (char *)"p",
        .tls = {.ca = xstrdup(certs_path(&certs, "ca.crt")),
                .verify = true,
                .server_name = (char *)"up.example"},
    };
    cert_of_server = "up";
    ctx = NULL;
    return 0;
}

static int tear_down(void **state) {
    tls_client_close(client);
    client = NULL;
    SSL_CTX_free(ctx);
    free(pipeline.tls.ca);
    return 0;
}

static void open_client(void) {
    char *why = NULL;

    if (tls_client_open(&client, &pipeline, &why))
        fail_msg("%s", why);
}

static bool shake_with(uint32_t address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    SSL_CTX *own = ctx ? ctx : certs_context(&certs, TLS_server_method(), cert_of_server);
    SSL *peer = SSL_new(own);
    const char *name;
    bool is_done;

    SSL_set_accept_state(peer);
    link_open(&wire, tls_client_dial(client, (struct sockaddr *)&to), peer);
    is_done = link_shake(&wire);
    name = SSL_get_servername(peer, TLSEXT_NAMETYPE_host_name);
    snprintf(asked_for, sizeof asked_for, "%s", name ? name : "");
    if (own != ctx)
        SSL_CTX_free(own);
    return is_done;
}

static bool shake(void) {
    bool is_done = shake_with(0xC0000207);

    if (is_done)
        link_close(&wire);
    return is_done;
}

static void expect_failure(const char *why) {
    assert_false(shake());
    assert_int_equal(wire.err, TLS_ERR_CERTIFICATE);
    assert_string_equal(tls_why(wire.tls), why);
    link_close(&wire);
}

static void the_right_name_is_asked_for_and_believed(void **state) {
    open_client();
    assert_true(shake());
    assert_string_equal(asked_for, "up.example");
}

static void another_name_is_not_believed(void **state) {
    pipeline.tls.server_name = (char *)"other.example";
    open_client();
    expect_failure("hostname mismatch");
}

static void a_wildcard_is_one_label(void **state) {
    cert_of_server = "wild";
    pipeline.tls.server_name = (char *)"x.up.example";
    open_client();
    assert_true(shake());
    tls_client_close(client);
    pipeline.tls.server_name = (char *)"x.y.up.example";
    open_client();
    expect_failure("hostname mismatch");
}

/* RFC 6066 section 3: addresses are not asked for by name. */
static void an_address_is_verified_as_one(void **state) {
    pipeline.tls.server_name = (char *)"192.0.2.7";
    open_client();
    assert_true(shake());
    assert_string_equal(asked_for, "");
    tls_client_close(client);
    pipeline.tls.server_name = (char *)"192.0.2.8";
    open_client();
    expect_failure("IP address mismatch");
}

static void an_expired_certificate_is_not_believed(void **state) {
    cert_of_server = "old";
    open_client();
    expect_failure("certificate has expired");
}

static void an_unknown_authority_is_not_believed(void **state) {
    free(pipeline.tls.ca);
    pipeline.tls.ca = NULL; /* the system's */
    open_client();
    expect_failure("self-signed certificate in certificate chain");
}

static void without_verify_everything_is_believed(void **state) {
    pipeline.tls.verify = false;
    pipeline.tls.server_name = (char *)"other.example";
    cert_of_server = "old";
    open_client();
    assert_true(shake());
    assert_string_equal(asked_for, "other.example");
}

static void our_certificate_is_shown_when_asked_for(void **state) {
    pipeline.tls.own.cert = xstrdup(certs_path(&certs, "me.crt"));
    pipeline.tls.own.key = xstrdup(certs_path(&certs, "me.key"));
    ctx = certs_context(&certs, TLS_server_method(), "up");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    open_client();
    assert_true(tls_client_not_after_s(client) > 0);
    assert_true(shake());
    free(pipeline.tls.own.cert);
    free(pipeline.tls.own.key);
}

static void an_alert_of_the_server_is_told_as_one(void **state) {
    ctx = certs_context(&certs, TLS_server_method(), "up");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    open_client();
    assert_false(shake());
    assert_int_equal(wire.err, TLS_ERR_ALERT);
    assert_non_null(strstr(tls_why(wire.tls), "alert"));
    link_close(&wire);
}

static int note_protocols(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                          const unsigned char *in, unsigned in_len, void *arg) {
    assert_int_equal(in_len, 9);
    assert_memory_equal(in, "\x08http/1.1", 9);
    *out = in + 1;
    *out_len = 8;
    return SSL_TLSEXT_ERR_OK;
}

static void http_1_1_is_offered(void **state) {
    ctx = certs_context(&certs, TLS_server_method(), "up");
    SSL_CTX_set_alpn_select_cb(ctx, note_protocols, NULL);
    open_client();
    assert_true(shake_with(1));
    assert_true(slice_equal(tls_protocol(wire.tls), SLICE("http/1.1")));
    link_close(&wire);
}

static void a_session_is_resumed_with_the_same_endpoint_only(void **state) {
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        ctx = certs_context(&certs, TLS_server_method(), "up");
        SSL_CTX_set_max_proto_version(ctx, version);
        open_client();
        for (unsigned i = 0; i < 2 * TLS_CLIENT_SESSIONS_MAX; i++) {
            assert_true(shake_with(1 + i));
            assert_false(tls_is_resumed(wire.tls));
            link_close(&wire);
        }
        assert_true(shake_with(2 * TLS_CLIENT_SESSIONS_MAX)); /* the latest one is surely kept */
        assert_true(tls_is_resumed(wire.tls));
        link_close(&wire);
        tls_client_close(client);
        client = NULL;
        SSL_CTX_free(ctx);
        ctx = NULL;
    }
}

static void new_authorities_end_the_sessions_of_the_old_ones(void **state) {
    struct certs others;
    struct utimbuf times = {1000, 1000};
    char text[4096];
    FILE *file;

    ctx = certs_context(&certs, TLS_server_method(), "up");
    open_client();
    assert_true(shake());
    certs_open(&others);
    file = fopen(certs_path(&others, "ca.crt"), "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    certs_write(&certs, "upstreams.crt", text);
    free(pipeline.tls.ca);
    pipeline.tls.ca = xstrdup(certs_path(&certs, "upstreams.crt"));
    assert_int_equal(utime(pipeline.tls.ca, &times), 0);
    tls_client_refresh(client);
    assert_true(shake()); /* perhaps still being written */
    tls_client_refresh(client);
    expect_failure("certificate signature failure");
    certs_close(&others);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_right_name_is_asked_for_and_believed),
        TEST(another_name_is_not_believed),
        TEST(a_wildcard_is_one_label),
        TEST(an_address_is_verified_as_one),
        TEST(an_expired_certificate_is_not_believed),
        TEST(an_unknown_authority_is_not_believed),
        TEST(without_verify_everything_is_believed),
        TEST(our_certificate_is_shown_when_asked_for),
        TEST(an_alert_of_the_server_is_told_as_one),
        TEST(http_1_1_is_offered),
        TEST(a_session_is_resumed_with_the_same_endpoint_only),
        TEST(new_authorities_end_the_sessions_of_the_old_ones),
    };

    return cmocka_run_group_tests(tests, open_group, close_group);
}
