/* Blocks of addresses: a family, bytes and the number of leading bits that count. */
#include "config/cidr.h"

#include <arpa/inet.h>
#include <errno.h>

static const uint8_t mapped_start[12] = {[10] = 0xFF, [11] = 0xFF}; /* ::ffff:0:0/96 */

static int parse_prefix(struct slice text, unsigned max, unsigned *prefix);
static bool clear_behind_prefix(struct config_cidr *cidr);

int cidr_parse(struct config_cidr *out, struct slice text) {
    struct config_cidr cidr = {.family = AF_INET};
    char address[INET6_ADDRSTRLEN];
    const char *slash = text.len ? memchr(text.base, '/', text.len) : NULL;
    size_t len = slash ? (size_t)(slash - text.base) : text.len;
    unsigned max = 32;

    if (len >= sizeof address)
        return -EINVAL;
    memcpy(address, text.base, len);
    address[len] = '\0';
    if (strlen(address) != len)
        return -EINVAL;
    if (inet_pton(AF_INET, address, cidr.bytes) != 1) {
        cidr.family = AF_INET6;
        max = 128;
        if (inet_pton(AF_INET6, address, cidr.bytes) != 1)
            return -EINVAL;
    }
    cidr.prefix = max;
    if (slash && parse_prefix(slice_skip(text, len + 1), max, &cidr.prefix))
        return -EINVAL;
    if (cidr.family == AF_INET6 && cidr.prefix >= 96 && memcmp(cidr.bytes, mapped_start, 12) == 0) {
        cidr.family = AF_INET;
        cidr.prefix -= 96;
        memmove(cidr.bytes, cidr.bytes + 12, 4);
        memset(cidr.bytes + 4, 0, 12);
    }
    *out = cidr;
    return clear_behind_prefix(out) ? -EDOM : 0;
}

bool config_cidr_has(const struct config_cidr *cidr, const struct sockaddr *addr) {
    const uint8_t *bytes;
    int family = addr->sa_family;
    unsigned whole = cidr->prefix / 8;
    unsigned rest = cidr->prefix % 8;

    if (family == AF_INET) {
        bytes = (const uint8_t *)&((const struct sockaddr_in *)addr)->sin_addr;
    } else if (family == AF_INET6) {
        bytes = ((const struct sockaddr_in6 *)addr)->sin6_addr.s6_addr;
        if (memcmp(bytes, mapped_start, sizeof mapped_start) == 0) {
            family = AF_INET;
            bytes += sizeof mapped_start;
        }
    } else {
        return false;
    }
    return family == cidr->family && memcmp(bytes, cidr->bytes, whole) == 0 &&
           (rest == 0 || (bytes[whole] ^ cidr->bytes[whole]) >> (8 - rest) == 0);
}

static int parse_prefix(struct slice text, unsigned max, unsigned *prefix) {
    unsigned value = 0;

    if (text.len == 0 || text.len > 3 || (text.len > 1 && text.base[0] == '0'))
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9')
            return -EINVAL;
        value = value * 10 + (unsigned)(text.base[i] - '0');
    }
    if (value > max)
        return -EINVAL;
    *prefix = value;
    return 0;
}

/* True when there was something to clear. */
static bool clear_behind_prefix(struct config_cidr *cidr) {
    unsigned size = cidr->family == AF_INET ? 4 : 16;
    bool was_set = false;

    for (unsigned i = cidr->prefix / 8; i < size; i++) {
        uint8_t keep = i == cidr->prefix / 8 ? (uint8_t)(0xFF00 >> (cidr->prefix % 8)) : 0;

        was_set = was_set || (cidr->bytes[i] & ~keep) != 0;
        cidr->bytes[i] &= keep;
    }
    return was_set;
}
