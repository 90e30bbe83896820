/* A table with open addressing: linear probing, and on removal the run behind moves up, so that it
 * never fills with graves. It has twice the slots that can be in use. */
#include "transport/addresses.h"

#include "base/alloc.h"
#include "base/random.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>

struct address_entry {
    /* IPv6: the first half as a number; IPv4: the address, which as such a half would lie in ::/32,
     * where no client is. */
    uint64_t key;
    unsigned count; /* 0: the slot is free */
};

static size_t home_of(const struct addresses *addresses, uint64_t key);
static size_t find(const struct addresses *addresses, uint64_t key);
static void free_slot(struct addresses *addresses, size_t hole);

void addresses_init(struct addresses *addresses, unsigned limit, unsigned capacity) {
    size_t slots = 2;

    *addresses = (struct addresses){.limit = limit, .seed = random_next() | 1};
    pthread_mutex_init(&addresses->lock, NULL);
    if (limit == 0)
        return;
    while (slots < 2 * (size_t)capacity)
        slots *= 2;
    addresses->mask = slots - 1;
    addresses->entries = xcalloc(slots, sizeof *addresses->entries);
}

void addresses_deinit(struct addresses *addresses) {
    free(addresses->entries);
    pthread_mutex_destroy(&addresses->lock);
}

bool addresses_enter(struct addresses *addresses, const union conn_address *address) {
    struct address_entry *entry;
    uint64_t key;
    bool may;

    if (addresses->limit == 0 || !addresses_key(address, &key))
        return true;
    pthread_mutex_lock(&addresses->lock);
    entry = &addresses->entries[find(addresses, key)];
    may = entry->count < addresses->limit;
    entry->key = key;
    entry->count += may;
    pthread_mutex_unlock(&addresses->lock);
    return may;
}

void addresses_leave(struct addresses *addresses, const union conn_address *address) {
    uint64_t key;
    size_t at;

    if (addresses->limit == 0 || !addresses_key(address, &key))
        return;
    pthread_mutex_lock(&addresses->lock);
    at = find(addresses, key);
    assert(addresses->entries[at].count > 0);
    if (--addresses->entries[at].count == 0)
        free_slot(addresses, at);
    pthread_mutex_unlock(&addresses->lock);
}

bool addresses_key(const union conn_address *address, uint64_t *key) {
    const struct in6_addr *in6 = &address->in6.sin6_addr;
    uint32_t ipv4;

    if (address->any.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(in6)) {
        memcpy(key, in6->s6_addr, sizeof *key);
        *key = be64toh(*key);
        return true;
    }
    if (address->any.sa_family == AF_INET)
        ipv4 = address->in.sin_addr.s_addr;
    else if (address->any.sa_family == AF_INET6)
        memcpy(&ipv4, in6->s6_addr + 12, sizeof ipv4);
    else
        return false;
    *key = ntohl(ipv4);
    return true;
}

static size_t home_of(const struct addresses *addresses, uint64_t key) {
    uint64_t mixed = (key ^ addresses->seed) * UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ (mixed >> 32)) * addresses->seed;
    return (size_t)(mixed >> 32) & addresses->mask;
}

/* The slot of @key, or the free one where it belongs. */
static size_t find(const struct addresses *addresses, uint64_t key) {
    size_t at = home_of(addresses, key);

    while (addresses->entries[at].count > 0 && addresses->entries[at].key != key)
        at = (at + 1) & addresses->mask;
    return at;
}

/* Moves up what stands behind @hole and would not be found past it. */
static void free_slot(struct addresses *addresses, size_t hole) {
    size_t mask = addresses->mask;

    for (size_t at = (hole + 1) & mask; addresses->entries[at].count > 0; at = (at + 1) & mask) {
        size_t home = home_of(addresses, addresses->entries[at].key);

        if (((at - home) & mask) < ((at - hole) & mask))
            continue; /* its home lies behind the hole */
        addresses->entries[hole] = addresses->entries[at];
        hole = at;
    }
    addresses->entries[hole].count = 0;
}
