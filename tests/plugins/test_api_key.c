/* The promises of plugins/api_key.c. */
#include "plugins/host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char keys[1024], alice_digest[65], bob_digest[65];

static void digest_of(const char *key, char to[65]) {
    unsigned char digest[32];

    host_table()->sha256((struct weir_text){key, strlen(key)}, digest);
    for (unsigned i = 0; i < 32; i++)
        snprintf(to + 2 * i, 3, "%02x", digest[i]);
}

static int set_up(void **state) {
    host_open("api_key");
    digest_of("alice-key", alice_digest);
    digest_of("bob-key", bob_digest);
    snprintf(keys, sizeof keys, "# who may\n%s alice\n\n  %s\t bob \r\n", alice_digest, bob_digest);
    host_put_file("keys", keys);
    return 0;
}

static int tear_down(void **state) {
    host_close();
    return 0;
}

#define KEY(value) .fields = {{"X-API-Key", (value)}}

static void test_a_known_key_passes_and_its_holder_is_told(void **state) {
    host_init("{\"file\": \"keys\"}");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    assert_string_equal(host_sent("x-api-key-name"), "alice");
    assert_string_equal(host_variable("api_key"), "alice");
    assert_int_equal(RUN(KEY("bob-key")), WEIR_CONTINUE);
    assert_string_equal(host_sent("x-api-key-name"), "bob");
    assert_int_equal(host_events[0], 2);
}

static void test_the_key_does_not_go_on(void **state) {
    host_init("{\"file\": \"keys\"}");
    RUN(KEY("alice-key"));
    assert_null(host_sent("x-api-key"));
    host_init("{\"file\": \"keys\", \"remove\": false}");
    RUN(KEY("alice-key"));
    assert_string_equal(host_sent("x-api-key"), "alice-key");
}

static void test_a_forged_name_does_not_go_on(void **state) {
    host_init("{\"file\": \"keys\"}");
    RUN(.fields = {
            {"x-api-key", "bob-key"}, {"X-Api-Key-Name", "alice"}, {"x-api-key-name", "root"}});
    assert_string_equal(host_sent("x-api-key-name"), "bob");
}

static void assert_refused(const char *title) {
    assert_int_equal(host_status(), 401);
    assert_true(host_is_refusal());
    assert_string_equal(host_content(), title);
    assert_non_null(host_answer_field("www-authenticate"));
}

static void test_no_key_is_refused(void **state) {
    host_init("{\"file\": \"keys\"}");
    assert_int_equal(RUN(.path = "/x"), WEIR_RESPOND);
    assert_refused("no API key");
    assert_int_equal(host_events[1], 1);
}

static void test_an_unknown_key_is_refused(void **state) {
    static const char *const wrong[] = {"alice-kez", "alice-ke", "alice-key2", "", "Alice-key"};

    host_init("{\"file\": \"keys\"}");
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(RUN(KEY(wrong[i])), WEIR_RESPOND);
        assert_refused("unknown API key");
    }
    assert_int_equal(RUN(KEY(alice_digest)), WEIR_RESPOND); /* who has read the file */
    assert_int_equal(host_events[2], 6);
}

static void test_two_keys_contradict_each_other(void **state) {
    host_init("{\"file\": \"keys\", \"query\": \"key\"}");
    assert_int_equal(RUN(.fields = {{"x-api-key", "alice-key"}, {"x-api-key", "bob-key"}}),
                     WEIR_RESPOND);
    assert_refused("more than one API key");
    assert_int_equal(RUN(.path = "/?key=bob-key", KEY("alice-key")), WEIR_RESPOND);
    assert_refused("more than one API key");
    assert_int_equal(RUN(.path = "/?key=bob-key&key=alice-key"), WEIR_RESPOND);
    assert_refused("more than one API key");
}

static void test_a_scheme_stands_in_front_of_the_key(void **state) {
    host_init("{\"file\": \"keys\", \"field\": \"authorization\", \"scheme\": \"Bearer\"}");
    assert_int_equal(RUN(.fields = {{"authorization", "bearer  alice-key"}}), WEIR_CONTINUE);
    assert_null(host_sent("authorization"));
    assert_int_equal(RUN(.fields = {{"authorization", "alice-key"}}), WEIR_RESPOND);
    assert_refused("no API key");
    assert_string_equal(host_answer_field("www-authenticate"), "Bearer");
    assert_int_equal(RUN(.fields = {{"authorization", "Bearerx alice-key"}}), WEIR_RESPOND);
    assert_int_equal(RUN(.fields = {{"authorization", "Bearer"}}), WEIR_RESPOND);
}

static void test_a_key_in_the_query_is_decoded_and_taken_out(void **state) {
    static const struct {
        const char *path, *sent;
    } cases[] = {
        {"/a?key=alice-key", "/a"},
        {"/a?key=alice%2Dkey&b=1", "/a?b=1"},
        {"/a?b=1&key=alice-key", "/a?b=1"},
        {"/a?b=1&key=alice-key&c=2&c=3", "/a?b=1&c=2&c=3"},
        {"/a?keys=1&key=alice-key&=&x", "/a?keys=1&=&x"},
    };

    host_init("{\"file\": \"keys\", \"query\": \"key\"}");
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(RUN(.path = cases[i].path), WEIR_CONTINUE);
        assert_string_equal(host_path(), cases[i].sent);
        assert_string_equal(host_variable("api_key"), "alice");
    }
    assert_int_equal(RUN(.path = "/a?key=alice%2"), WEIR_RESPOND);
    assert_int_equal(RUN(.path = "/a?key=alice%zz"), WEIR_RESPOND);
    assert_int_equal(RUN(.path = "/a?key"), WEIR_RESPOND);
    assert_refused("unknown API key");
    assert_int_equal(RUN(.path = "/a?"), WEIR_RESPOND);
    assert_refused("no API key");
}

static void test_a_holder_that_is_not_allowed_is_forbidden(void **state) {
    host_init("{\"file\": \"keys\", \"allow\": [\"bob\"]}");
    assert_int_equal(RUN(KEY("bob-key")), WEIR_CONTINUE);
    assert_int_equal(RUN(KEY("alice-key")), WEIR_RESPOND);
    assert_int_equal(host_status(), 403);
    assert_int_equal(host_events[3], 1);
}

static void test_keys_are_read_again(void **state) {
    char text[256];

    host_init("{\"file\": \"keys\"}");
    snprintf(text, sizeof text, "%s carol\n", alice_digest);
    host_put_file("keys", text);
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    assert_string_equal(host_variable("api_key"), "carol");
    assert_int_equal(RUN(KEY("bob-key")), WEIR_RESPOND);
    host_drop_file("keys");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    host_put_file("keys", "");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_RESPOND);
}

static void test_a_file_with_a_mistake_changes_nothing(void **state) {
    host_init("{\"file\": \"keys\"}");
    host_put_file("keys", "what?\n");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    assert_string_equal(host_last_log, "file: 'keys' is not used: line 1: expected 64 hexadecimal "
                                       "digits and a name of at most 128 visible characters");
    host_last_log[0] = '\0';
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    assert_string_equal(host_last_log, ""); /* once is enough */
}

/* An instance that is made behind a fault has what those before it had. */
static void test_a_mistake_does_not_keep_new_instances_from_starting(void **state) {
    char text[256];

    host_init("{\"file\": \"keys\"}");
    host_put_file("keys", "what?\n");
    host_init("{\"file\": \"keys\"}");
    assert_non_null(strstr(host_last_log, "is not used: line 1"));
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    host_put_file("keys", "what else?\n");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    host_init("{\"file\": \"keys\"}");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_CONTINUE);
    snprintf(text, sizeof text, "%s carol\n", bob_digest);
    host_put_file("keys", text);
    assert_int_equal(RUN(KEY("alice-key")), WEIR_RESPOND);
    assert_int_equal(RUN(KEY("bob-key")), WEIR_CONTINUE);
}

static void test_files_with_mistakes_are_refused_at_start(void **state) {
    static const struct {
        const char *text, *phrase;
    } cases[] = {
        {"%s alice\n%s\n", "line 2: "},
        {"x%.63s alice\n", "line 1: "},
        {"%.63s alice\n", "line 1: "},
        {"%s0 alice\n", "line 1: "},
        {"%s al ice\n", "line 1: "},
        {"%s alice\n\n%s bob\n", "'alice' and 'bob' have the same key"},
    };
    char text[512], name[16], config[64];

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, cases[i].text, alice_digest, alice_digest);
#pragma GCC diagnostic pop
        snprintf(name, sizeof name, "bad-%u", i);
        snprintf(config, sizeof config, "{\"file\": \"%s\"}", name);
        host_put_file(name, text);
        host_init_fails(config, "is not used: ");
        host_init_fails(config, cases[i].phrase);
    }
}

static void test_settings_are_checked(void **state) {
    static const char *const cases[][2] = {
        {"{}", "file: is missing"},
        {"{\"file\": \"none\"}", "file: 'none' cannot be read"},
        {"{\"file\": 5}", "file: found 5, expected a text"},
        {"{\"file\": \"keys\", \"fild\": \"x\"}", "fild: is not a setting; there are file, field"},
        {"{\"file\": \"keys\", \"field\": \"a b\"}",
         "field: found \"a b\", expected the name of a field"},
        {"{\"file\": \"keys\", \"field\": \"\"}", "field, query: both are \"\""},
        {"{\"file\": \"keys\", \"variable\": \"X\"}", "variable: found \"X\", expected at most 32"},
        {"{\"file\": \"keys\", \"remove\": 1}", "remove: found 1, expected true or false"},
        {"{\"file\": \"keys\", \"allow\": []}", "allow: found [], expected a list of 1 to 1000"},
        {"{\"file\": \"keys\", \"allow\": [1]}", "allow: found [1], expected a list of texts"},
        {"[]", "the configuration is no table"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        host_init_fails(cases[i][0], cases[i][1]);
}

static void test_a_field_that_may_not_be_edited_lets_nobody_in(void **state) {
    host_init("{\"file\": \"keys\", \"name_field\": \"host\"}");
    assert_int_equal(RUN(KEY("alice-key")), WEIR_RESPOND);
    assert_int_equal(host_status(), 500);
}

static void test_as_many_keys_as_a_file_can_hold(void **state) {
    enum { COUNT = 10000, LINE = 72 };
    char *text = malloc((size_t)COUNT * LINE), *at = text, digest[65], key[16];

    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        digest_of(key, digest);
        at += snprintf(at, LINE, "%s n%u\n", digest, i);
    }
    host_put_file("many", text);
    free(text);
    host_init("{\"file\": \"many\"}");
    for (unsigned i = 0; i < COUNT; i += 997) {
        char name[16];

        snprintf(key, sizeof key, "key-%u", i);
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(RUN(KEY(key)), WEIR_CONTINUE);
        assert_string_equal(host_variable("api_key"), name);
    }
    assert_int_equal(RUN(KEY("key-10000")), WEIR_RESPOND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_known_key_passes_and_its_holder_is_told),
        TEST(test_the_key_does_not_go_on),
        TEST(test_a_forged_name_does_not_go_on),
        TEST(test_no_key_is_refused),
        TEST(test_an_unknown_key_is_refused),
        TEST(test_two_keys_contradict_each_other),
        TEST(test_a_scheme_stands_in_front_of_the_key),
        TEST(test_a_key_in_the_query_is_decoded_and_taken_out),
        TEST(test_a_holder_that_is_not_allowed_is_forbidden),
        TEST(test_keys_are_read_again),
        TEST(test_a_file_with_a_mistake_changes_nothing),
        TEST(test_a_mistake_does_not_keep_new_instances_from_starting),
        TEST(test_files_with_mistakes_are_refused_at_start),
        TEST(test_settings_are_checked),
        TEST(test_a_field_that_may_not_be_edited_lets_nobody_in),
        TEST(test_as_many_keys_as_a_file_can_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
