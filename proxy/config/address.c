/* Addresses: split at the last colon, then tried as IPv4, bracketed IPv6, name. */
#include "config/address.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>

static const char expected_listen[] = "an address to listen on such as \":8080\", "
                                      "\"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"";
static const char expected_dial[] =
    "an address to dial such as \"127.0.0.1:8080\", \"[::1]:8080\", "
    "\"name:8080\" or \"unix:/path\"";
static const char expected_port[] = "a port from 1 to 65535";

static const char *parse_unix(struct config_address *address, struct slice path);
static bool parse_host(struct config_address *address, struct slice host);
static bool parse_port(struct slice text, uint16_t *port);
static void guess_another(struct slice text, enum address_use use, struct buffer *guess);
static bool is_unspecified(const struct config_address *address);
static const void *ip_of(const struct config_address *address, size_t *len);

const char *address_parse(struct config_address *out, struct slice text, enum address_use use,
                          struct buffer *guess) {
    struct config_address address = {0};
    const char *colon = text.len ? memrchr(text.base, ':', text.len) : NULL;
    const char *expected = use == ADDRESS_TO_LISTEN ? expected_listen : expected_dial;
    const char *fault = NULL;
    struct slice host;

    if (slice_starts(text, SLICE("unix:"))) {
        fault = parse_unix(&address, slice_skip(text, 5));
    } else if (!colon) {
        fault = expected;
    } else {
        host = slice_of(text.base, (size_t)(colon - text.base));
        if (use == ADDRESS_TO_LISTEN && host.len == 0) {
            address.is_any = true;
            host = SLICE("[::]");
        }
        if (!parse_host(&address, host) ||
            (use == ADDRESS_TO_LISTEN ? address.kind == ADDRESS_NAME : is_unspecified(&address)))
            fault = expected;
        else if (!parse_port(slice_skip(text, (size_t)(colon + 1 - text.base)), &address.port))
            fault = expected_port;
    }
    if (fault) {
        guess_another(text, use, guess);
        address_deinit(&address);
        return fault;
    }
    if (address.sockaddr.ss_family == AF_INET)
        ((struct sockaddr_in *)&address.sockaddr)->sin_port = htons(address.port);
    else if (address.sockaddr.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&address.sockaddr)->sin6_port = htons(address.port);
    address.text = xstrndup(text.base, text.len);
    *out = address;
    return NULL;
}

void address_deinit(struct config_address *address) {
    free(address->text);
    free(address->host);
    *address = (struct config_address){0};
}

bool address_is_same(const struct config_address *a, const struct config_address *b) {
    if (a->kind != b->kind || a->port != b->port)
        return false;
    if (a->kind == ADDRESS_NAME)
        return strcmp(a->host, b->host) == 0;
    return a->sockaddr_len == b->sockaddr_len &&
           memcmp(&a->sockaddr, &b->sockaddr, a->sockaddr_len) == 0;
}

bool address_is_in_the_way(const struct config_address *a, const struct config_address *b) {
    const struct config_address *const both[] = {a, b};

    if (a->kind != ADDRESS_INET || b->kind != ADDRESS_INET || a->port != b->port)
        return address_is_same(a, b);
    for (int i = 0; i < 2; i++)
        if (is_unspecified(both[i]) &&
            (both[i]->sockaddr.ss_family == AF_INET6 || both[1 - i]->sockaddr.ss_family == AF_INET))
            return true;
    return address_is_same(a, b);
}

bool address_is_name(struct slice text) {
    size_t label = 0;
    bool is_number = true; /* the label */

    if (text.len > 0 && text.base[text.len - 1] == '.')
        text.len--;
    if (text.len == 0 || text.len > 253)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];

        if (c == '.') {
            if (label == 0 || text.base[i - 1] == '-')
                return false;
            label = 0;
            is_number = true;
            continue;
        }
        if (!isalnum((unsigned char)c) && c != '_' && (c != '-' || label == 0))
            return false;
        if (++label > 63)
            return false;
        is_number = is_number && isdigit((unsigned char)c);
    }
    return label > 0 && !is_number && text.base[text.len - 1] != '-';
}

static const char *parse_unix(struct config_address *address, struct slice path) {
    struct sockaddr_un *un = (struct sockaddr_un *)&address->sockaddr;

    if (path.len == 0 || path.base[0] != '/')
        return "an absolute path behind \"unix:\"";
    if (path.len >= sizeof un->sun_path)
        return "a path of at most 107 bytes behind \"unix:\"";
    address->kind = ADDRESS_UNIX;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.base, path.len);
    address->sockaddr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return NULL;
}

static bool parse_host(struct config_address *address, struct slice host) {
    struct sockaddr_in *in = (struct sockaddr_in *)&address->sockaddr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->sockaddr;
    char text[INET6_ADDRSTRLEN + 2] = "";

    address->kind = ADDRESS_INET;
    if (host.len < sizeof text) {
        memcpy(text, host.base, host.len);
        if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
            in->sin_family = AF_INET;
            address->sockaddr_len = sizeof *in;
            return true;
        }
        if (host.len > 2 && text[0] == '[' && text[host.len - 1] == ']') {
            text[host.len - 1] = '\0';
            in6->sin6_family = AF_INET6;
            address->sockaddr_len = sizeof *in6;
            return inet_pton(AF_INET6, text + 1, &in6->sin6_addr) == 1;
        }
    }
    if (!address_is_name(host))
        return false;
    address->kind = ADDRESS_NAME;
    address->host = xstrndup(host.base, host.len);
    for (char *c = address->host; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return true;
}

static bool parse_port(struct slice text, uint16_t *port) {
    unsigned value = 0;

    if (text.len == 0 || text.len > 5 || text.base[0] == '0')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.base[i]))
            return false;
        value = value * 10 + (unsigned)(text.base[i] - '0');
    }
    if (value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* A bare port, a URL, a wildcard to dial, a name to listen on. */
static void guess_another(struct slice text, enum address_use use, struct buffer *guess) {
    static const char *const fronts[] = {"http://", "https://", "tcp://", "h2c://"};
    static const char *const wildcards[] = {"", "*", "0.0.0.0", "[::]"};
    struct slice host = text;
    struct slice port_text;
    const char *colon;
    bool is_url = false;
    uint16_t port;

    for (size_t i = 0; i < sizeof fronts / sizeof fronts[0] && !is_url; i++) {
        is_url = slice_starts(host, slice_str(fronts[i]));
        if (is_url)
            host = slice_skip(host, strlen(fronts[i]));
    }
    while (is_url && host.len > 0 && host.base[host.len - 1] == '/')
        host.len--;
    colon = host.len ? memrchr(host.base, ':', host.len) : NULL;
    port_text = colon ? slice_skip(host, (size_t)(colon + 1 - host.base)) : host;
    host.len = colon ? (size_t)(colon - host.base) : 0;
    if (!parse_port(port_text, &port))
        return;

    if (use == ADDRESS_TO_LISTEN && slice_equal_case(host, SLICE("localhost"))) {
        buffer_printf(guess, "127.0.0.1:%u", port);
        return;
    }
    for (size_t i = 0; i < sizeof wildcards / sizeof wildcards[0]; i++)
        if (slice_equal(host, slice_str(wildcards[i]))) {
            buffer_printf(guess, "%s:%u", use == ADDRESS_TO_LISTEN ? "" : "127.0.0.1", port);
            return;
        }
    if (is_url)
        buffer_printf(guess, "%.*s:%u", SLICE_ARG(host), port);
}

static bool is_unspecified(const struct config_address *address) {
    static const uint8_t zeros[16];
    size_t len;
    const void *ip = ip_of(address, &len);

    return ip && memcmp(ip, zeros, len) == 0;
}

/* The address's bytes, or NULL when it is no IP address. */
static const void *ip_of(const struct config_address *address, size_t *len) {
    if (address->sockaddr.ss_family == AF_INET) {
        *len = 4;
        return &((const struct sockaddr_in *)&address->sockaddr)->sin_addr;
    }
    *len = 16;
    return address->sockaddr.ss_family == AF_INET6
               ? &((const struct sockaddr_in6 *)&address->sockaddr)->sin6_addr
               : NULL;
}
