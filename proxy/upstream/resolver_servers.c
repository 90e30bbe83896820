/* Name servers from a list, or the system's within our limit. */
#include "upstream/resolver_servers.h"

#include "upstream/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int set_listed(struct ares_channeldata *ares, const char *servers);
static int trim_systems(struct ares_channeldata *ares);
static int parse(struct ares_addr_port_node *node, const char *text, size_t len);
static int errno_of(int status);

int resolver_servers_set(struct ares_channeldata *ares, const char *servers) {
    return servers != NULL ? set_listed(ares, servers) : trim_systems(ares);
}

/* c-ares has a parser of its own (ares_set_servers_ports_csv), which takes an empty list, a
 * trailing comma, and port 99999 as 34463. */
static int set_listed(struct ares_channeldata *ares, const char *servers) {
    struct ares_addr_port_node nodes[RESOLVER_SERVERS_MAX] = {0};
    size_t count = 0;

    for (const char *at = servers;; count++) {
        size_t len = strcspn(at, ",");

        if (count == RESOLVER_SERVERS_MAX || parse(&nodes[count], at, len))
            return -EINVAL;
        if (count > 0)
            nodes[count - 1].next = &nodes[count];
        if (at[len] == '\0')
            break;
        at += len + 1;
    }
    return errno_of(ares_set_servers_ports(ares, nodes));
}

static int trim_systems(struct ares_channeldata *ares) {
    struct ares_addr_port_node *first = NULL, *node, *rest;
    int status = ares_get_servers_ports(ares, &first);

    if (status != ARES_SUCCESS)
        return errno_of(status);
    node = first;
    for (int i = 1; node != NULL && i < RESOLVER_SERVERS_MAX; i++)
        node = node->next;
    if (node != NULL && node->next != NULL) {
        rest = node->next;
        node->next = NULL;
        status = ares_set_servers_ports(ares, first);
        node->next = rest; /* c-ares frees one list */
    }
    ares_free_data(first);
    return errno_of(status);
}

/* "1.2.3.4", "1.2.3.4:53", "::1", "[::1]", "[::1]:53", spaces around it. */
static int parse(struct ares_addr_port_node *node, const char *text, size_t len) {
    char host[INET6_ADDRSTRLEN + sizeof "[]:65535"];
    char *port = NULL, *address = host;
    long number = 0;

    for (; len > 0 && *text == ' '; len--)
        text++;
    while (len > 0 && text[len - 1] == ' ')
        len--;
    if (len == 0 || len >= sizeof host)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';

    if (host[0] == '[') {
        char *end = strchr(host, ']');

        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
        address++;
    } else if (strchr(host, ':') != NULL && strchr(host, ':') == strrchr(host, ':')) {
        port = strchr(host, ':') + 1;
        port[-1] = '\0';
    }

    if (port != NULL) {
        size_t digits = strspn(port, "0123456789");

        number = strtol(port, NULL, 10);
        if (digits == 0 || digits > 5 || port[digits] != '\0' || number < 1 || number > UINT16_MAX)
            return -EINVAL;
    }
    node->udp_port = node->tcp_port = (int)number; /* 0: the usual one */
    node->family = AF_INET;
    if (address == host && inet_pton(AF_INET, address, &node->addr.addr4) == 1)
        return 0;
    node->family = AF_INET6;
    return inet_pton(AF_INET6, address, &node->addr.addr6) == 1 ? 0 : -EINVAL;
}

static int errno_of(int status) {
    return status == ARES_SUCCESS ? 0 : status == ARES_ENOMEM ? -ENOMEM : -EIO;
}
