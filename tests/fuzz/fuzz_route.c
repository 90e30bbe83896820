/* Paths and routes. Input: a byte for method and field, the host, a NUL, the target. Invariants: a
 * normalised path is normal (no dot segments, no empty ones, nothing encoded that need not be) and
 * stays as it is when normalised again; the table agrees with a search through all routes. */
#include "route/route.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define S(text) ((char[]){text})

static char *get[] = {S("GET")}, *post[] = {S("POST")};
static struct config_field_match field[] = {{S("x"), NULL}};
static struct config_route routes[] = {
    {.path = S("/a")},
    {.path = S("/a/b"), .methods = get, .method_count = 1},
    {.path = S("/a/b/"), .methods = post, .method_count = 1},
    {.exact = S("/a/b")},
    {.exact = S("/"), .fields = field, .field_count = 1},
    {.path = S("/a"), .fields = field, .field_count = 1},
    {.host = S("a.b"), .path = S("/")},
    {.host = S("*.b"), .path = S("/a/b")},
    {.host = S("*.a.b"), .exact = S("/a")},
    {.host = S("*.a.b"), .path = S("/a"), .methods = post, .method_count = 1},
    {.host = S("[::1]")},
};
#define COUNT (sizeof routes / sizeof *routes)

static struct config_listener listener;
static const struct config config = {
    .listeners = &listener, .listener_count = 1, .routes = routes, .route_count = COUNT};

/* 0: does not match; otherwise the more specific the larger. */
static unsigned host_rank(const char *want, struct slice host) {
    struct slice tail;

    if (!want)
        return 1;
    if (want[0] != '*')
        return slice_equal_case(slice_str(want), host) ? 1000 : 0;
    tail = slice_str(want + 1);
    if (host.len <= tail.len || !slice_equal_case(slice_skip(host, host.len - tail.len), tail))
        return 0;
    return 1 + (unsigned)tail.len;
}

static unsigned path_rank(const struct config_route *route, struct slice path) {
    struct slice want = slice_str(route->path);

    if (route->exact)
        return slice_equal(slice_str(route->exact), path) ? 1000 : 0;
    if (!route->path)
        return 1;
    if (!slice_starts(path, want))
        return 0;
    if (path.len > want.len && path.base[want.len] != '/' && want.base[want.len - 1] != '/')
        return 0;
    return 1 + (unsigned)want.len;
}

static const struct config_route *search(struct slice host, struct slice path, bool is_get,
                                         bool has_field) {
    const struct config_route *best = NULL;
    uint64_t best_rank = 0;

    for (size_t i = 0; i < COUNT; i++) {
        const struct config_route *route = &routes[i];
        uint64_t rank = host_rank(route->host, host), part = path_rank(route, path);

        if (rank == 0 || part == 0 || (route->field_count > 0 && !has_field) ||
            (route->method_count > 0 && (route->methods == get) != is_get))
            continue;
        rank = rank << 32 | part << 16 | route->field_count << 8 | (route->method_count > 0) << 7;
        if (rank > best_rank) {
            best_rank = rank;
            best = route;
        }
    }
    return best;
}

static bool has(struct slice path, const char *text) {
    return memmem(path.base, path.len, text, strlen(text)) != NULL;
}

static void check_path(struct slice path, struct arena *arena) {
    struct slice again;
    const char *why;

    assert(path.len > 0 && path.base[0] == '/');
    assert(!has(path, "//") && !has(path, "/../") && !has(path, "/./"));
    assert(!has(path, "%2F") && !has(path, "%2f") && !has(path, "%00") && !has(path, "\\"));
    assert(!(path.len >= 3 && memcmp(path.base + path.len - 3, "/..", 3) == 0));
    assert(!(path.len >= 2 && memcmp(path.base + path.len - 2, "/.", 2) == 0));
    assert(route_normalise_path(path, arena, &again, &why) && slice_equal(path, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct route_table *table;
    struct request_head head = {.form = TARGET_ORIGIN};
    struct route_match match;
    struct slice path, host;
    struct arena arena;
    char memory[1024];
    const char *why, *nul;
    bool is_get, has_field;

    if (!table)
        table = route_table_new(&config);
    nul = size > 0 ? memchr(data + 1, '\0', size - 1) : NULL;
    if (!nul)
        return 0;
    head.authority = slice_of((const char *)data + 1, (size_t)(nul - (const char *)data) - 1);
    head.path = slice_of(nul + 1, size - head.authority.len - 2);
    is_get = data[0] & 1;
    has_field = data[0] & 2;
    head.method_text = is_get ? SLICE("GET") : SLICE("POST");
    head.method = method_of(head.method_text);
    arena_init(&arena, memory, sizeof memory);
    if (has_field)
        fields_add(&head.fields, &arena, FIELD_OTHER, SLICE("X"), SLICE(""));

    if (!route_normalise_path(head.path, &arena, &path, &why)) {
        assert(route_match(table, 0, &head, &arena, &match) == ROUTE_BAD_TARGET);
        arena_deinit(&arena);
        return 0;
    }
    check_path(path, &arena);
    host = head.authority;
    while (host.len > 0 && host.base[host.len - 1] >= '0' && host.base[host.len - 1] <= '9')
        host.len--;
    host.len = host.len > 0 && host.base[host.len - 1] == ':' ? host.len - 1 : head.authority.len;
    if (host.len > 0 && host.base[host.len - 1] == '.')
        host.len--;
    if (host.len > 255)
        host.len = 0;
    match.route = NULL;
    if (route_match(table, 0, &head, &arena, &match) != ROUTE_FOUND)
        match.route = NULL;
    assert(match.route == search(host, path, is_get, has_field));
    arena_deinit(&arena);
    return 0;
}
