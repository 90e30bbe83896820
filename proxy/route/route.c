/* The route table. Rules are sorted into buckets: all rules of one listener, host and path, the
 * most specific first. Two hash maps lead to them: (listener, host) to a node, (node, path) to a
 * bucket. A host is looked up whole and from each of its dots on, a path whole and at each border
 * of a segment; a node remembers which lengths of path it has, so that most borders cost nothing.
 */
#include "route/route.h"

#include "base/alloc.h"
#include "base/arena.h"

#include <assert.h>
#include <stdlib.h>

#define HOST_MAX 255 /* bytes (RFC 1035 section 2.3.4); a longer host is like an unknown one */
#define NODES_MAX (HOST_MAX + 2) /* a host, its ends, any host */
#define NOTHING UINT32_MAX

enum host_kind { HOST_EXACT, HOST_WILD, HOST_KINDS };
enum path_kind { PATH_PREFIX, PATH_EXACT, PATH_KINDS };

struct slot {
    uint64_t hash;
    struct slice key; /* borrowed: config, or the table's arena */
    uint32_t scope;   /* what the key is looked up in */
    uint32_t value;   /* NOTHING: the slot is free */
};

struct map {
    struct slot *slots; /* owned */
    uint32_t mask;
};

struct rule {
    const struct config_route *route; /* borrowed: config */
    struct slice path;                /* of the bucket; "" for any path */
    uint32_t node;
    enum path_kind kind;
    uint32_t methods; /* bit per enum method; 0: any */
    bool is_last;     /* of its bucket */
};

/* A host of a listener. */
struct node {
    uint64_t lengths[PATH_KINDS]; /* bit n: a path of n modulo 64 bytes is there */
    size_t longest_prefix;        /* bytes */
    bool has_hosts;               /* on the node of any host: others are there too */
};

struct route_table {
    const struct config *config; /* borrowed */
    struct map hosts;            /* scope: listener and host kind; value: node */
    struct map paths;            /* scope: node and path kind; value: first rule */
    struct node *nodes;          /* owned; those of any host first, one per listener */
    uint32_t node_count;
    struct rule *rules; /* owned */
    uint32_t rule_count;
    struct arena arena; /* paths that were not normalised */
    max_align_t first[4];
};

/* What is asked of the table. */
struct question {
    const struct request_head *head;
    struct slice path; /* "" for a request without one */
    bool is_grpc;
    bool has_wrong_method;
    bool wants_allow;
    struct slice allow;
    struct arena *arena;
};

static void map_init(struct map *map, size_t count);
static void map_put(struct map *map, uint32_t scope, struct slice key, uint64_t hash,
                    uint32_t value);
static uint32_t map_get(const struct map *map, uint32_t scope, struct slice key, uint64_t hash);
static uint64_t hash_step(uint64_t hash, char c);
static uint64_t hash_path(struct slice path);
static uint64_t hash_host(struct slice host);
static void add_rule(struct route_table *table, size_t listener, const struct config_route *route);
static uint32_t add_node(struct route_table *table, size_t listener, const char *host);
static int compare_rules(const void *left, const void *right);
static struct slice host_of(struct slice authority, char *to);
static size_t find_nodes(const struct route_table *table, size_t listener, struct slice authority,
                         uint32_t *nodes);
static const struct rule *ask_node(const struct route_table *table, uint32_t id,
                                   struct question *q);
static bool has_length(const struct node *node, enum path_kind kind, size_t len);
static const struct rule *ask_bucket(const struct route_table *table, uint32_t node,
                                     enum path_kind kind, size_t len, uint64_t hash,
                                     struct question *q);
static bool is_grpc_web(const struct rule *rule, const struct question *q);
static bool has_fields(const struct config_route *route, const struct fields *fields);
static bool has_method(const struct rule *rule, const struct request_head *head);
static void allow(struct question *q, const struct config_route *route);

static const uint64_t HASH_START = UINT64_C(0xcbf29ce484222325);

struct route_table *route_table_new(const struct config *config) {
    size_t listeners = config->listener_count, rules = config->route_count * listeners;
    struct route_table *table = xcalloc(1, sizeof *table);

    assert(listeners > 0 && rules < NOTHING / HOST_KINDS);
    table->config = config;
    arena_init(&table->arena, table->first, sizeof table->first);
    map_init(&table->hosts, rules);
    map_init(&table->paths, rules);
    table->nodes = xcalloc(listeners + rules, sizeof *table->nodes);
    table->node_count = (uint32_t)listeners;
    table->rules = xcalloc(rules, sizeof *table->rules);
    for (size_t i = 0; i < config->route_count; i++)
        for (size_t listener = 0; listener < listeners; listener++)
            if (config->routes[i].listener == listener ||
                config->routes[i].listener == CONFIG_ANY_LISTENER)
                add_rule(table, listener, &config->routes[i]);

    qsort(table->rules, table->rule_count, sizeof *table->rules, compare_rules);
    for (uint32_t i = 0; i < table->rule_count; i++) {
        struct rule *rule = &table->rules[i], *next = rule + 1;
        struct node *node = &table->nodes[rule->node];
        uint32_t scope = rule->node * PATH_KINDS + rule->kind;
        uint64_t hash = hash_path(rule->path);

        rule->is_last = i + 1 == table->rule_count || next->node != rule->node ||
                        next->kind != rule->kind || !slice_equal(next->path, rule->path);
        if (map_get(&table->paths, scope, rule->path, hash) == NOTHING)
            map_put(&table->paths, scope, rule->path, hash, i);
        node->lengths[rule->kind] |= UINT64_C(1) << (rule->path.len & 63);
        if (rule->kind == PATH_PREFIX && rule->path.len > node->longest_prefix)
            node->longest_prefix = rule->path.len;
    }
    return table;
}

void route_table_free(struct route_table *table) {
    if (!table)
        return;
    arena_deinit(&table->arena);
    free(table->hosts.slots);
    free(table->paths.slots);
    free(table->nodes);
    free(table->rules);
    free(table);
}

enum route_outcome route_match(const struct route_table *table, size_t listener,
                               const struct request_head *head, struct arena *arena,
                               struct route_match *match) {
    bool has_path = head->form == TARGET_ORIGIN || head->form == TARGET_ABSOLUTE;
    struct question q = {.head = head,
                         .path = SLICE(""),
                         .is_grpc = request_is_grpc(head),
                         .allow = SLICE(""),
                         .arena = arena};
    const struct rule *rule = NULL;
    uint32_t nodes[NODES_MAX];
    size_t count;

    if (has_path && !route_normalise_path(head->path, arena, &q.path, &match->why))
        return ROUTE_BAD_TARGET;
    count = find_nodes(table, listener, head->authority, nodes);
    for (size_t i = 0; i < count && !rule; i++)
        rule = ask_node(table, nodes[i], &q);
    if (rule) {
        match->route = rule->route;
        match->index = (size_t)(rule->route - table->config->routes);
        match->path = has_path ? q.path : head->path;
        return ROUTE_FOUND;
    }
    if (!q.has_wrong_method)
        return ROUTE_NONE;
    q.wants_allow = true;
    for (size_t i = 0; i < count; i++)
        ask_node(table, nodes[i], &q);
    match->allow = q.allow;
    return ROUTE_NO_METHOD;
}

static void map_init(struct map *map, size_t count) {
    size_t size = 4;

    while (size < count * 2)
        size *= 2;
    map->slots = xcalloc(size, sizeof *map->slots);
    map->mask = (uint32_t)size - 1;
    for (size_t i = 0; i < size; i++)
        map->slots[i].value = NOTHING;
}

/* FNV-1a. Only the configuration puts keys in, so nobody can flood it. */
static uint64_t hash_step(uint64_t hash, char c) {
    return (hash ^ (uint8_t)c) * UINT64_C(0x100000001b3);
}

static uint64_t hash_path(struct slice path) {
    uint64_t hash = HASH_START;

    for (size_t i = 0; i < path.len; i++)
        hash = hash_step(hash, path.base[i]);
    return hash;
}

/* From its end, so that one pass over a host has the hashes of all its ends. */
static uint64_t hash_host(struct slice host) {
    uint64_t hash = HASH_START;

    for (size_t i = host.len; i-- > 0;)
        hash = hash_step(hash, host.base[i]);
    return hash;
}

static uint32_t slot_at(const struct map *map, uint32_t scope, uint64_t hash) {
    return (uint32_t)((hash ^ scope * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & map->mask;
}

static void map_put(struct map *map, uint32_t scope, struct slice key, uint64_t hash,
                    uint32_t value) {
    uint32_t at = slot_at(map, scope, hash);

    while (map->slots[at].value != NOTHING)
        at = (at + 1) & map->mask;
    map->slots[at] = (struct slot){hash, key, scope, value};
}

static uint32_t map_get(const struct map *map, uint32_t scope, struct slice key, uint64_t hash) {
    uint32_t at = slot_at(map, scope, hash);

    for (; map->slots[at].value != NOTHING; at = (at + 1) & map->mask) {
        const struct slot *slot = &map->slots[at];

        if (slot->hash == hash && slot->scope == scope && slice_equal(slot->key, key))
            return slot->value;
    }
    return NOTHING;
}

static void add_rule(struct route_table *table, size_t listener, const struct config_route *route) {
    struct rule *rule = &table->rules[table->rule_count++];
    const char *why;

    rule->route = route;
    rule->node = route->host ? add_node(table, listener, route->host) : (uint32_t)listener;
    rule->kind = route->exact ? PATH_EXACT : PATH_PREFIX;
    rule->path = slice_str(route->exact ? route->exact : route->path ? route->path : "");
    if (rule->path.len > 0)
        route_normalise_path(rule->path, &table->arena, &rule->path, &why);
    for (size_t i = 0; i < route->method_count; i++)
        rule->methods |= 1U << method_of(slice_str(route->methods[i]));
}

static uint32_t add_node(struct route_table *table, size_t listener, const char *host) {
    enum host_kind kind = host[0] == '*' && host[1] == '.' ? HOST_WILD : HOST_EXACT;
    uint32_t scope = (uint32_t)listener * HOST_KINDS + kind;
    struct slice key = slice_str(kind == HOST_WILD ? host + 2 : host);
    uint32_t node = map_get(&table->hosts, scope, key, hash_host(key));

    if (node == NOTHING) {
        node = table->node_count++;
        map_put(&table->hosts, scope, key, hash_host(key), node);
        table->nodes[listener].has_hosts = true;
    }
    return node;
}

/* By bucket; within one the most specific first. */
static int compare_rules(const void *left, const void *right) {
    const struct rule *a = left, *b = right;
    size_t len = a->path.len < b->path.len ? a->path.len : b->path.len;
    int order;

    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    order = len > 0 ? memcmp(a->path.base, b->path.base, len) : 0;
    if (order != 0)
        return order;
    if (a->path.len != b->path.len)
        return a->path.len < b->path.len ? -1 : 1;
    if (a->route->is_grpc != b->route->is_grpc)
        return a->route->is_grpc ? -1 : 1;
    if (a->route->field_count != b->route->field_count)
        return a->route->field_count > b->route->field_count ? -1 : 1;
    if ((a->methods != 0) != (b->methods != 0))
        return a->methods != 0 ? -1 : 1;
    return a->route < b->route ? -1 : a->route > b->route;
}

/* In lower case in @to (HOST_MAX bytes), without port and final dot; "" when it is too long. */
static struct slice host_of(struct slice authority, char *to) {
    size_t len = authority.len;

    while (len > 0 && authority.base[len - 1] >= '0' && authority.base[len - 1] <= '9')
        len--;
    len = len > 0 && authority.base[len - 1] == ':' ? len - 1 : authority.len;
    if (len > 0 && authority.base[len - 1] == '.')
        len--;
    if (len > HOST_MAX)
        return SLICE("");
    for (size_t i = 0; i < len; i++) {
        char c = authority.base[i];

        to[i] = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
    }
    return slice_of(to, len);
}

/* The nodes that are responsible for a host, most specific first. */
static size_t find_nodes(const struct route_table *table, size_t listener, struct slice authority,
                         uint32_t *nodes) {
    uint32_t scope = (uint32_t)listener * HOST_KINDS, wild[NODES_MAX], node;
    size_t count = 0, wild_count = 0;
    uint64_t hash = HASH_START;
    char lower[HOST_MAX];
    struct slice host;

    if (table->nodes[listener].has_hosts) {
        host = host_of(authority, lower);
        for (size_t i = host.len; i-- > 0;) {
            if (host.base[i] == '.' && i > 0) {
                node = map_get(&table->hosts, scope + HOST_WILD, slice_skip(host, i + 1), hash);
                if (node != NOTHING)
                    wild[wild_count++] = node;
            }
            hash = hash_step(hash, host.base[i]);
        }
        node = map_get(&table->hosts, scope + HOST_EXACT, host, hash);
        if (node != NOTHING)
            nodes[count++] = node;
        while (wild_count > 0)
            nodes[count++] = wild[--wild_count];
    }
    nodes[count++] = (uint32_t)listener;
    return count;
}

/* A prefix ends where the path does, in a slash, or before one. Longer ones are met later and win.
 */
static const struct rule *ask_node(const struct route_table *table, uint32_t id,
                                   struct question *q) {
    const struct rule *best = ask_bucket(table, id, PATH_PREFIX, 0, HASH_START, q), *rule;
    size_t longest = table->nodes[id].longest_prefix, len = q->path.len;
    const char *path = q->path.base;
    uint64_t hash = HASH_START;

    for (size_t n = 1; n <= len && n <= longest; n++) {
        hash = hash_step(hash, path[n - 1]);
        if ((path[n - 1] == '/' || n == len || path[n] == '/') &&
            (rule = ask_bucket(table, id, PATH_PREFIX, n, hash, q)))
            best = rule;
    }
    if (len > 0 && has_length(&table->nodes[id], PATH_EXACT, len) &&
        (rule = ask_bucket(table, id, PATH_EXACT, len, hash_path(q->path), q)))
        best = rule;
    return best;
}

static bool has_length(const struct node *node, enum path_kind kind, size_t len) {
    return node->lengths[kind] >> (len & 63) & 1;
}

/* The first rule of the bucket for the first @len bytes of the path that matches. */
static const struct rule *ask_bucket(const struct route_table *table, uint32_t node,
                                     enum path_kind kind, size_t len, uint64_t hash,
                                     struct question *q) {
    const struct rule *rule;
    uint32_t first;

    if (!has_length(&table->nodes[node], kind, len))
        return NULL;
    first = map_get(&table->paths, node * PATH_KINDS + kind, slice_of(q->path.base, len), hash);
    if (first == NOTHING)
        return NULL;
    for (rule = &table->rules[first];; rule++) {
        if ((!rule->route->is_grpc || q->is_grpc || is_grpc_web(rule, q)) &&
            has_fields(rule->route, &q->head->fields)) {
            if (has_method(rule, q->head))
                return rule;
            q->has_wrong_method = true;
            if (q->wants_allow)
                allow(q, rule->route);
        }
        if (rule->is_last)
            return NULL;
    }
}

/* Is it a gRPC call by the time that it is sent on? */
static bool is_grpc_web(const struct rule *rule, const struct question *q) {
    return rule->route->is_grpc_web && request_is_grpc_web(q->head);
}

static bool has_fields(const struct config_route *route, const struct fields *fields) {
    for (size_t i = 0; i < route->field_count; i++) {
        struct slice value = slice_str(route->fields[i].value);
        const struct field *field = fields_find_name(fields, slice_str(route->fields[i].name));

        while (field && value.base && !slice_equal(field->value, value))
            field = fields_find_next(fields, field);
        if (!field)
            return false;
    }
    return true;
}

static bool has_method(const struct rule *rule, const struct request_head *head) {
    if (rule->methods == 0)
        return true;
    if (!(rule->methods >> head->method & 1))
        return false;
    if (head->method != METHOD_OTHER)
        return true;
    for (size_t i = 0; i < rule->route->method_count; i++)
        if (slice_equal(slice_str(rule->route->methods[i]), head->method_text))
            return true;
    return false;
}

static void allow(struct question *q, const struct config_route *route) {
    for (size_t i = 0; i < route->method_count; i++)
        if (!slice_list_has(q->allow, slice_str(route->methods[i])))
            q->allow = arena_printf(q->arena, "%.*s%s%s", SLICE_ARG(q->allow),
                                    q->allow.len > 0 ? ", " : "", route->methods[i]);
}
