#include "dns_server.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ZONES_MAX 128
#define MOMENTS_MAX 64
#define UDP_MAX 512
#define MESSAGE_MAX 4096

enum { HEAD_LEN = 12, TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28, CLASS_IN = 1 };

struct zone {
    const char *name;  /* borrowed: static */
    bool exists;       /* else only asked about */
    const char *cname; /* borrowed: static */
    uint32_t cname_ttl_s;
    struct dns_records records[DNS_TYPE_COUNT];
    int64_t moments_ns[DNS_TYPE_COUNT][MOMENTS_MAX];
    size_t asked[DNS_TYPE_COUNT];
    bool has_skipped[DNS_TYPE_COUNT]; /* of DNS_EVERY_OTHER */
};

/* Home: shared, under the lock but for the fds. */
struct dns_server {
    pthread_mutex_t lock;
    pthread_cond_t was_asked;
    struct zone zones[ZONES_MAX];
    size_t zone_count;
    enum dns_mode all;
    bool rotates;
    size_t turn;
    bool spoke_tcp;
    size_t asked[DNS_TYPE_COUNT];
    int64_t last_ns;
    int udp, tcp, end;
    uint16_t port;
    pthread_t thread;
};

static struct zone *find(struct dns_server *server, const char *name) {
    for (size_t i = 0; i < server->zone_count; i++)
        if (strcasecmp(server->zones[i].name, name) == 0)
            return &server->zones[i];
    return NULL;
}

static struct zone *find_or_add(struct dns_server *server, const char *name) {
    struct zone *zone = find(server, name);

    if (zone == NULL) {
        assert(server->zone_count < ZONES_MAX);
        zone = &server->zones[server->zone_count++];
        zone->name = name;
    }
    return zone;
}

static size_t put16(uint8_t *to, unsigned value) {
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
    return 2;
}

static size_t put_name(uint8_t *to, const char *name) {
    size_t at = 0;

    while (*name) {
        size_t len = strcspn(name, ".");

        to[at++] = (uint8_t)len;
        memcpy(to + at, name, len);
        at += len;
        name += len + (name[len] == '.');
    }
    to[at++] = 0;
    return at;
}

static size_t put_record(uint8_t *to, const char *name, int type, uint32_t ttl_s, const void *data,
                         size_t len) {
    size_t at = put_name(to, name);

    at += put16(to + at, (unsigned)type);
    at += put16(to + at, CLASS_IN);
    at += put16(to + at, ttl_s >> 16);
    at += put16(to + at, ttl_s & 0xffff);
    at += put16(to + at, (unsigned)len);
    memcpy(to + at, data, len);
    return at + len;
}

/* "www.example.com" from the question; its end. */
static size_t get_name(const uint8_t *query, size_t len, char name[256]) {
    size_t at = HEAD_LEN, out = 0;

    while (at < len && query[at] != 0) {
        size_t label = query[at++];

        assert(at + label < len && out + label + 1 < 256);
        if (out > 0)
            name[out++] = '.';
        memcpy(name + out, query + at, label);
        out += label;
        at += label;
    }
    name[out] = '\0';
    return at + 1;
}

static void note(struct dns_server *server, struct zone *zone, enum dns_type type) {
    int64_t now_ns = clock_now_ns();

    server->asked[type]++;
    server->last_ns = now_ns;
    if (zone != NULL) {
        if (zone->asked[type] < MOMENTS_MAX)
            zone->moments_ns[type][zone->asked[type]] = now_ns;
        zone->asked[type]++;
    }
    pthread_cond_broadcast(&server->was_asked);
}

static size_t put_answers(struct dns_server *server, const struct zone *zone, enum dns_type type,
                          uint8_t *to, unsigned *count) {
    const struct dns_records *records = &zone->records[type];
    size_t len = 0, have = 0;

    while (have < DNS_RECORDS_MAX && records->addresses[have] != NULL)
        have++;
    if (server->rotates)
        server->turn++;
    for (size_t i = 0; i < have; i++) {
        const char *text = records->addresses[(i + server->turn) % have];
        uint8_t bytes[16];

        assert(inet_pton(type == DNS_A ? AF_INET : AF_INET6, text, bytes) == 1);
        len += put_record(to + len, zone->name, type == DNS_A ? TYPE_A : TYPE_AAAA, records->ttl_s,
                          bytes, type == DNS_A ? 4 : 16);
        (*count)++;
    }
    return len;
}

/* The answer's length, 0 for silence. */
static size_t answer(struct dns_server *server, const uint8_t *query, size_t len, uint8_t *to,
                     size_t room) {
    static const uint8_t rcodes[] = {[DNS_NXDOMAIN] = 3, [DNS_SERVFAIL] = 2, [DNS_REFUSED] = 5};
    enum dns_mode mode = DNS_ANSWER;
    enum dns_type type;
    struct zone *zone;
    unsigned count = 0;
    char name[256];
    size_t at;

    if (len < HEAD_LEN)
        return 0;
    at = get_name(query, len, name);
    assert(at + 4 <= len);
    type = query[at + 1] == TYPE_A ? DNS_A : DNS_AAAA;
    at += 4;
    memcpy(to, query, at);
    memset(to + 6, 0, 6);

    pthread_mutex_lock(&server->lock);
    zone = find(server, name);
    note(server, zone, type);
    for (int hops = 0; zone != NULL && zone->cname != NULL && hops < 8; hops++) {
        uint8_t data[256];
        size_t data_len = put_name(data, zone->cname);

        at += put_record(to + at, zone->name, TYPE_CNAME, zone->cname_ttl_s, data, data_len);
        count++;
        zone = find(server, zone->cname);
    }
    if (server->all != DNS_ANSWER)
        mode = server->all;
    else
        mode = zone == NULL || !zone->exists ? DNS_NXDOMAIN : zone->records[type].mode;
    if (mode == DNS_EVERY_OTHER) {
        zone->has_skipped[type] = !zone->has_skipped[type];
        mode = DNS_ANSWER;
    }
    if (mode == DNS_ANSWER && !(zone && zone->has_skipped[type]))
        at += put_answers(server, zone, type, to + at, &count);
    pthread_mutex_unlock(&server->lock);

    if (mode == DNS_SILENCE)
        return 0;
    to[2] = 0x81; /* a response, recursion desired */
    to[3] = (uint8_t)(0x80 | rcodes[mode]);
    put16(to + 6, count);
    if (at > room) {
        to[2] |= 0x02; /* truncated */
        put16(to + 6, 0);
        at = len;
    }
    return at;
}

static void serve_udp(struct dns_server *server) {
    uint8_t query[UDP_MAX], reply[MESSAGE_MAX];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    ssize_t got =
        recvfrom(server->udp, query, sizeof query, 0, (struct sockaddr *)&from, &from_len);
    size_t len = got > 0 ? answer(server, query, (size_t)got, reply, UDP_MAX) : 0;

    if (len > 0)
        sendto(server->udp, reply, len, 0, (struct sockaddr *)&from, from_len);
}

static void serve_tcp(struct dns_server *server) {
    uint8_t query[UDP_MAX], reply[MESSAGE_MAX];
    struct timeval timeout = {.tv_sec = 5};
    int fd = accept4(server->tcp, NULL, NULL, SOCK_CLOEXEC);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    while (recv(fd, query, 2, MSG_WAITALL) == 2) {
        size_t len = (size_t)query[0] << 8 | query[1];

        if (len > sizeof query || recv(fd, query, len, MSG_WAITALL) != (ssize_t)len)
            break;
        len = answer(server, query, len, reply + 2, sizeof reply - 2);
        put16(reply, (unsigned)len);
        pthread_mutex_lock(&server->lock);
        server->spoke_tcp = true;
        pthread_mutex_unlock(&server->lock);
        if (send(fd, reply, len + 2, MSG_NOSIGNAL) < 0)
            break;
    }
    close(fd);
}

static void *serve(void *arg) {
    struct dns_server *server = arg;
    struct pollfd fds[] = {
        {server->end, POLLIN, 0}, {server->udp, POLLIN, 0}, {server->tcp, POLLIN, 0}};

    for (;;) {
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents)
            return NULL;
        if (fds[1].revents)
            serve_udp(server);
        if (fds[2].revents)
            serve_tcp(server);
    }
}

static bool bind_both(struct dns_server *server, int family) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
    in_port_t *port = family == AF_INET ? &in.sin_port : &in6.sin6_port;
    socklen_t len = family == AF_INET ? sizeof in : sizeof in6;

    for (int tries = 0; tries < 20; tries++) {
        *port = 0;
        server->udp = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        server->tcp = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server->udp >= 0 && bind(server->udp, address, len) == 0 &&
            getsockname(server->udp, address, &len) == 0 && server->tcp >= 0 &&
            bind(server->tcp, address, len) == 0 && listen(server->tcp, 8) == 0) {
            server->port = ntohs(*port);
            return true;
        }
        close(server->udp);
        close(server->tcp);
    }
    return false;
}

struct dns_server *dns_server_open(int family) {
    struct dns_server *server = xcalloc(1, sizeof *server);
    pthread_condattr_t attr;

    if (!bind_both(server, family)) {
        free(server);
        return NULL;
    }
    server->end = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&server->was_asked, &attr);
    pthread_condattr_destroy(&attr);
    assert(pthread_create(&server->thread, NULL, serve, server) == 0);
    return server;
}

void dns_server_close(struct dns_server *server) {
    if (server == NULL)
        return;
    eventfd_write(server->end, 1);
    pthread_join(server->thread, NULL);
    close(server->end);
    close(server->udp);
    close(server->tcp);
    pthread_cond_destroy(&server->was_asked);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

uint16_t dns_server_port(const struct dns_server *server) {
    return server->port;
}

void dns_server_set(struct dns_server *server, const char *name, enum dns_type type,
                    struct dns_records records) {
    struct zone *zone;

    pthread_mutex_lock(&server->lock);
    zone = find_or_add(server, name);
    zone->exists = true;
    zone->records[type] = records;
    zone->has_skipped[type] = false;
    pthread_mutex_unlock(&server->lock);
}

void dns_server_alias(struct dns_server *server, const char *name, const char *cname,
                      uint32_t ttl_s) {
    struct zone *zone;

    pthread_mutex_lock(&server->lock);
    zone = find_or_add(server, name);
    zone->exists = true;
    zone->cname = cname;
    zone->cname_ttl_s = ttl_s;
    pthread_mutex_unlock(&server->lock);
}

void dns_server_set_all(struct dns_server *server, enum dns_mode mode) {
    pthread_mutex_lock(&server->lock);
    server->all = mode;
    pthread_mutex_unlock(&server->lock);
}

void dns_server_rotate(struct dns_server *server) {
    pthread_mutex_lock(&server->lock);
    server->rotates = true;
    pthread_mutex_unlock(&server->lock);
}

int64_t dns_server_await(struct dns_server *server, const char *name, enum dns_type type,
                         size_t count, int64_t timeout_ns) {
    int64_t until_ns = clock_now_ns() + timeout_ns, moment_ns = -1;
    struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
    struct zone *zone;
    size_t *asked;

    assert(count >= 1 && (name == NULL || count <= MOMENTS_MAX));
    pthread_mutex_lock(&server->lock);
    zone = name != NULL ? find_or_add(server, name) : NULL;
    asked = zone != NULL ? &zone->asked[type] : &server->asked[type];
    while (*asked < count && clock_now_ns() < until_ns)
        pthread_cond_timedwait(&server->was_asked, &server->lock, &until);
    if (*asked >= count)
        moment_ns = zone != NULL ? zone->moments_ns[type][count - 1] : server->last_ns;
    pthread_mutex_unlock(&server->lock);
    return moment_ns;
}

size_t dns_server_asked(struct dns_server *server, const char *name, enum dns_type type) {
    struct zone *zone;
    size_t asked;

    pthread_mutex_lock(&server->lock);
    zone = name != NULL ? find(server, name) : NULL;
    asked = name == NULL ? server->asked[type] : zone == NULL ? 0 : zone->asked[type];
    pthread_mutex_unlock(&server->lock);
    return asked;
}

bool dns_server_spoke_tcp(struct dns_server *server) {
    bool did;

    pthread_mutex_lock(&server->lock);
    did = server->spoke_tcp;
    pthread_mutex_unlock(&server->lock);
    return did;
}
