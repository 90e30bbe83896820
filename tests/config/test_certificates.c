/* The tls tables: what is complete, what the files hold, and where a fault is said to be. */
#include "config/certificates.h"
#include "config/pem.h"

#include "base/alloc.h"
#include "expect.h"
#include "support/certs.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct certs certs;

static int set_up(void **state) {
    certs_open(&certs);
    assert_int_equal(chdir(certs.dir), 0);
    CERTS_MAKE(&certs, .file = "a", .name = "a.example");
    CERTS_MAKE(&certs, .file = "b", .name = "b.example");
    CERTS_MAKE(&certs, .file = "old", .name = "old.example", .from_s = -7200, .to_s = -3600);
    CERTS_MAKE(&certs, .file = "new", .name = "new.example", .from_s = 3600, .to_s = 7200);
    return 0;
}

static int tear_down(void **state) {
    assert_int_equal(chdir("/"), 0);
    certs_close(&certs);
    return 0;
}

#define TLS_LISTENER(tls) LISTENER "tls = { " tls " }\n" PIPELINE ROUTE
#define TLS_PIPELINE(tls) LISTENER PIPELINE "tls = { " tls " }\n" ROUTE

static void a_listener_without_tls_has_none(void **state) {
    struct config *config = parse(REST);

    assert_false(config->listeners[0].tls.is_on);
    assert_false(config->pipelines[0].tls.is_on);
    assert_int_equal(config->admission.max_handshakes, 256);
    config_free(config);
}

static void the_table_s_own_certificate_comes_first(void **state) {
    struct config *config = parse(TLS_LISTENER(
        "certificates = [ { cert = 'b.crt', key = 'b.key' } ], cert = 'a.crt', key = 'a.key'"));
    const struct config_listener_tls *tls = &config->listeners[0].tls;

    assert_true(tls->is_on);
    assert_int_equal(tls->certificate_count, 2);
    assert_string_equal(tls->certificates[0].cert, "a.crt");
    assert_string_equal(tls->certificates[1].key, "b.key");
    assert_null(tls->client_ca);
    assert_int_equal(tls->min_version, TLS_1_2);
    assert_int_equal(config->listeners[0].handshake_timeout_ns, INT64_C(10000000000));
    assert_null(config->warnings);
    config_free(config);
}

static void a_list_alone_will_do(void **state) {
    struct config *config =
        parse(TLS_LISTENER("certificates = [ { cert = 'b.crt', key = 'b.key' } ], client_ca = "
                           "'ca.crt', client_auth = 'optional', min_version = '1.3'"));
    const struct config_listener_tls *tls = &config->listeners[0].tls;

    assert_int_equal(tls->certificate_count, 1);
    assert_string_equal(tls->client_ca, "ca.crt");
    assert_int_equal(tls->client_auth, CLIENT_AUTH_OPTIONAL);
    assert_int_equal(tls->min_version, TLS_1_3);
    config_free(config);
}

static void half_a_pair_is_an_error(void **state) {
    expect_errors(TLS_LISTENER("cert = 'a.crt'"),
                  "t:4:16: listener.tls.cert: found it without key, expected both\n");
    expect_errors(TLS_LISTENER("key = 'a.key'"),
                  "t:4:15: listener.tls.key: found it without cert, expected both\n");
    expect_errors(TLS_LISTENER("certificates = [ { cert = 'a.crt' } ]"),
                  "t:4:26: listener.tls.certificates.key: found nothing, expected this key in "
                  "every [[listener.tls.certificates]]\n");
    expect_errors(TLS_PIPELINE("cert = 'a.crt'"),
                  "t:7:16: pipeline.tls.cert: found it without key, expected both\n");
}

static void a_listener_s_tls_needs_a_certificate(void **state) {
    expect_errors(TLS_LISTENER("min_version = '1.3'"),
                  "t:4:7: listener.tls: found no certificate, expected cert and key, or "
                  "certificates\n");
    expect_errors(TLS_LISTENER("certificates = []"),
                  "t:4:24: listener.tls.certificates: found an array, expected a list of 1 to 64 "
                  "tables such as { cert = \"a.crt\", key = \"a.key\" }\n");
}

static void more_certificates_than_the_limit_are_an_error(void **state) {
    char text[8192] = LISTENER "tls = { certificates = [ ";

    for (unsigned i = 0; i <= CERTIFICATES_MAX; i++)
        strcat(text, "{ cert = 'a.crt', key = 'a.key' }, ");
    strcat(text, "] }\n" PIPELINE ROUTE);
    expect_errors(text, "t:4:24: listener.tls.certificates: found an array, expected a list of 1 "
                        "to 64 tables such as { cert = \"a.crt\", key = \"a.key\" }\n");
}

static void what_is_wrong_with_a_file_is_said_where_it_is_named(void **state) {
    certs_write(&certs, "empty", "");
    certs_write(&certs, "damaged",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_int_equal(mkfifo("pipe", 0600), 0);
    expect_errors(TLS_LISTENER("cert = 'none.crt', key = 'none.key'"),
                  "t:4:16: listener.tls.cert: found \"none.crt\" (string), expected a file with a "
                  "certificate in PEM: it cannot be read: No such file or directory\n"
                  "t:4:34: listener.tls.key: found \"none.key\" (string), expected a file with a "
                  "private key in PEM: it cannot be read: No such file or directory\n");
    expect_errors(TLS_LISTENER("cert = 'empty', key = 'a.crt'"),
                  "t:4:16: listener.tls.cert: found \"empty\" (string), expected a file with a "
                  "certificate in PEM: there is no BEGIN CERTIFICATE in it\n"
                  "t:4:31: listener.tls.key: found \"a.crt\" (string), expected a file with a "
                  "private key in PEM: there is no unencrypted private key in it\n");
    expect_errors(TLS_LISTENER("cert = 'damaged', key = 'a.key'"),
                  "t:4:16: listener.tls.cert: found \"damaged\" (string), expected a file with a "
                  "certificate in PEM: the certificate in it is damaged\n");
    expect_errors(TLS_LISTENER("cert = 'pipe', key = 'a.key'"),
                  "t:4:16: listener.tls.cert: found \"pipe\" (string), expected a file with a "
                  "certificate in PEM: it is no regular file\n");
    expect_errors(TLS_LISTENER("cert = 'a.crt', key = 'b.key'"),
                  "t:4:31: listener.tls.key: found \"b.key\" (string), expected the key of the "
                  "first certificate in cert: that in \"a.crt\" has another one\n");
    expect_errors(TLS_LISTENER("cert = 'a.crt', key = 'a.key', client_ca = 'a.key'"),
                  "t:4:52: listener.tls.client_ca: found \"a.key\" (string), expected a file with "
                  "certificates in PEM: there is no BEGIN CERTIFICATE in it\n");
    expect_errors(TLS_PIPELINE("ca = 'empty'"),
                  "t:7:14: pipeline.tls.ca: found \"empty\" (string), expected a file with "
                  "certificates in PEM: there is no BEGIN CERTIFICATE in it\n");
}

static void a_file_that_is_too_large_is_not_read(void **state) {
    FILE *file = fopen("large", "w");

    assert_int_equal(ftruncate(fileno(file), PEM_FILE_MAX + 1), 0);
    fclose(file);
    expect_errors(TLS_LISTENER("cert = 'large', key = 'a.key'"),
                  "t:4:16: listener.tls.cert: found \"large\" (string), expected a file with a "
                  "certificate in PEM: it is larger than 4 MiB\n");
}

static void an_encrypted_key_is_not_asked_for_on_the_terminal(void **state) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    FILE *file = fopen("locked.key", "w");

    PEM_write_PrivateKey(file, key, EVP_aes_128_cbc(), (const unsigned char *)"pass", 4, NULL,
                         NULL);
    fclose(file);
    EVP_PKEY_free(key);
    expect_errors(TLS_LISTENER("cert = 'a.crt', key = 'locked.key'"),
                  "t:4:31: listener.tls.key: found \"locked.key\" (string), expected a file with a "
                  "private key in PEM: the key in it is encrypted; take the passphrase off with "
                  "openssl pkey\n");
}

static void a_certificate_out_of_its_time_is_a_warning(void **state) {
    struct config *config = parse(TLS_LISTENER("cert = 'old.crt', key = 'old.key'"));

    assert_non_null(strstr(config->warnings, "t:4:16: warning: listener.tls.cert: the certificate "
                                             "has expired at 2"));
    config_free(config);
    config = parse(TLS_LISTENER("cert = 'new.crt', key = 'new.key'"));
    assert_non_null(strstr(config->warnings, "is not valid before 2"));
    config_free(config);
}

static void who_is_asked_for_a_certificate_must_be_verified_by_somebody(void **state) {
    expect_errors(TLS_LISTENER("cert = 'a.crt', key = 'a.key', client_auth = 'required'"),
                  "t:4:54: listener.tls.client_auth: found it without client_ca, expected both: "
                  "the authorities that sign the clients' certificates\n");
}

static void a_pipeline_verifies_the_name_of_its_endpoints(void **state) {
    struct config *config = parse(TLS_PIPELINE("ca = 'ca.crt'"));

    assert_true(config->pipelines[0].tls.is_on);
    assert_true(config->pipelines[0].tls.verify);
    assert_string_equal(config->pipelines[0].tls.server_name, "127.0.0.1");
    config_free(config);
    config = parse(LISTENER "[[pipeline]]\nname = 'p'\nendpoints = ['up.example:1', "
                            "'up.example:2']\ntls = {}\n" ROUTE);
    assert_true(config->pipelines[0].tls.is_on);
    assert_null(config->pipelines[0].tls.ca);
    assert_string_equal(config->pipelines[0].tls.server_name, "up.example");
    config_free(config);
    expect_errors(LISTENER "[[pipeline]]\nname = 'p'\nendpoints = ['a.example:1', "
                           "'b.example:2']\ntls = {}\n" ROUTE,
                  "t:7:7: pipeline.tls: found endpoints without one name in common, expected "
                  "server_name: the name that their certificates are for\n");
    config = parse(LISTENER "[[pipeline]]\nname = 'p'\nendpoints = ['unix:/s']\ntls = { "
                            "server_name = 'c.example' }\n" ROUTE);
    assert_string_equal(config->pipelines[0].tls.server_name, "c.example");
    config_free(config);
    expect_errors(TLS_PIPELINE("ca = 'ca.crt', verify = false"),
                  "t:7:14: pipeline.tls.ca: found \"ca.crt\" (string), expected no ca where verify "
                  "= false\n");
    expect_errors(TLS_PIPELINE("server_name = 'a.example:443'"),
                  "t:7:23: pipeline.tls.server_name: found \"a.example:443\" (string), expected "
                  "the name that a certificate is for such as \"example.com\"\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_without_tls_has_none),
        cmocka_unit_test(the_table_s_own_certificate_comes_first),
        cmocka_unit_test(a_list_alone_will_do),
        cmocka_unit_test(half_a_pair_is_an_error),
        cmocka_unit_test(a_listener_s_tls_needs_a_certificate),
        cmocka_unit_test(more_certificates_than_the_limit_are_an_error),
        cmocka_unit_test(what_is_wrong_with_a_file_is_said_where_it_is_named),
        cmocka_unit_test(a_file_that_is_too_large_is_not_read),
        cmocka_unit_test(an_encrypted_key_is_not_asked_for_on_the_terminal),
        cmocka_unit_test(a_certificate_out_of_its_time_is_a_warning),
        cmocka_unit_test(who_is_asked_for_a_certificate_must_be_verified_by_somebody),
        cmocka_unit_test(a_pipeline_verifies_the_name_of_its_endpoints),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
