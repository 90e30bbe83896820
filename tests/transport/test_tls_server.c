/* A listener's TLS: which certificate, which demands, which sessions, and files that change. */
#include "transport/tls_server.h"

#include "base/alloc.h"
#include "support/certs.h"
#include "support/tls_link.h"

#include <stdlib.h>
#include <string.h>
#include <utime.h>

static struct certs certs;
static struct config_certificate pairs[3];
static struct config_listener listener;
static struct tls_server *server;
static SSL_CTX *ctx;
static struct tls_link wire;

static int open_group(void **state) {
    static const char *const files[] = {"a", "b", "wild"};

    certs_open(&certs);
    CERTS_MAKE(&certs, .file = "a", .name = "a.example");
    CERTS_MAKE(&certs, .file = "b", .name = "b.example");
    CERTS_MAKE(&certs, .file = "wild", .name = "*.b.example");
    CERTS_MAKE(&certs, .file = "me", .name = "me.example");
    for (unsigned i = 0; i < 3; i++) {
        char name[16];

        snprintf(name, sizeof name, "%s.crt", files[i]);
        pairs[i].cert = xstrdup(certs_path(&certs, name));
        snprintf(name, sizeof name, "%s.key", files[i]);
        pairs[i].key = xstrdup(certs_path(&certs, name));
    }
    return 0;
}

static int close_group(void **state) {
    for (unsigned i = 0; i < 3; i++) {
        free(pairs[i].cert);
        free(pairs[i].key);
    }
    certs_close(&certs);
    return 0;
}

static int set_up(void **state) {
    listener = (struct config_listener){.name = (char *)"l",
                                        .tls = {.certificates = pairs, .certificate_count = 3}};
    ctx = certs_context(&certs, TLS_client_method(), NULL);
    return 0;
}

static int tear_down(void **state) {
    SSL_CTX_free(ctx);
    tls_server_close(server);
    server = NULL;
    return 0;
}

static void open_server(void) {
    char *why = NULL;

    if (tls_server_open(&server, &listener, &why))
        fail_msg("%s", why);
}

/* Shakes hands as a client that asks for @name. */
static bool shake(const char *name, SSL_SESSION *session) {
    SSL *peer = SSL_new(ctx);

    SSL_set_connect_state(peer);
    if (name)
        SSL_set_tlsext_host_name(peer, name);
    if (session)
        SSL_set_session(peer, session);
    link_open(&wire, tls_server_accept(server), peer);
    return link_shake(&wire);
}

static void expect_subject(const char *name, const char *subject) {
    char text[64] = "";
    X509 *cert;

    assert_true(shake(name, NULL));
    cert = SSL_get0_peer_certificate(wire.peer);
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, text, sizeof text);
    assert_string_equal(text, subject);
    link_close(&wire);
}

static void the_name_that_is_asked_for_chooses_the_certificate(void **state) {
    open_server();
    expect_subject("a.example", "a.example");
    expect_subject("b.example", "b.example");
    expect_subject("x.b.example", "*.b.example");
    expect_subject("X.B.Example", "*.b.example");
    expect_subject("x.y.b.example", "a.example"); /* a wildcard is one label */
    expect_subject("unknown.example", "a.example");
    expect_subject(NULL, "a.example");
}

static void an_exact_name_goes_before_a_wildcard(void **state) {
    struct config_certificate reordered[] = {pairs[2], pairs[0]};

    CERTS_MAKE(&certs, .file = "a", .name = "x.b.example");
    listener.tls.certificates = reordered;
    listener.tls.certificate_count = 2;
    open_server();
    expect_subject("x.b.example", "x.b.example");
    expect_subject("y.b.example", "*.b.example");
    CERTS_MAKE(&certs, .file = "a", .name = "a.example");
}

static void versions_are_1_2_and_1_3(void **state) {
    open_server();
    assert_true(shake(NULL, NULL));
    assert_int_equal(SSL_version(wire.peer), TLS1_3_VERSION);
    link_close(&wire);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    assert_true(shake(NULL, NULL));
    assert_int_equal(SSL_version(wire.peer), TLS1_2_VERSION);
    link_close(&wire);
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
    assert_false(shake(NULL, NULL));
    assert_int_equal(wire.err, TLS_ERR_PROTOCOL);
    assert_int_equal(wire.peer_err, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
    link_close(&wire);
}

static void only_1_3_when_the_listener_says_so(void **state) {
    listener.tls.min_version = TLS_1_3;
    open_server();
    assert_true(shake(NULL, NULL));
    link_close(&wire);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    assert_false(shake(NULL, NULL));
    link_close(&wire);
}

static void weak_ciphers_are_refused(void **state) {
    static const char *const weak[] = {"AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256",
                                       "ECDHE-ECDSA-AES128-SHA"};

    open_server();
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    for (size_t i = 0; i < sizeof weak / sizeof *weak; i++) {
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, weak[i]), 1);
        assert_false(shake(NULL, NULL));
        assert_int_equal(wire.err, TLS_ERR_PROTOCOL);
        link_close(&wire);
    }
}

static void what_is_served_is_agreed_on_by_alpn(void **state) {
    open_server();
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    assert_true(shake(NULL, NULL));
    assert_true(slice_equal(tls_protocol(wire.tls), SLICE("http/1.1")));
    link_close(&wire);
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3);
    assert_false(shake(NULL, NULL));
    assert_int_equal(wire.peer_err, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    link_close(&wire);
}

static void the_listener_s_protocol_says_what_is_offered(void **state) {
    static const struct {
        enum config_protocol protocol;
        const char *expected;
    } cases[] = {{PROTOCOL_HTTP1, "http/1.1"}, {PROTOCOL_HTTP2, "h2"}, {PROTOCOL_AUTO, "h2"}};

    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1\x02h2", 12);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        listener.protocol = cases[i].protocol;
        open_server();
        assert_true(shake(NULL, NULL));
        assert_true(slice_equal(tls_protocol(wire.tls), slice_str(cases[i].expected)));
        link_close(&wire);
        tls_server_close(server);
        server = NULL;
    }
}

static void without_alpn_there_is_no_protocol(void **state) {
    open_server();
    assert_true(shake(NULL, NULL));
    assert_int_equal(tls_protocol(wire.tls).len, 0);
    assert_int_equal(tls_certificate_text(wire.tls).len, 0);
    link_close(&wire);
}

/* --- Clients' certificates ----------------------------------------------------------------------
 */

static void a_required_certificate_must_be_there(void **state) {
    SSL_CTX *with = certs_context(&certs, TLS_client_method(), "me"), *without = ctx;
    struct slice text;

    listener.tls.client_ca = (char *)certs_path(&certs, "ca.crt");
    open_server();
    assert_false(shake(NULL, NULL));
    assert_int_equal(wire.err, TLS_ERR_CERTIFICATE);
    assert_int_equal(wire.peer_err, SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED);
    link_close(&wire);
    ctx = with;
    assert_true(shake(NULL, NULL));
    text = tls_certificate_text(wire.tls);
    assert_true(text.len > 400 && text.base[0] == ':' && text.base[text.len - 1] == ':');
    assert_memory_equal(text.base, ":MII", 4);
    link_close(&wire);
    SSL_CTX_free(without);
}

static void an_optional_certificate_is_still_verified(void **state) {
    struct certs strangers;
    SSL_CTX *strange;

    listener.tls.client_ca = (char *)certs_path(&certs, "ca.crt");
    listener.tls.client_auth = CLIENT_AUTH_OPTIONAL;
    open_server();
    assert_true(shake(NULL, NULL));
    assert_int_equal(tls_certificate_text(wire.tls).len, 0);
    link_close(&wire);
    certs_open(&strangers);
    CERTS_MAKE(&strangers, .file = "me", .name = "me.example");
    strange = certs_context(&strangers, TLS_client_method(), "me");
    SSL_CTX_free(ctx);
    ctx = strange;
    assert_false(shake(NULL, NULL));
    assert_int_equal(wire.err, TLS_ERR_CERTIFICATE);
    assert_string_equal(tls_why(wire.tls), "certificate signature failure");
    link_close(&wire);
    certs_close(&strangers);
}

/* --- Sessions -----------------------------------------------------------------------------------
 */

static SSL_SESSION *kept;

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

static void resumes(bool expected) {
    assert_true(shake("b.example", kept));
    assert_int_equal(tls_is_resumed(wire.tls), expected);
    link_close(&wire);
}

static void keep_sessions(void) {
    kept = NULL;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
}

static void touch(const char *path, time_t offset) {
    struct utimbuf times = {time(NULL) + offset, time(NULL) + offset};

    assert_int_equal(utime(path, &times), 0);
}

static void refresh(void) {
    tls_server_refresh(server); /* changed? */
    tls_server_refresh(server); /* and settled */
}

static void a_session_is_resumed_across_new_certificates(void **state) {
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        open_server();
        keep_sessions();
        SSL_CTX_set_max_proto_version(ctx, version);
        resumes(false);
        assert_non_null(kept);
        resumes(true);
        resumes(true); /* each time with the ticket of the last */
        CERTS_MAKE(&certs, .file = "b", .name = "b.example");
        touch(pairs[1].cert, -version);
        refresh();
        resumes(true);
        SSL_SESSION_free(kept);
        kept = NULL;
        tls_server_close(server);
        server = NULL;
    }
}

/* What was verified by other authorities counts no more. */
static void a_session_ends_with_the_authorities_that_it_was_made_with(void **state) {
    struct certs others;
    SSL_CTX *with = certs_context(&certs, TLS_client_method(), "me");
    char *ca = xstrdup(certs_path(&certs, "clients.crt"));
    char text[4096];
    FILE *file;

    SSL_CTX_free(ctx);
    ctx = with;
    file = fopen(certs_path(&certs, "ca.crt"), "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    certs_write(&certs, "clients.crt", text);
    listener.tls.client_ca = ca;
    open_server();
    keep_sessions();
    resumes(false);
    resumes(true);
    certs_open(&others);
    file = fopen(certs_path(&others, "ca.crt"), "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    certs_write(&certs, "clients.crt", text);
    touch(ca, -100);
    refresh();
    assert_false(shake("b.example", kept));
    assert_int_equal(wire.err, TLS_ERR_CERTIFICATE);
    link_close(&wire);
    SSL_SESSION_free(kept);
    certs_close(&others);
    free(ca);
}

/* --- Files that change --------------------------------------------------------------------------
 */

static void new_files_are_taken_and_broken_ones_are_not(void **state) {
    int64_t before_s, after_s;

    open_server();
    before_s = tls_server_not_after_s(server, 0);
    CERTS_MAKE(&certs, .file = "a", .name = "renewed.example", .from_s = -60, .to_s = 7000);
    touch(pairs[0].cert, -10);
    tls_server_refresh(server);
    expect_subject(NULL, "a.example"); /* still being written, perhaps */
    tls_server_refresh(server);
    expect_subject(NULL, "renewed.example");
    after_s = tls_server_not_after_s(server, 0);
    assert_true(after_s > before_s + 3000);

    certs_write(&certs, "a.crt", "-----BEGIN CERTI");
    touch(pairs[0].cert, -20);
    refresh();
    expect_subject(NULL, "renewed.example");
    expect_subject("b.example", "b.example");
    assert_int_equal(tls_server_not_after_s(server, 0), after_s);
    CERTS_MAKE(&certs, .file = "a", .name = "a.example");
    touch(pairs[0].cert, -30);
    refresh();
    expect_subject(NULL, "a.example");
}

static void a_connection_keeps_what_it_began_with(void **state) {
    char text[16];

    open_server();
    assert_true(shake(NULL, NULL));
    touch(pairs[0].cert, -40);
    refresh();
    assert_int_equal(SSL_write(wire.peer, "on", 2), 2);
    assert_int_equal(link_hear(&wire, text, sizeof text), 2);
    link_close(&wire);
}

static void what_cannot_be_used_at_start_says_why(void **state) {
    struct config_certificate mixed = {pairs[0].cert, pairs[1].key};
    char *why = NULL;

    listener.tls.certificates = &mixed;
    listener.tls.certificate_count = 1;
    assert_true(tls_server_open(&server, &listener, &why) < 0);
    assert_non_null(strstr(why, "cannot be used"));
    free(why);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_name_that_is_asked_for_chooses_the_certificate),
        TEST(an_exact_name_goes_before_a_wildcard),
        TEST(versions_are_1_2_and_1_3),
        TEST(only_1_3_when_the_listener_says_so),
        TEST(weak_ciphers_are_refused),
        TEST(what_is_served_is_agreed_on_by_alpn),
        TEST(the_listener_s_protocol_says_what_is_offered),
        TEST(without_alpn_there_is_no_protocol),
        TEST(a_required_certificate_must_be_there),
        TEST(an_optional_certificate_is_still_verified),
        TEST(a_session_is_resumed_across_new_certificates),
        TEST(a_session_ends_with_the_authorities_that_it_was_made_with),
        TEST(new_files_are_taken_and_broken_ones_are_not),
        TEST(a_connection_keeps_what_it_began_with),
        TEST(what_cannot_be_used_at_start_says_why),
    };

    return cmocka_run_group_tests(tests, open_group, close_group);
}
