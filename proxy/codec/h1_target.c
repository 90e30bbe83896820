/* Request targets and authorities (RFC 9112 section 3.2, RFC 3986 section 3.2). */
#include "codec/h1_chars.h"
#include "codec/h1_parts.h"

#include <arpa/inet.h>

#define PORT_MAX 65535

static const char *split_absolute(struct request_head *head, struct slice target);
static bool is_ip_literal(struct slice s);
static bool is_reg_name(struct slice s);
static bool is_port(const char *at, const char *end);
static struct slice port_of(struct slice authority, size_t *host_len);

const char *h1_split_target(struct request_head *head, struct slice target) {
    size_t host_len;

    if (head->method == METHOD_CONNECT) {
        if (!h1_is_authority(target) || port_of(target, &host_len).len == 0 || host_len == 0)
            return "target of CONNECT is not host:port";
        head->form = TARGET_AUTHORITY;
        head->authority = target;
        head->path = SLICE("");
        return NULL;
    }
    if (target.base[0] == '/') {
        head->form = TARGET_ORIGIN;
        head->path = target;
        return NULL;
    }
    if (slice_equal(target, SLICE("*"))) {
        if (head->method != METHOD_OPTIONS)
            return "target '*' is for OPTIONS only";
        head->form = TARGET_ASTERISK;
        head->path = target;
        return NULL;
    }
    return split_absolute(head, target);
}

/* The last proxy turns OPTIONS for a whole server into asterisk-form (RFC 9112 section 3.2.4). */
static const char *split_absolute(struct request_head *head, struct slice target) {
    size_t scheme = target.len > 4 && target.base[4] == ':' ? 4 : 5, end, host_len;
    struct slice authority;

    if (target.len < scheme + 3 || memcmp(target.base + scheme, "://", 3) != 0 ||
        !slice_equal_case(slice_of(target.base, scheme), slice_of("https", scheme)))
        return "request target is neither a path nor an http or https URI";
    authority = slice_skip(target, scheme + 3);
    for (end = 0; end < authority.len; end++)
        if (authority.base[end] == '/' || authority.base[end] == '?')
            break;
    head->path = slice_skip(authority, end);
    authority.len = end;
    if (memchr(authority.base, '@', authority.len))
        return "request target has user information";
    port_of(authority, &host_len);
    if (host_len == 0 || !h1_is_authority(authority))
        return "request target has no well-formed host";
    head->form = TARGET_ABSOLUTE;
    head->scheme = slice_of(target.base, scheme);
    head->authority = authority;
    if (head->path.len == 0 && head->method == METHOD_OPTIONS) {
        head->form = TARGET_ASTERISK;
        head->path = SLICE("*");
    } else if (head->path.len == 0) {
        head->path = SLICE("/");
    }
    return NULL;
}

bool h1_is_authority(struct slice s) {
    const char *end, *at;
    size_t host_len;

    if (s.len == 0)
        return true;
    end = s.base + s.len;
    at = h1_chars_skip(s.base, end, H1_CHAR_HOST);
    if (at == end || *at == ':')
        return at == end || is_port(at + 1, end);
    at = s.base + s.len - port_of(s, &host_len).len;
    return (s.base[0] == '[' ? is_ip_literal(slice_of(s.base, host_len))
                             : is_reg_name(slice_of(s.base, host_len))) &&
           is_port(at, end);
}

/* What follows the colon behind the host, "" without one. */
static struct slice port_of(struct slice authority, size_t *host_len) {
    const char *colon;
    size_t from = 0;

    if (authority.len > 0 && authority.base[0] == '[') {
        const char *close = memchr(authority.base, ']', authority.len);

        from = close ? (size_t)(close - authority.base) + 1 : authority.len;
    }
    colon = authority.len > from ? memchr(authority.base + from, ':', authority.len - from) : NULL;
    *host_len = colon ? (size_t)(colon - authority.base) : authority.len;
    return slice_skip(authority, colon ? *host_len + 1 : authority.len);
}

/* IPv6 addresses only: IPvFuture has no future, zones (RFC 6874) mean nothing to another host. */
static bool is_ip_literal(struct slice s) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (s.len < 4 || s.len - 2 >= sizeof text || s.base[s.len - 1] != ']')
        return false;
    memcpy(text, s.base + 1, s.len - 2);
    text[s.len - 2] = '\0';
    return memchr(text, '\0', s.len - 2) == NULL && inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_reg_name(struct slice s) {
    const char *at = s.base, *end = s.base + s.len;

    while ((at = h1_chars_skip(at, end, H1_CHAR_HOST)) < end) {
        if (*at != '%' || end - at < 3 || !h1_chars_are(slice_of(at + 1, 2), H1_CHAR_HEX))
            return false;
        at += 3;
    }
    return true;
}

static bool is_port(const char *at, const char *end) {
    unsigned port = 0;

    for (; at < end && h1_char_is(*at, H1_CHAR_DIGIT) && port <= PORT_MAX; at++)
        port = port * 10 + (unsigned)(*at - '0');
    return at == end && port <= PORT_MAX;
}
