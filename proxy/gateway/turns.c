/* A client is its address (IPv6: its /64), or the one that a trusted client says it forwards for.
 * Numbers that are made from text are seeded, so that nobody can choose to be somebody else. */
#include "gateway/turns.h"

#include "base/random.h"
#include "transport/addresses.h"

static uint64_t number_of(struct slice text);
static struct slice last_of(struct slice list);

enum config_priority turns_priority(const struct crossing *c) {
    static const struct {
        struct slice word;
        enum config_priority priority;
    } words[] = {
        {{"critical", 8}, PRIORITY_CRITICAL},
        {{"default", 7}, PRIORITY_DEFAULT},
        {{"background", 10}, PRIORITY_BACKGROUND},
    };
    const char *name = c->part->shared->config->queue.priority_field;
    const struct field *field;

    if (!name || !c->is_trusted)
        return c->route->priority;
    field = fields_find_name(&c->x.request_head.fields, slice_str(name));
    for (size_t i = 0; field && i < sizeof words / sizeof *words; i++)
        if (slice_equal_case(field->value, words[i].word))
            return words[i].priority;
    return c->route->priority;
}

uint64_t turns_client(const struct crossing *c) {
    const struct config_pipeline *config = c->part->shared->config;
    const struct fields *fields = &c->x.request_head.fields;
    const struct field *field = NULL, *next;
    uint64_t key;

    if (config->queue.fair == FAIR_NONE)
        return 0;
    if (config->queue.fair == FAIR_FIELD)
        field = fields_find_name(fields, slice_str(config->queue.fair_field));
    if (field)
        return number_of(field->value);
    if (c->is_trusted) {
        for (next = fields_find(fields, FIELD_X_FORWARDED_FOR); next;
             next = fields_find_next(fields, next))
            field = next;
        if (field)
            return number_of(last_of(field->value));
    }
    /* Clients of a unix socket are one. */
    if (!addresses_key((const union conn_address *)c->x.client_address, &key))
        return 1;
    return key + 2;
}

static uint64_t number_of(struct slice text) {
    static _Atomic uint64_t seed;
    uint64_t hash = atomic_load_explicit(&seed, memory_order_relaxed), none = 0;

    if (hash == 0) {
        hash = random_next() | 1;
        if (!atomic_compare_exchange_strong(&seed, &none, hash))
            hash = none;
    }
    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ (unsigned char)text.base[i]) * UINT64_C(0x100000001b3);
        hash ^= hash >> 29;
    }
    return hash ? hash : 1;
}

/* "a, b": b. */
static struct slice last_of(struct slice list) {
    size_t start = list.len;

    while (start > 0 && list.base[start - 1] != ',')
        start--;
    while (start < list.len && (list.base[start] == ' ' || list.base[start] == '\t'))
        start++;
    return slice_skip(list, start);
}
