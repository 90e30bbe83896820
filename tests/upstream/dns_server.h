/* A small DNS server on a loopback port and a thread of its own: what it answers can be changed at
 * any time, and what it was asked can be awaited. UDP, and TCP for what does not fit. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_RECORDS_MAX 40

enum dns_mode {
    DNS_ANSWER,
    DNS_NXDOMAIN,
    DNS_SERVFAIL,
    DNS_REFUSED,
    DNS_SILENCE,
    DNS_EVERY_OTHER, /* no data, then the addresses, then no data, ... */
};
enum dns_type { DNS_A, DNS_AAAA, DNS_TYPE_COUNT };

/* What there is of one type. Addresses in text; none and DNS_ANSWER: no data. */
struct dns_records {
    enum dns_mode mode;
    uint32_t ttl_s;
    const char *addresses[DNS_RECORDS_MAX];
};

struct dns_server;

/* @family: of the loopback address. NULL when there is none of it. */
struct dns_server *dns_server_open(int family);
void dns_server_close(struct dns_server *server);
uint16_t dns_server_port(const struct dns_server *server);

/* Everything about @name (static text) from now on. Names that were never set do not exist. With
 * @cname (or NULL) the records are those of that other name. */
void dns_server_set(struct dns_server *server, const char *name, enum dns_type type,
                    struct dns_records records);
void dns_server_alias(struct dns_server *server, const char *name, const char *cname,
                      uint32_t ttl_s);
/* Overrides every name while it is not DNS_ANSWER. */
void dns_server_set_all(struct dns_server *server, enum dns_mode mode);
/* Begins each answer one record further on. */
void dns_server_rotate(struct dns_server *server);

/* Waits until @name (NULL: any) was asked for @type @count times in all; the moment of the last of
 * these by clock_now_ns(), or -1 after @timeout_ns. At most 64 moments of a name are kept. */
int64_t dns_server_await(struct dns_server *server, const char *name, enum dns_type type,
                         size_t count, int64_t timeout_ns);
size_t dns_server_asked(struct dns_server *server, const char *name, enum dns_type type);
bool dns_server_spoke_tcp(struct dns_server *server);
