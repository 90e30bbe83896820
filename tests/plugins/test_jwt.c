/* The promises of plugins/jwt: signatures, claims, and what a forger might try. */
#include "plugins/host/host.h"
#include "plugins/host/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1800000000 /* host_unix_ns */
#define CLAIMS "{\"sub\":\"alice\",\"exp\":1800000060}"
#define RS256 "{\"alg\":\"RS256\",\"kid\":\"r\"}"
#define ES256 "{\"alg\":\"ES256\",\"kid\":\"e\"}"
#define HS256 "{\"alg\":\"HS256\"}"
#define BY_SET "{\"jwks\": \"keys.json\"}"
#define BY_SECRET "{\"secret\": \"secret\"}"

static struct token_keys keys;

static int set_up_keys(void **state) {
    tokens_open(&keys);
    return 0;
}

static int tear_down_keys(void **state) {
    tokens_close(&keys);
    return 0;
}

static int set_up(void **state) {
    host_open("jwt");
    host_put_file("keys.json", tokens_text("{\"keys\":[{\"kid\":\"r\",%s},{\"kid\":\"e\",%s}]}",
                                           tokens_jwk(keys.rsa), tokens_jwk(keys.p256)));
    host_put_file("secret", tokens_text("%s\n", keys.secret));
    return 0;
}

static int tear_down(void **state) {
    host_close();
    return 0;
}

static bool passes(const char *token) {
    char value[20000];

    snprintf(value, sizeof value, "Bearer %s", token);
    return RUN(.fields = {{"authorization", value}}) == WEIR_CONTINUE;
}

static void assert_invalid(const char *token, const char *why) {
    char challenge[300];

    assert_false(passes(token));
    assert_int_equal(host_status(), 401);
    if (why)
        assert_string_equal(host_content(), why);
    snprintf(challenge, sizeof challenge,
             "Bearer error=\"invalid_token\", error_description=\"%s\"", host_content());
    assert_string_equal(host_answer_field("www-authenticate"), challenge);
}

static bool claims_pass(const char *payload) {
    return passes(tokens_sign(keys.p256, ES256, payload));
}

static void assert_claims_invalid(const char *payload, const char *why) {
    assert_invalid(tokens_sign(keys.p256, ES256, payload), why);
}

static void test_good_tokens_pass(void **state) {
    host_init(BY_SET);
    assert_true(passes(tokens_sign(keys.rsa, RS256, CLAIMS)));
    assert_true(passes(tokens_sign(keys.p256, ES256, CLAIMS)));
    assert_true(passes(tokens_sign(keys.rsa, "{\"typ\":\"JWT\",\"alg\":\"RS256\"}", CLAIMS)));
    host_init(BY_SECRET);
    assert_true(passes(tokens_sign_hmac(keys.secret, HS256, CLAIMS)));
    assert_true(passes(tokens_sign_hmac(keys.secret, "{\"alg\":\"HS256\",\"kid\":\"x\"}", CLAIMS)));
    assert_int_equal(host_events[0], 5);
}

static void test_no_token_is_challenged(void **state) {
    host_init(BY_SET);
    assert_int_equal(RUN(.path = "/"), WEIR_RESPOND);
    assert_int_equal(host_status(), 401);
    assert_string_equal(host_answer_field("www-authenticate"), "Bearer");
    assert_int_equal(RUN(.fields = {{"authorization", "Basic YTpi"}}), WEIR_RESPOND);
    assert_string_equal(host_answer_field("www-authenticate"), "Bearer");
    assert_int_equal(host_events[1], 2);
}

static void test_two_tokens_contradict_each_other(void **state) {
    const char *good = tokens_text("Bearer %s", tokens_sign(keys.p256, ES256, CLAIMS));

    host_init(BY_SET);
    assert_int_equal(RUN(.fields = {{"authorization", good}, {"authorization", good}}),
                     WEIR_RESPOND);
    assert_int_equal(host_status(), 401);
}

/* RFC 8725 section 3.1, and what has gone wrong elsewhere. */
static void test_a_token_cannot_choose_its_algorithm(void **state) {
    static const char *const headers[] = {
        "{\"alg\":\"none\"}",  "{\"alg\":\"None\"}",  "{\"alg\":\"\"}",
        "{\"alg\":\"hs256\"}", "{\"alg\":\"HS384\"}", "{\"alg\":[\"ES256\"]}",
        "{\"alg\":null}",      "{\"kid\":\"e\"}",     "{\"alg\":\"HS256\\u0000\"}",
    };
    const char *pem = tokens_pem(keys.rsa);
    char *unsigned_token;

    host_init(BY_SET);
    for (unsigned i = 0; i < sizeof headers / sizeof *headers; i++) {
        const char *token = tokens_sign(keys.p256, headers[i], CLAIMS);

        assert_invalid(token, i == 8 ? NULL : "its algorithm is not accepted");
        unsigned_token = strdup(token);
        strrchr(unsigned_token, '.')[1] = '\0';
        assert_invalid(unsigned_token, NULL);
        free(unsigned_token);
    }
    /* The public key as a secret: there is no key for HS256 here. */
    assert_invalid(tokens_sign_hmac(pem, "{\"alg\":\"HS256\",\"kid\":\"r\"}", CLAIMS),
                   "no key of its algorithm and kid is known");
    assert_invalid(tokens_sign_hmac(pem, RS256, CLAIMS), "its signature is wrong");
    assert_invalid(tokens_sign(keys.p256, RS256, CLAIMS), "its signature is wrong");
    assert_invalid(tokens_sign(keys.rsa, ES256, CLAIMS), "its signature is wrong");
    host_init(BY_SECRET);
    assert_invalid(tokens_sign(keys.rsa, RS256, CLAIMS),
                   "no key of its algorithm and kid is known");
}

static void test_a_key_in_a_set_is_for_its_algorithm_and_use(void **state) {
    static const char *const formats[] = {
        "{\"keys\":[{\"kid\":\"x\",%s},{\"kid\":\"r\",\"use\":\"enc\",%s}]}",
        "{\"keys\":[{\"kid\":\"x\",%s},{\"kid\":\"r\",\"alg\":\"RS512\",%s}]}",
        "{\"keys\":[{\"kid\":\"x\",%s},{\"kid\":\"r\",\"alg\":\"HS256\",%s}]}",
        "{\"keys\":[{\"kid\":\"x\",%s},{\"kid\":\"r\",\"key_ops\":[\"encrypt\"],%s}]}",
    };

    for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        host_put_file("keys.json",
                      tokens_text(formats[i], tokens_jwk(keys.p256), tokens_jwk(keys.rsa)));
#pragma GCC diagnostic pop
        host_init(BY_SET);
        assert_invalid(tokens_sign(keys.rsa, RS256, CLAIMS),
                       "no key of its algorithm and kid is known");
    }
    host_put_file("keys.json", tokens_text("{\"keys\":[{\"kid\":\"r\",\"use\":\"sig\",\"key_ops\":"
                                           "[\"verify\"],\"alg\":\"RS256\",\"x5c\":[\"\"],%s}]}",
                                           tokens_jwk(keys.rsa)));
    host_init(BY_SET);
    assert_true(passes(tokens_sign(keys.rsa, RS256, CLAIMS)));
}

static void test_the_kid_chooses_the_key(void **state) {
    host_init(BY_SET);
    assert_invalid(tokens_sign(keys.rsa, "{\"alg\":\"RS256\",\"kid\":\"other\"}", CLAIMS),
                   "no key of its algorithm and kid is known");
    assert_invalid(tokens_sign(keys.rsa, "{\"alg\":\"RS256\",\"kid\":5}", CLAIMS),
                   "its header asks for more than is understood");
    assert_invalid(tokens_sign(keys.other_rsa, RS256, CLAIMS), "its signature is wrong");
    host_put_file("keys.json", tokens_text("{\"keys\":[{\"kid\":\"r\",%s},{\"kid\":\"r\",%s}]}",
                                           tokens_jwk(keys.other_rsa), tokens_jwk(keys.rsa)));
    assert_true(passes(tokens_sign(keys.rsa, RS256, CLAIMS))); /* two of one kid */
}

static void test_a_symmetric_key_in_a_set(void **state) {
    host_put_file("keys.json", tokens_text("{\"keys\":[{\"kty\":\"oct\",\"k\":\"%s\"}]}",
                                           tokens_base64url(keys.secret, strlen(keys.secret))));
    host_init(BY_SET);
    assert_true(passes(tokens_sign_hmac(keys.secret, HS256, CLAIMS)));
    assert_invalid(tokens_sign_hmac("another secret that is long enough", HS256, CLAIMS),
                   "its signature is wrong");
}

static void test_what_is_no_token_is_refused(void **state) {
    const char *good = tokens_sign(keys.p256, ES256, CLAIMS), *dot = strchr(good, '.');
    static const char *const wrong[] = {"x",       ".",    "..",   "...",    "a.b",
                                        "a.b.c.d", "a.b.", "====", "a=.b.c", "\x80.\x80.\x80",
                                        "a a.b.c"};

    host_init(BY_SET);
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_invalid(wrong[i], NULL);
    for (size_t len = 1; len < strlen(good); len++) /* cut anywhere */
        assert_invalid(tokens_text("%.*s", (int)len, good), NULL);
    assert_invalid(tokens_text("%s.", good), NULL);
    assert_invalid(tokens_text("%s=", good), NULL);
    assert_invalid(tokens_text("%sA", good), NULL);
    assert_invalid(tokens_text("%.*s..%s", (int)(dot - good), good, dot + 1), NULL);
    assert_true(passes(good));
}

/* One text for one token: no bit of it is without meaning. */
static void test_no_character_can_be_another(void **state) {
    const char *good = tokens_sign(keys.p256, ES256, CLAIMS);
    char *token = strdup(good);

    host_init(BY_SET);
    for (size_t i = 0; i < strlen(good); i++) {
        token[i] = good[i] == 'A' ? 'B' : 'A';
        assert_invalid(token, NULL);
        token[i] = good[i];
    }
    token[strlen(token) - 1]++; /* the two bits behind the last byte: A, Q, g, w are without */
    assert_invalid(token, NULL);
    free(token);
}

static void test_huge_and_deep_tokens_are_refused(void **state) {
    size_t len = 16000;
    char *huge = calloc(1, len + 1), *deep = calloc(1, 4001);
    const char *token;

    host_init(BY_SET);
    memset(huge, 'A', len);
    assert_invalid(huge, "it is no token");
    memset(deep, '[', 4000);
    token = tokens_sign(keys.p256, deep, CLAIMS);
    assert_invalid(token, NULL);
    token = tokens_sign(keys.p256, ES256, deep);
    assert_invalid(token, "its payload is no JSON object");
    free(huge);
    free(deep);
}

static void test_what_is_critical_must_be_understood(void **state) {
    host_init(BY_SET);
    assert_invalid(
        tokens_sign(keys.p256, "{\"alg\":\"ES256\",\"crit\":[\"b64\"],\"b64\":true}", CLAIMS),
        "its header asks for more than is understood");
}

static void test_payloads_are_objects_without_doubles(void **state) {
    host_init(BY_SET);
    assert_claims_invalid("[]", "its payload is no JSON object");
    assert_claims_invalid("", "its payload is no JSON object");
    assert_claims_invalid("{\"exp\":1800000060,\"sub\":\"a\",\"sub\":\"b\"}",
                          "its payload is no JSON object");
    assert_claims_invalid("{\"exp\":1800000060} ,", "its payload is no JSON object");
    assert_invalid(tokens_sign(keys.p256, "{\"alg\":\"HS256\",\"alg\":\"ES256\"}", CLAIMS), NULL);
}

static void test_times_have_a_leeway(void **state) {
    host_init("{\"jwks\": \"keys.json\", \"leeway\": \"10s\"}");
    assert_true(claims_pass("{\"exp\":1800000001}"));
    assert_true(claims_pass("{\"exp\":1799999991}"));
    assert_true(claims_pass("{\"exp\":1799999990.5}"));
    assert_claims_invalid("{\"exp\":1799999990}", "it has expired");
    assert_claims_invalid("{\"exp\":0}", "it has expired");
    assert_claims_invalid("{\"exp\":-1e300}", "it has expired");
    assert_true(claims_pass("{\"exp\":1800000060,\"nbf\":1800000010}"));
    assert_claims_invalid("{\"exp\":1800000060,\"nbf\":1800000011}", "it is not valid yet");
    assert_claims_invalid("{\"exp\":\"1800000060\"}", "its exp or nbf is no number");
    assert_claims_invalid("{\"exp\":1800000060,\"nbf\":null}", "its exp or nbf is no number");
    host_unix_ns += 71 * NS_PER_S;
    assert_claims_invalid(CLAIMS, "it has expired");
}

static void test_exp_must_be_there_unless_told_otherwise(void **state) {
    host_init(BY_SET);
    assert_claims_invalid("{\"sub\":\"a\"}", "it has no exp");
    host_init("{\"jwks\": \"keys.json\", \"require_exp\": false}");
    assert_true(claims_pass("{\"sub\":\"a\"}"));
    assert_claims_invalid("{\"exp\":1}", "it has expired");
}

static void test_issuers(void **state) {
    host_init("{\"jwks\": \"keys.json\", \"issuers\": [\"https://a\", \"https://b\"]}");
    assert_true(claims_pass("{\"exp\":1800000060,\"iss\":\"https://b\"}"));
    assert_claims_invalid("{\"exp\":1800000060,\"iss\":\"https://b/\"}",
                          "its issuer is not accepted");
    assert_claims_invalid("{\"exp\":1800000060,\"iss\":[\"https://b\"]}",
                          "its issuer is not accepted");
    assert_claims_invalid("{\"exp\":1800000060}", "its issuer is not accepted");
}

static void test_audiences(void **state) {
    static const char *const for_api = "{\"exp\":1800000060,\"aud\":\"api\"}";

    host_init(BY_SET);
    assert_claims_invalid(for_api, "it is for another audience"); /* we were not told who we are */
    host_init("{\"jwks\": \"keys.json\", \"audiences\": [\"api\", \"web\"]}");
    assert_true(claims_pass(for_api));
    assert_true(claims_pass("{\"exp\":1800000060,\"aud\":[\"x\",1,\"web\"]}"));
    assert_claims_invalid("{\"exp\":1800000060,\"aud\":[\"x\"]}", "it is for another audience");
    assert_claims_invalid("{\"exp\":1800000060,\"aud\":[]}", "it is for another audience");
    assert_claims_invalid("{\"exp\":1800000060,\"aud\":5}", "it is for another audience");
    assert_claims_invalid(CLAIMS, "it is for another audience");
    host_init("{\"jwks\": \"keys.json\", \"audiences\": [\"*\"]}");
    assert_true(claims_pass(for_api));
    assert_true(claims_pass(CLAIMS));
}

static void test_required_claims(void **state) {
    host_init("{\"jwks\": \"keys.json\", \"required\": [\"sub\", \"jti\"]}");
    assert_claims_invalid(CLAIMS, "it lacks a required claim");
    assert_true(claims_pass("{\"exp\":1800000060,\"sub\":\"a\",\"jti\":\"1\"}"));
}

static void test_claims_that_must_have_a_value(void **state) {
    host_init("{\"jwks\": \"keys.json\", \"require\": {\"scope\": [\"write\", \"admin\"]}}");
    assert_true(claims_pass("{\"exp\":1800000060,\"scope\":\"read write\"}"));
    assert_true(claims_pass("{\"exp\":1800000060,\"scope\":[\"x\",\"admin\"]}"));
    assert_false(claims_pass("{\"exp\":1800000060,\"scope\":\"read writes\"}"));
    assert_int_equal(host_status(), 403);
    assert_string_equal(host_answer_field("www-authenticate"),
                        "Bearer error=\"insufficient_scope\", "
                        "error_description=\"the token does not allow this\"");
    assert_false(claims_pass(CLAIMS));
    assert_false(claims_pass("{\"exp\":1800000060,\"scope\":5}"));
    assert_false(claims_pass("{\"exp\":1800000060,\"scope\":\"  \"}"));
    assert_int_equal(host_events[3], 4);
}

#define PASSED_ON                                                             \
    "{\"jwks\": \"keys.json\", \"fields\": {\"x-user\": \"sub\", \"x-org\": " \
    "\"org\"}, \"variables\": {\"user\": \"sub\"}"

static void test_claims_go_on(void **state) {
    host_init(PASSED_ON "}");
    assert_true(claims_pass("{\"exp\":1800000060,\"sub\":\"alice\",\"org\":[\"a\",\"b\"]}"));
    assert_string_equal(host_sent("x-user"), "alice");
    assert_string_equal(host_sent("x-org"), "a,b");
    assert_string_equal(host_variable("user"), "alice");
    assert_true(claims_pass("{\"exp\":1800000060,\"sub\":42,\"org\":true}"));
    assert_string_equal(host_sent("x-user"), "42");
    assert_string_equal(host_sent("x-org"), "true");
    assert_non_null(host_sent("authorization"));
}

static void test_forged_fields_never_go_on(void **state) {
    const char *token = tokens_text("Bearer %s", tokens_sign(keys.p256, ES256, CLAIMS));

    host_init(PASSED_ON ", \"optional\": true}");
    assert_int_equal(RUN(.fields = {{"authorization", token}, {"X-User", "root"}, {"x-org", "o"}}),
                     WEIR_CONTINUE);
    assert_string_equal(host_sent("x-user"), "alice");
    assert_null(host_sent("x-org"));
    assert_int_equal(RUN(.fields = {{"X-User", "root"}}), WEIR_CONTINUE);
    assert_null(host_sent("x-user"));
    assert_string_equal(host_variable("user"), "");
}

static void test_a_claim_that_would_break_a_field_is_refused(void **state) {
    char *payload = malloc(6000), *end;

    host_init(PASSED_ON "}");
    assert_claims_invalid("{\"exp\":1800000060,\"sub\":\"a\\r\\nx: y\"}",
                          "a claim of it cannot go on in a field");
    assert_claims_invalid("{\"exp\":1800000060,\"sub\":{}}",
                          "a claim of it cannot go on in a field");
    assert_claims_invalid("{\"exp\":1800000060,\"org\":[\"a,b\"]}",
                          "a claim of it cannot go on in a field");
    assert_claims_invalid("{\"exp\":1800000060,\"org\":[[]]}",
                          "a claim of it cannot go on in a field");
    end = payload + sprintf(payload, "{\"exp\":1800000060,\"sub\":\"");
    memset(end, 'x', 257);
    strcpy(end + 257, "\"}");
    assert_claims_invalid(payload, "a claim of it cannot go on in a variable");
    free(payload);
}

static void test_a_bad_token_is_refused_though_none_is_needed(void **state) {
    host_init("{\"jwks\": \"keys.json\", \"optional\": true}");
    assert_int_equal(RUN(.path = "/"), WEIR_CONTINUE);
    assert_invalid("x.y.z", NULL);
}

static void test_the_token_can_be_taken_out(void **state) {
    const char *token = tokens_sign(keys.p256, ES256, CLAIMS);

    host_init("{\"jwks\": \"keys.json\", \"remove\": true, \"query\": \"access_token\"}");
    assert_true(passes(token));
    assert_null(host_sent("authorization"));
    assert_int_equal(RUN(.path = tokens_text("/a?b=1&access_token=%s&c=2", token)), WEIR_CONTINUE);
    assert_string_equal(host_path(), "/a?b=1&c=2");
}

static void test_keys_are_read_again(void **state) {
    host_init(BY_SET);
    assert_false(passes(tokens_sign(keys.other_rsa, RS256, CLAIMS)));
    host_put_file("keys.json",
                  tokens_text("{\"keys\":[{\"kid\":\"r\",%s}]}", tokens_jwk(keys.other_rsa)));
    assert_true(passes(tokens_sign(keys.other_rsa, RS256, CLAIMS)));
    assert_false(passes(tokens_sign(keys.rsa, RS256, CLAIMS)));
    host_put_file("keys.json", "{\"keys\":[");
    assert_true(passes(tokens_sign(keys.other_rsa, RS256, CLAIMS)));
    assert_non_null(strstr(host_last_log, "jwks: 'keys.json' is not used: it is no JSON"));
}

static void test_sets_with_mistakes_are_refused(void **state) {
    static const char *const cases[][2] = {
        {"", "it is no JSON"},
        {"{}", "it is no JWK Set"},
        {"{\"keys\":[]}", "there is no key in it"},
        {"{\"keys\":[{\"kty\":\"OKP\"},5,null]}", "there is no key in it"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
         "key 1: expected n of 2048 to 8192 bits"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}",
         "key 1: expected x and y of 32 bytes"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"A=\",\"y\":5}]}",
         "key 1: expected x"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
         "key 1: found a secret of 3 bytes, expected 32 to 4096"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"\"}]}", "key 1: expected k"},
        {"[[[[[[[[[[]]]]]]]]]]", "it is no JSON"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = tokens_text("bad-%u.json", i),
                   *config = tokens_text("{\"jwks\": \"%s\"}", name);

        host_put_file(name, cases[i][0]);
        host_init_fails(config, tokens_text("jwks: '%s' is not used: ", name));
        host_init_fails(config, cases[i][1]);
    }
    host_put_file("short", "0123456789012345678901234567890\r\n");
    host_init_fails("{\"secret\": \"short\"}", "found a secret of 31 bytes");
}

static void test_a_set_has_so_many_keys_and_no_more(void **state) {
    char *text = malloc(100000), *at = text;

    for (unsigned count = 64; count <= 65; count++) {
        at = text + sprintf(text, "{\"keys\":[");
        for (unsigned i = 0; i < count; i++)
            at += sprintf(at, "%s{\"kid\":\"%u\",%s}", i ? "," : "", i, tokens_jwk(keys.p256));
        strcpy(at, "]}");
        host_put_file(count == 64 ? "64.json" : "65.json", text);
    }
    host_init("{\"jwks\": \"64.json\"}");
    host_init_fails("{\"jwks\": \"65.json\"}", "key 65: there are more than 64 keys");
    free(text);
}

static void test_settings_are_checked(void **state) {
    static const char *const cases[][2] = {
        {"{}", "jwks, secret: expected one of the two"},
        {"{\"jwks\": \"keys.json\", \"secret\": \"secret\"}", "jwks, secret: expected one"},
        {"{\"jwks\": \"none\"}", "jwks: 'none' cannot be read"},
        {"{\"jwks\": \"keys.json\", \"field\": \"\"}", "field, query: both are \"\""},
        {"{\"jwks\": \"keys.json\", \"algs\": []}", "algs: is not a setting; there are jwks, "},
        {"{\"jwks\": \"keys.json\", \"leeway\": \"2h\"}", "leeway: found \"2h\", expected a "},
        {"{\"jwks\": \"keys.json\", \"fields\": {\"a b\": \"c\"}}", "fields: found \"a b\""},
        {"{\"jwks\": \"keys.json\", \"fields\": {\"a\": 5}}", "fields.a: expected the name of a"},
        {"{\"jwks\": \"keys.json\", \"variables\": {\"A\": \"c\"}}", "variables: found \"A\""},
        {"{\"jwks\": \"keys.json\", \"require\": {\"a\": \"c\"}}", "require.a: expected a list"},
        {"{\"jwks\": \"keys.json\", \"require\": {\"a\": [1]}}", "require.a: expected a list"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        host_init_fails(cases[i][0], cases[i][1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_good_tokens_pass),
        TEST(test_no_token_is_challenged),
        TEST(test_two_tokens_contradict_each_other),
        TEST(test_a_token_cannot_choose_its_algorithm),
        TEST(test_a_key_in_a_set_is_for_its_algorithm_and_use),
        TEST(test_the_kid_chooses_the_key),
        TEST(test_a_symmetric_key_in_a_set),
        TEST(test_what_is_no_token_is_refused),
        TEST(test_no_character_can_be_another),
        TEST(test_huge_and_deep_tokens_are_refused),
        TEST(test_what_is_critical_must_be_understood),
        TEST(test_payloads_are_objects_without_doubles),
        TEST(test_times_have_a_leeway),
        TEST(test_exp_must_be_there_unless_told_otherwise),
        TEST(test_issuers),
        TEST(test_audiences),
        TEST(test_required_claims),
        TEST(test_claims_that_must_have_a_value),
        TEST(test_claims_go_on),
        TEST(test_forged_fields_never_go_on),
        TEST(test_a_claim_that_would_break_a_field_is_refused),
        TEST(test_a_bad_token_is_refused_though_none_is_needed),
        TEST(test_the_token_can_be_taken_out),
        TEST(test_keys_are_read_again),
        TEST(test_sets_with_mistakes_are_refused),
        TEST(test_a_set_has_so_many_keys_and_no_more),
        TEST(test_settings_are_checked),
    };

    return cmocka_run_group_tests(tests, set_up_keys, tear_down_keys);
}
