/* One c-ares channel, its sockets and a poll() over them. */
#include "upstream/resolver_channel.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "upstream/resolver_servers.h"

#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* ares_getsock() tells of this many sockets, and every server may have one of UDP and one of TCP.
 */
static_assert(RESOLVER_SERVERS_MAX * 2 <= ARES_GETSOCK_MAXNUM, "every server's sockets are seen");

enum { RCODE_OFFSET = 3, RCODE_MASK = 0x0f, RCODE_SERVFAIL = 2, RCODE_REFUSED = 5 };

/* Home: whoever runs the resolver. */
struct resolver_channel {
    ares_channel ares;
    int rcode;      /* of the datagram that is being handled, 0 when it is none */
    bool is_asking; /* inside ares_getaddrinfo(): what is answered now came without a network */
};

/* One question under way. */
struct query {
    struct resolver_channel *channel; /* borrowed: outlives it */
    resolver_answer_fn *answered;
    void *ctx; /* borrowed: the asker's */
    uint16_t port;
};

static void set_socket_functions(struct resolver_channel *channel);
static void answer(void *arg, int status, int timeouts, struct ares_addrinfo *info);
static void explain(const struct resolver_channel *channel, int status,
                    struct resolver_answer *result);
static void collect(const struct ares_addrinfo *info, uint16_t port,
                    struct resolver_answer *result);
static int64_t lower_ttl_ns(int64_t lowest_ns, int ttl_s);

int resolver_channel_open(struct resolver_channel **out, const char *servers) {
    struct resolver_channel *channel = xcalloc(1, sizeof *channel);
    char lookups[] = "fb"; /* /etc/hosts first, whatever the system prefers */
    struct ares_options options = {
        .timeout = (int)(RESOLVER_TRY_NS / NS_PER_MS),
        .tries = RESOLVER_TRIES,
        .lookups = lookups,
    };
    int status, err;

    /* ares_library_init() does nothing outside Windows, and is not safe beside other threads. */
    status = ares_init_options(&channel->ares, &options,
                               ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS);
    if (status != ARES_SUCCESS) {
        channel->ares = NULL;
        err = status == ARES_ENOMEM ? -ENOMEM : -EIO;
        goto fail;
    }
    set_socket_functions(channel);
    err = resolver_servers_set(channel->ares, servers);
    if (err)
        goto fail;

    *out = channel;
    return 0;
fail:
    resolver_channel_close(channel);
    return err;
}

void resolver_channel_ask(struct resolver_channel *channel,
                          const struct resolver_question *question) {
    struct query *query = xcalloc(1, sizeof *query);
    /* No sort: it connects a socket per address, and we have an order of our own. */
    struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT,
        .ai_family = question->family,
        .ai_socktype = SOCK_STREAM,
    };

    assert(!channel->is_asking);
    query->channel = channel;
    query->answered = question->answered;
    query->ctx = question->ctx;
    query->port = question->port;

    channel->rcode = 0;
    channel->is_asking = true;
    ares_getaddrinfo(channel->ares, question->host, NULL, &hints, answer, query);
    channel->is_asking = false;
}

bool resolver_channel_wait(struct resolver_channel *channel, int end_fd, int64_t until_ns) {
    struct pollfd fds[ARES_GETSOCK_MAXNUM + 1] = {{.fd = end_fd, .events = POLLIN}};
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    int64_t wait_ns = until_ns - clock_now_ns();
    struct timeval longest, *wait;
    struct timeval room;
    nfds_t count = 1;
    unsigned bits;
    int ready;

    if (wait_ns < 0)
        wait_ns = 0;
    if (wait_ns > 3600 * NS_PER_S)
        wait_ns = 3600 * NS_PER_S;
    wait_ns += NS_PER_MS - 1; /* poll() counts in milliseconds: rather late than in vain */
    longest = (struct timeval){wait_ns / NS_PER_S, wait_ns % NS_PER_S / NS_PER_US};
    wait = ares_timeout(channel->ares, &longest, &room);

    bits = (unsigned)ares_getsock(channel->ares, sockets, ARES_GETSOCK_MAXNUM);
    for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
        /* Not ARES_GETSOCK_WRITABLE(), which shifts into the sign. */
        short events = (short)((bits >> i & 1 ? POLLIN : 0) |
                               (bits >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0));

        if (events)
            fds[count++] = (struct pollfd){.fd = sockets[i], .events = events};
    }

    ready = poll(fds, count, (int)(wait->tv_sec * 1000 + (wait->tv_usec + 999) / 1000));
    assert(ready >= 0 || errno == EINTR);
    if (ready > 0 && fds[0].revents)
        return true;

    for (nfds_t i = 1; ready > 0 && i < count; i++) {
        bool has_failed = fds[i].revents & (POLLERR | POLLHUP | POLLNVAL);
        bool is_readable = has_failed || (fds[i].revents & POLLIN);
        bool is_writable = fds[i].revents & POLLOUT;

        channel->rcode = 0;
        if (is_readable || is_writable)
            ares_process_fd(channel->ares, is_readable ? fds[i].fd : ARES_SOCKET_BAD,
                            is_writable ? fds[i].fd : ARES_SOCKET_BAD);
    }
    channel->rcode = 0;
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* timeouts */
    return false;
}

void resolver_channel_cancel(struct resolver_channel *channel) {
    ares_cancel(channel->ares);
}

void resolver_channel_close(struct resolver_channel *channel) {
    if (channel == NULL)
        return;
    if (channel->ares != NULL) {
        /* Cancelled first: the status of a destroyed channel is less well trodden in c-ares. */
        ares_cancel(channel->ares);
        ares_destroy(channel->ares);
    }
    free(channel);
}

/* The bytes that order an address: its port is the same throughout. */
static int compare(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
    if (a->ss_family != b->ss_family)
        return a->ss_family == AF_INET ? -1 : 1;
    if (a->ss_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
                      &((const struct sockaddr_in *)b)->sin_addr, sizeof(struct in_addr));
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr));
}

bool resolver_addresses_add(struct resolver_addresses *addresses,
                            const struct sockaddr_storage *address) {
    bool is_full = addresses->count == RESOLVER_ADDRESSES_MAX;
    size_t at = 0;

    while (at < addresses->count && compare(&addresses->list[at], address) < 0)
        at++;
    if (at < addresses->count && compare(&addresses->list[at], address) == 0)
        return true;
    if (at == RESOLVER_ADDRESSES_MAX)
        return false;

    if (!is_full)
        addresses->count++;
    memmove(&addresses->list[at + 1], &addresses->list[at],
            (addresses->count - 1 - at) * sizeof addresses->list[0]);
    addresses->list[at] = *address;
    return !is_full;
}

static ares_socket_t open_socket(int family, int type, int protocol, void *ctx) {
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

static int close_socket(ares_socket_t fd, void *ctx) {
    return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t len,
                          void *ctx) {
    return connect(fd, address, len);
}

/* c-ares calls back while it handles the datagram that it took here last. Over TCP there is no
 * telling where a message begins, so that what is noted there may be wrong: only UDP asks for the
 * sender. */
static ares_ssize_t receive(ares_socket_t fd, void *data, size_t len, int flags,
                            struct sockaddr *from, ares_socklen_t *from_len, void *ctx) {
    struct resolver_channel *channel = ctx;
    ssize_t got = recvfrom(fd, data, len, flags, from, from_len);

    channel->rcode = 0;
    if (from != NULL && got > RCODE_OFFSET)
        channel->rcode = ((const uint8_t *)data)[RCODE_OFFSET] & RCODE_MASK;
    return got;
}

static ares_ssize_t send_parts(ares_socket_t fd, const struct iovec *parts, int count, void *ctx) {
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};

    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static void set_socket_functions(struct resolver_channel *channel) {
    static const struct ares_socket_functions functions = {
        .asocket = open_socket,
        .aclose = close_socket,
        .aconnect = connect_socket,
        .arecvfrom = receive,
        .asendv = send_parts,
    };

    ares_set_socket_functions(channel->ares, &functions, channel);
}

static void answer(void *arg, int status, int timeouts, struct ares_addrinfo *info) {
    struct query *query = arg;
    struct resolver_channel *channel = query->channel;
    struct resolver_answer result = {.ttl_ns = -1};

    if (status == ARES_SUCCESS)
        collect(info, query->port, &result);
    if (result.addresses.count == 0)
        explain(channel, status == ARES_SUCCESS ? ARES_ENODATA : status, &result);
    if (channel->is_asking)
        result.ttl_ns = -1; /* /etc/hosts or "localhost"; c-ares says 0 */
    if (info != NULL)
        ares_freeaddrinfo(info);
    query->answered(query->ctx, &result);
    free(query);
}

static void explain(const struct resolver_channel *channel, int status,
                    struct resolver_answer *result) {
    static const struct {
        int status, rcode, error; /* rcode -1: any */
        const char *why;
    } rows[] = {
        {ARES_ENOTFOUND, -1, -ENOENT, "no such name"},
        {ARES_ENODATA, -1, -ENODATA, "the name has no address"},
        {ARES_ETIMEOUT, -1, -ETIMEDOUT, "timed out"},
        {ARES_ESERVFAIL, -1, -EIO, "the name server failed"},
        {ARES_EREFUSED, -1, -EACCES, "the name server refused"},
        {ARES_ECONNREFUSED, RCODE_SERVFAIL, -EIO, "the name server failed"},
        {ARES_ECONNREFUSED, RCODE_REFUSED, -EACCES, "the name server refused"},
        {ARES_ECONNREFUSED, -1, -ECONNREFUSED, "no name server listens"},
        {ARES_EBADNAME, -1, -EINVAL, "malformed name"},
        {ARES_ECANCELLED, -1, -ECANCELED, "cancelled"},
        {ARES_EDESTRUCTION, -1, -ECANCELED, "cancelled"},
    };

    result->error = -EREMOTEIO;
    result->why = ares_strerror(status);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status == status && (rows[i].rcode < 0 || rows[i].rcode == channel->rcode)) {
            result->error = rows[i].error;
            result->why = rows[i].why;
            return;
        }
    }
}

static void collect(const struct ares_addrinfo *info, uint16_t port,
                    struct resolver_answer *result) {
    int64_t ttl_ns = INT64_MAX;

    for (const struct ares_addrinfo_cname *cname = info->cnames; cname; cname = cname->next)
        ttl_ns = lower_ttl_ns(ttl_ns, cname->ttl);
    for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next) {
        struct sockaddr_storage address = {0};

        if (node->ai_family == AF_INET) {
            struct sockaddr_in *in = (struct sockaddr_in *)&address;

            in->sin_family = AF_INET;
            in->sin_port = htons(port);
            in->sin_addr = ((const struct sockaddr_in *)node->ai_addr)->sin_addr;
        } else if (node->ai_family == AF_INET6) {
            struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;

            in6->sin6_family = AF_INET6;
            in6->sin6_port = htons(port);
            in6->sin6_addr = ((const struct sockaddr_in6 *)node->ai_addr)->sin6_addr;
        } else {
            continue;
        }
        ttl_ns = lower_ttl_ns(ttl_ns, node->ai_ttl);
        if (!resolver_addresses_add(&result->addresses, &address))
            result->left_out++;
    }
    result->ttl_ns = ttl_ns;
}

/* A TTL with its highest bit set counts as zero (RFC 2181 section 8). */
static int64_t lower_ttl_ns(int64_t lowest_ns, int ttl_s) {
    int64_t ttl_ns = ttl_s < 0 ? 0 : ttl_s * NS_PER_S;

    return ttl_ns < lowest_ns ? ttl_ns : lowest_ns;
}
