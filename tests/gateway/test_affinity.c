/* The promises of proxy/gateway/affinity.c: what of a request tells where it belongs. */
#include "fixture.h"

#include "base/alloc.h"
#include "loop/memo.h"

#include <stdlib.h>

#define SESSION "0123456789abcdef0123456789abcdef"

static struct config_route route;
static struct gateway gateway;

static int set_up(void **state) {
    struct fixture *f;

    fixture_open(state);
    f = *state;
    route = (struct config_route){.name = (char *)"all"};
    gateway.memo = xcalloc(1, sizeof *gateway.memo);
    f->gl.gateway = &gateway;
    f->c->route = &route;
    return 0;
}

static int tear_down(void **state) {
    free(gateway.memo);
    return fixture_close(state);
}

/* What affinity_find() makes of the request as it is now. */
static struct balancer_wish wish_of(struct fixture *f) {
    f->c->wish = (struct balancer_wish){0};
    f->c->has_session = false;
    assert_int_equal(affinity_find(f->c), FAIL_NONE);
    return f->c->wish;
}

static void balance_by(struct fixture *f, enum config_hash_of of, const char *name) {
    f->pipeline_config.balance.by = BALANCE_HASH;
    f->pipeline_config.balance.hash = (struct config_hash){.of = of, .name = (char *)name};
}

static void without_a_hash_nothing_leads_anywhere(void **state) {
    assert_false(wish_of(*state).is_keyed);
}

static void a_clients_address_is_its_key(void **state) {
    struct fixture *f = *state;
    uint64_t first;

    balance_by(f, HASH_CLIENT, NULL);
    first = wish_of(f).key;
    assert_true(f->c->wish.is_keyed);
    assert_int_equal(wish_of(f).key, first);
    fixture_client_is(f, AF_INET, "192.0.2.2");
    assert_int_not_equal(wish_of(f).key, first);
    fixture_client_is(f, AF_INET6, "2001:db8::1");
    assert_true(wish_of(f).is_keyed);
    fixture_client_is(f, AF_UNSPEC, NULL); /* over a unix socket all are alike */
    assert_false(wish_of(f).is_keyed);
}

static void a_path_is_a_key_without_its_query(void **state) {
    struct fixture *f = *state;
    uint64_t first;

    balance_by(f, HASH_PATH, NULL);
    f->c->x.request_head.path = SLICE("/a");
    first = wish_of(f).key;
    f->c->x.request_head.path = SLICE("/a?b=c");
    assert_int_equal(wish_of(f).key, first);
    f->c->x.request_head.path = SLICE("/b");
    assert_int_not_equal(wish_of(f).key, first);
}

static void a_field_is_a_key_if_it_is_there(void **state) {
    struct fixture *f = *state;

    balance_by(f, HASH_HEADER, "x-user");
    assert_false(wish_of(f).is_keyed);
    fixture_ask(f, "X-User", "");
    assert_false(wish_of(f).is_keyed);
    f->c->x.request_head.fields.count = 0;
    fixture_ask(f, "X-User", "me");
    assert_true(wish_of(f).is_keyed);
}

static void a_cookie_is_found_among_others(void **state) {
    static const char *const with[] = {"a=me", "b=1; a=me", "aa=1;a=me ; b=2", "b=\"x\"; a=me"};
    static const char *const without[] = {"a", "a=", "aa=me", "b=a=me", "A=me", ";;", "xa=me"};
    struct fixture *f = *state;
    uint64_t key = 0;

    balance_by(f, HASH_COOKIE, "a");
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        f->c->x.request_head.fields.count = 0;
        fixture_ask(f, "Cookie", with[i]);
        assert_true(wish_of(f).is_keyed);
        assert_true(key == 0 || f->c->wish.key == key);
        key = f->c->wish.key;
    }
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        f->c->x.request_head.fields.count = 0;
        fixture_ask(f, "Cookie", without[i]);
        assert_false(wish_of(f).is_keyed);
    }
    fixture_ask(f, "Cookie", "a=me"); /* over HTTP/2 each may have a field of its own */
    assert_int_equal(wish_of(f).key, key);
}

static void a_session_leads_to_whoever_gave_it_out(void **state) {
    struct fixture *f = *state;
    uint64_t home = f->c->endpoint->id;

    route.affinity.header = (char *)"mcp-session-id";
    route.affinity.learn = LEARN_RESPONSE;
    f->c->x.response_head.status = 200;
    fixture_answer(f, "Mcp-Session-Id", "s1");
    affinity_respond(f->c);
    assert_int_equal(wish_of(f).home, 0); /* none is shown */
    fixture_ask(f, "mcp-session-id", "s1");
    assert_int_equal(wish_of(f).home, home);
    assert_true(f->c->has_session);
    f->pipeline_config.name = (char *)"other"; /* which does not know it */
    assert_int_equal(wish_of(f).home, 0);
}

static void a_refusal_teaches_nothing(void **state) {
    struct fixture *f = *state;

    route.affinity.header = (char *)"mcp-session-id";
    route.affinity.learn = LEARN_RESPONSE;
    f->c->x.response_head.status = 404;
    fixture_answer(f, "Mcp-Session-Id", "s1");
    affinity_respond(f->c);
    fixture_ask(f, "Mcp-Session-Id", "s1");
    assert_int_equal(wish_of(f).home, 0);
    route.affinity.is_strict = true;
    assert_int_equal(affinity_find(f->c), FAIL_AFFINITY_LOST);
}

static void a_session_stays_with_who_has_taken_it_on(void **state) {
    struct fixture *f = *state;

    route.affinity.header = (char *)"mcp-session-id";
    route.affinity.learn = LEARN_RESPONSE;
    fixture_ask(f, "Mcp-Session-Id", "s1");
    wish_of(f);
    memo_put(gateway.memo, f->c->wish.key, 77, f->gl.loop.now_ns); /* of one that is gone */
    assert_int_equal(wish_of(f).home, 77);
    f->c->x.response_head.status = 404;
    affinity_respond(f->c);
    assert_int_equal(wish_of(f).home, 77);
    f->c->x.response_head.status = 200;
    affinity_respond(f->c);
    assert_int_equal(wish_of(f).home, f->c->endpoint->id);
}

static void a_cookie_is_set_where_there_is_none_of_ours(void **state) {
    struct fixture *f = *state;
    const char *set;

    route.affinity.cookie = (char *)"weir";
    fixture_ask(f, "Cookie", "weir=forged; a=1");
    wish_of(f);
    assert_false(f->c->has_session);
    f->c->x.is_secure = true;
    affinity_respond(f->c);
    set = fixture_values(f, &f->c->x.response_head.fields, "set-cookie");
    assert_int_equal(strncmp(set, "weir=", 5), 0);
    assert_int_equal(strspn(set + 5, "0123456789abcdef"), REQUEST_ID_BYTES);
    assert_string_equal(set + 5 + REQUEST_ID_BYTES, "; Path=/; HttpOnly; SameSite=Lax; Secure");
}

static void one_of_ours_is_left_alone(void **state) {
    struct fixture *f = *state;

    route.affinity.cookie = (char *)"weir";
    fixture_ask(f, "Cookie", "a=1; weir=" SESSION);
    wish_of(f);
    assert_true(f->c->has_session);
    affinity_respond(f->c);
    assert_string_equal(fixture_values(f, &f->c->x.response_head.fields, "set-cookie"), ABSENT);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(without_a_hash_nothing_leads_anywhere),
        WITH(a_clients_address_is_its_key),
        WITH(a_path_is_a_key_without_its_query),
        WITH(a_field_is_a_key_if_it_is_there),
        WITH(a_cookie_is_found_among_others),
        WITH(a_session_leads_to_whoever_gave_it_out),
        WITH(a_refusal_teaches_nothing),
        WITH(a_session_stays_with_who_has_taken_it_on),
        WITH(a_cookie_is_set_where_there_is_none_of_ours),
        WITH(one_of_ours_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
