/* How many connections each client address has, against one bound for all. IPv6 clients count by
 * their /64, which is what one client is given; unix sockets do not count. Home: shared. */
#pragma once

#include "transport/conn.h"

#include <pthread.h>

struct address_entry;

struct addresses {
    pthread_mutex_t lock; /* guards entries */
    struct address_entry *entries;
    size_t mask;    /* slots - 1; slots is a power of two */
    uint64_t seed;  /* nobody outside can tell which addresses meet in a slot */
    unsigned limit; /* connections of one address; 0: no bound, and nothing is counted */
};

/* @capacity: connections that there can be at once. */
void addresses_init(struct addresses *addresses, unsigned limit, unsigned capacity);
void addresses_deinit(struct addresses *addresses);

/* Counts a connection of @address; false when it has as many as it may. Any thread. */
bool addresses_enter(struct addresses *addresses, const union conn_address *address);

/* One that was counted is gone. Any thread. */
void addresses_leave(struct addresses *addresses, const union conn_address *address);

/* One number for each address, or /64. False: it is that of a unix socket. */
bool addresses_key(const union conn_address *address, uint64_t *key);
