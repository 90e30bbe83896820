/* Which route a request takes: what route.h promises, on tables made by hand. */
#include "route/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define ANY CONFIG_ANY_LISTENER
#define S(text) ((char[]){text}) /* the configuration owns its strings */
#define COUNT(array) (sizeof(array) / sizeof *(array))

static char *get_post[] = {S("GET"), S("POST")}, *post[] = {S("POST")}, *odd[] = {S("PROPFIND")};
static struct config_field_match beta[] = {{S("x-beta"), NULL}};
static struct config_field_match beta_on[] = {{S("x-beta"), S("on")}, {S("accept"), NULL}};

/* The index is what the rows below expect. */
static struct config_route routes[] = {
    [0] = {.listener = ANY},
    [1] = {.listener = 0, .path = S("/api")},
    [2] = {.listener = 0, .path = S("/api/v1")},
    [3] = {.listener = 0, .exact = S("/api/v1")},
    [4] = {.listener = 0, .path = S("/api/v1"), .fields = beta, .field_count = 1},
    [5] = {.listener = 0, .path = S("/api/v1"), .fields = beta_on, .field_count = 2},
    [6] = {.listener = 0, .path = S("/api/v1"), .methods = get_post, .method_count = 2},
    [7] = {.listener = 0, .host = S("a.example.com"), .path = S("/")},
    [8] = {.listener = 0, .host = S("*.example.com"), .path = S("/")},
    [9] = {.listener = 0, .host = S("*.b.example.com"), .path = S("/")},
    [10] = {.listener = 0, .host = S("a.example.com"), .path = S("/x/")},
    [11] = {.listener = 1,
            .host = S("only.test"),
            .exact = S("/p"),
            .methods = post,
            .method_count = 1},
    [12] =
        {.listener = 1, .host = S("only.test"), .path = S("/p"), .methods = odd, .method_count = 1},
    [13] =
        {.listener = 1, .host = S("only.test"), .path = S("/p"), .methods = odd, .method_count = 1},
    [14] = {.listener = 0, .host = S("[::1]")},
    [15] = {.listener = 0, .path = S("/a b%2f")},
    [16] = {.listener = 0, .path = S("/n/../%6eorm")},
    [17] = {.listener = 2, .host = S("h"), .path = S("/p")},
};

static struct config_listener listeners[3];
static struct config config = {.listeners = listeners,
                               .listener_count = COUNT(listeners),
                               .routes = routes,
                               .route_count = COUNT(routes)};

static const struct row {
    const char *promise;
    const char *host;
    const char *target; /* "*": OPTIONS; "": CONNECT */
    size_t expect;
    const char *method;
    const char *field; /* "name" or "name=value" pairs, one space between */
    size_t listener;
} rows[] = {
    {"a route without conditions takes what is left", "h", "/", 0},
    {"a prefix matches itself", "h", "/api", 1},
    {"a prefix matches below itself", "h", "/api/x/y", 1},
    {"a prefix ends on the border of a segment", "h", "/apix", 0},
    {"a prefix matches with a slash behind it", "h", "/api/", 1},
    {"a query does not matter", "h", "/api?/v1", 1},
    {"the longest prefix wins", "h", "/api/v1/x", 2, "PUT"},
    {"exact wins over prefix", "h", "/api/v1", 3, "PUT"},
    {"exact does not match below itself", "h", "/api/v1/", 2, "PUT"},
    {"a method list wins over none", "h", "/api/v1/x", 6, "POST"},
    {"fields win over a method list", "h", "/api/v1/x", 4, "POST", "X-Beta=off"},
    {"more fields win over fewer", "h", "/api/v1/x", 5, "POST", "x-beta=on accept=a"},
    {"all fields must match", "h", "/api/v1/x", 4, "POST", "x-beta=on"},
    {"any line of a field may match", "h", "/api/v1/x", 5, "PUT", "X-BETA=a x-beta=on accept=a"},
    {"dot segments are removed first", "h", "/x/../api/./v1/x", 2, "PUT"},
    {"escapes are decoded first", "h", "/%61pi/x", 1},
    {"doubled slashes do not get around a route", "h", "//api/x", 1},
    {"paths mind case", "h", "/API", 0},
    {"paths of the configuration are normalised too", "h", "/norm/x", 16},

    {"an exact host wins over any", "a.example.com", "/api", 7},
    {"a host ignores case", "A.Example.COM", "/api", 7},
    {"a port does not matter", "a.example.com:8080", "/api", 7},
    {"a final dot does not matter", "a.example.com.", "/api", 7},
    {"a final dot before a port does not matter", "a.example.com.:80", "/api", 7},
    {"an exact host wins over a wildcard", "a.example.com", "/z", 7},
    {"a wildcard matches one label", "z.example.com", "/", 8},
    {"a wildcard matches several labels", "z.y.example.com", "/", 8},
    {"a wildcard does not match without a label", "example.com", "/", 0},
    {"a wildcard does not match an empty label", ".example.com", "/", 0},
    {"a wildcard matches whole labels", "zexample.com", "/", 0},
    {"the longest wildcard wins", "z.b.example.com", "/", 9},
    {"a prefix with a final slash matches below", "a.example.com", "/x/y", 10},
    {"a prefix with a final slash matches itself", "a.example.com", "/x/", 10},
    {"a prefix with a final slash does not match without", "a.example.com", "/x", 7},
    {"IPv6 hosts", "[::1]", "/", 14},
    {"IPv6 hosts with a port", "[::1]:80", "/", 14},
    {"a request without a host", "", "/api", 1},
    {"a host that is all digits", "80", "/api", 1},

    {"OPTIONS * takes routes without a path", "a.example.com", "*", 0, "OPTIONS"},
    {"CONNECT takes routes without a path", "a.example.com:443", "", 0, "CONNECT"},
    {"OPTIONS * minds the host", "[::1]", "*", 14, "OPTIONS"},

    {"a route of one listener is not for others", "h", "/api", 0, "GET", NULL, 1},
    {"a route of any listener is for all", "h", "/q", 0, "GET", NULL, 2},
    {"a route of the third listener", "h", "/p", 17, "GET", NULL, 2},
    {"a method that is not listed goes on to a weaker route", "only.test", "/p", 0, "GET", NULL, 1},
    {"methods beyond the known ones", "only.test", "/p", 12, "PROPFIND", NULL, 1},
    {"methods beyond the known ones mind case", "only.test", "/p", 0, "propfind", NULL, 1},
    {"the order of the file decides at last", "only.test", "/p/x", 12, "PROPFIND", NULL, 1},
    {"what is more specific by host wins over what is by path", "z.example.com", "/api/v1", 8},
};

static char memory[4096];
static struct arena arena;

static struct request_head make(const char *method, const char *host, const char *target,
                                const char *field) {
    struct request_head head = {
        .method_text = slice_str(method ? method : "GET"),
        .form = *target == '*'    ? TARGET_ASTERISK
                : *target == '\0' ? TARGET_AUTHORITY
                                  : TARGET_ORIGIN,
        .authority = slice_str(host),
        .path = slice_str(target),
    };

    head.method = method_of(head.method_text);
    while (field && *field) {
        size_t len = strcspn(field, " ");
        struct slice name = slice_of(field, strcspn(field, "="));

        fields_add(&head.fields, &arena, field_id_of(name), name,
                   slice_of(field + name.len + 1, len - name.len - 1));
        field += field[len] ? len + 1 : len;
    }
    return head;
}

static void check(void **state) {
    const struct row *row = *state;
    struct route_table *table = route_table_new(&config);
    struct route_match match;
    struct request_head head;

    arena_init(&arena, memory, sizeof memory);
    head = make(row->method, row->host, row->target, row->field);
    assert_int_equal(route_match(table, row->listener, &head, &arena, &match), ROUTE_FOUND);
    assert_int_equal(match.index, row->expect);
    assert_ptr_equal(match.route, &routes[row->expect]);
    arena_deinit(&arena);
    route_table_free(table);
}

static enum route_outcome ask(struct config_route *list, size_t count, const char *method,
                              const char *target, struct route_match *match) {
    struct config own = {
        .listeners = listeners, .listener_count = 1, .routes = list, .route_count = count};
    struct route_table *table = route_table_new(&own);
    struct request_head head = make(method, "h", target, NULL);
    enum route_outcome outcome = route_match(table, 0, &head, &arena, match);

    route_table_free(table);
    return outcome;
}

static void nothing_matches_is_told_from_the_wrong_method(void **state) {
    struct config_route list[] = {
        {.listener = 0, .path = S("/a"), .methods = get_post, .method_count = 2},
        {.listener = 0, .path = S("/a/b"), .methods = post, .method_count = 1},
        {.listener = 0, .exact = S("/a/b"), .methods = odd, .method_count = 1},
        {.listener = 0,
         .path = S("/a"),
         .methods = odd,
         .method_count = 1,
         .fields = beta,
         .field_count = 1},
    };
    struct route_match match;

    arena_init(&arena, memory, sizeof memory);
    assert_int_equal(ask(list, COUNT(list), "GET", "/b", &match), ROUTE_NONE);
    assert_int_equal(ask(list, COUNT(list), "PUT", "/a/b", &match), ROUTE_NO_METHOD);
    assert_true(slice_equal(match.allow, SLICE("GET, POST, PROPFIND")));
    assert_int_equal(ask(list, COUNT(list), "PUT", "/a", &match), ROUTE_NO_METHOD);
    assert_true(slice_equal(match.allow, SLICE("GET, POST")));
    assert_int_equal(ask(list, COUNT(list), "OPTIONS", "*", &match), ROUTE_NONE);
    assert_int_equal(ask(list, 0, "GET", "/a", &match), ROUTE_NONE);
    arena_deinit(&arena);
}

static void an_ambiguous_path_is_refused(void **state) {
    struct config_route list[] = {{.listener = 0}};
    struct route_match match;

    arena_init(&arena, memory, sizeof memory);
    assert_int_equal(ask(list, 1, "GET", "/a%2fb", &match), ROUTE_BAD_TARGET);
    assert_string_equal(match.why, "path has an encoded slash, backslash or NUL");
    assert_int_equal(ask(list, 1, "GET", "/x/../a", &match), ROUTE_FOUND);
    assert_true(slice_equal(match.path, SLICE("/a")));
    arena_deinit(&arena);
}

static void hosts_of_any_length_are_looked_up(void **state) {
    char host[1024];
    struct route_table *table = route_table_new(&config);
    struct route_match match;

    for (size_t len = 200; len < sizeof host; len += 7) {
        struct request_head head;

        for (size_t i = 0; i < len; i++)
            host[i] = i % 2 ? '.' : 'a';
        memcpy(host + len - 12, ".example.com", 12);
        arena_init(&arena, memory, sizeof memory);
        head = make("GET", "", "/", NULL);
        head.authority = slice_of(host, len);
        assert_int_equal(route_match(table, 0, &head, &arena, &match), ROUTE_FOUND);
        assert_int_equal(match.index, len <= 255 ? 8 : 0);
        arena_deinit(&arena);
    }
    route_table_free(table);
}

static void thousands_of_routes_are_all_found(void **state) {
    enum { MANY = 5000 };
    static struct config_route many[MANY];
    static char paths[MANY][32], hosts[MANY][32];
    struct config own = {
        .listeners = listeners, .listener_count = 1, .routes = many, .route_count = MANY};
    struct route_table *table;

    for (size_t i = 0; i < MANY; i++) {
        snprintf(paths[i], sizeof paths[i], "/p%zu/q", i);
        snprintf(hosts[i], sizeof hosts[i], "%sh%zu.test", i % 3 == 1 ? "*." : "", i % 100);
        many[i] = (struct config_route){.path = paths[i], .host = i % 3 ? hosts[i] : NULL};
    }
    table = route_table_new(&own);
    for (size_t i = 0; i < MANY; i++) {
        struct request_head head;
        struct route_match match;
        char target[48], host[48];

        snprintf(target, sizeof target, "%s/x", paths[i]);
        snprintf(host, sizeof host, "%sh%zu.test", i % 3 == 1 ? "w." : "", i % 100);
        arena_init(&arena, memory, sizeof memory);
        head = make("GET", host, target, NULL);
        assert_int_equal(route_match(table, 0, &head, &arena, &match), ROUTE_FOUND);
        assert_int_equal(match.index, i);
        arena_deinit(&arena);
    }
    route_table_free(table);
}

int main(void) {
    struct CMUnitTest tests[COUNT(rows) + 4] = {
        cmocka_unit_test(nothing_matches_is_told_from_the_wrong_method),
        cmocka_unit_test(an_ambiguous_path_is_refused),
        cmocka_unit_test(hosts_of_any_length_are_looked_up),
        cmocka_unit_test(thousands_of_routes_are_all_found),
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        tests[4 + i] =
            (struct CMUnitTest){rows[i].promise, check, NULL, NULL, (void *)(uintptr_t)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
