/* See wire.h. The pattern repeats every 89 bytes, a prime, so that bytes which were lost, doubled
 * or swapped at any power of two cannot go unseen. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATTERN_PERIOD = 89 };

static char pattern[WIRE_BUFFER_BYTES + PATTERN_PERIOD];

static bool split_first_line(struct wire_slice line, struct wire_slice *out);
static void note_field(struct wire_slice line, struct wire_head *head);
static bool value_of(struct wire_slice line, const char *name, struct wire_slice *value);
static int hex_digit(char c);

long wire_head(const char *data, size_t len, struct wire_head *head) {
    const char *end = data && len ? memmem(data, len, "\r\n\r\n", 4) : NULL;
    const char *at, *eol;

    if (!end)
        return len > WIRE_HEAD_MAX ? -EBADMSG : 0;
    *head = (struct wire_head){.content_bytes = -1};
    eol = memmem(data, (size_t)(end + 2 - data), "\r\n", 2);
    if (!split_first_line((struct wire_slice){data, (size_t)(eol - data)}, head->first))
        return -EBADMSG;
    for (at = eol + 2; at < end; at = eol + 2) {
        eol = memmem(at, (size_t)(end + 2 - at), "\r\n", 2);
        note_field((struct wire_slice){at, (size_t)(eol - at)}, head);
    }
    return end + 4 - data;
}

int wire_status(const struct wire_head *head) {
    const char *at = head->first[1].at;

    if (head->first[1].len != 3 || at[0] < '1' || at[0] > '5')
        return -1;
    return (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');
}

bool wire_chunks_next(struct wire_chunks *chunks, struct wire_slice *data,
                      struct wire_slice *piece) {
    while (data->len && chunks->state != CHUNK_END) {
        char c = *data->at;

        if (chunks->state == CHUNK_DATA) {
            size_t n = data->len < chunks->left ? data->len : (size_t)chunks->left;

            *piece = (struct wire_slice){data->at, n};
            data->at += n;
            data->len -= n;
            chunks->left -= n;
            if (!chunks->left)
                chunks->state = CHUNK_CRLF;
            return true;
        }
        data->at++;
        data->len--;
        switch (chunks->state) {
        case CHUNK_SIZE:
            if (hex_digit(c) >= 0) {
                chunks->left = chunks->left * 16 + (unsigned)hex_digit(c);
                break;
            }
            chunks->state = CHUNK_EXTENSION;
            /* fall through */
        case CHUNK_EXTENSION:
            if (c == '\n') {
                chunks->state = chunks->left ? CHUNK_DATA : CHUNK_TRAILER;
                chunks->line_bytes = 0;
            }
            break;
        case CHUNK_CRLF:
            if (c == '\n')
                chunks->state = CHUNK_SIZE;
            break;
        case CHUNK_TRAILER:
            if (c == '\n' && !chunks->line_bytes)
                chunks->state = CHUNK_END;
            else if (c == '\n')
                chunks->line_bytes = 0;
            else if (c != '\r')
                chunks->line_bytes++;
            break;
        case CHUNK_DATA:
        case CHUNK_END:
            break;
        }
    }
    return false;
}

const char *wire_pattern(uint64_t offset) {
    if (!pattern[0]) {
        for (size_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (char)('!' + i % PATTERN_PERIOD);
    }
    return pattern + offset % PATTERN_PERIOD;
}

uint64_t wire_now_ns(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int wire_address(const char *text, struct sockaddr_in *out) {
    const char *colon = strrchr(text, ':');
    char host[64], *end;
    unsigned long port;

    if (!colon || colon == text || (size_t)(colon - text) >= sizeof host)
        return -EINVAL;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    port = strtoul(colon + 1, &end, 10);
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (*end || !port || port > 65535 || inet_pton(AF_INET, host, &out->sin_addr) != 1)
        return -EINVAL;
    return 0;
}

int wire_connect(const struct sockaddr_in *to, const struct sockaddr_in *from) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        fprintf(stderr, "cannot open a socket: %s\n", strerror(errno));
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (from) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        bind(fd, (const void *)from, sizeof *from);
    }
    if (connect(fd, (const void *)to, sizeof *to) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

unsigned long long wire_number(const char *option, const char *text) {
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9') {
        fprintf(stderr, "%s: '%s' is not a number\n", option, text);
        exit(2);
    }
    return number;
}

static bool split_first_line(struct wire_slice line, struct wire_slice *out) {
    const char *end = line.at + line.len;
    const char *one = memchr(line.at, ' ', line.len);
    const char *two = one ? memchr(one + 1, ' ', (size_t)(end - one - 1)) : NULL;

    if (!one)
        return false;
    if (!two)
        two = end; /* a status line may end after the status */
    out[0] = (struct wire_slice){line.at, (size_t)(one - line.at)};
    out[1] = (struct wire_slice){one + 1, (size_t)(two - one - 1)};
    out[2] = two < end ? (struct wire_slice){two + 1, (size_t)(end - two - 1)}
                       : (struct wire_slice){end, 0};
    return true;
}

static void note_field(struct wire_slice line, struct wire_head *head) {
    struct wire_slice value;

    switch (line.len ? line.at[0] | 0x20 : 0) {
    case 'c':
        if (value_of(line, "content-length:", &value))
            head->content_bytes = strtoll(value.at, NULL, 10); /* ends at the CR at the latest */
        else if (value_of(line, "connection:", &value))
            head->is_close = value.len == 5 && !strncasecmp(value.at, "close", 5);
        break;
    case 't':
        if (value_of(line, "transfer-encoding:", &value))
            head->is_chunked =
                value.len >= 7 && !strncasecmp(value.at + value.len - 7, "chunked", 7);
        break;
    case 'r':
        if (value_of(line, "retry-after:", &value))
            head->retry_after = value;
        break;
    default:
        break;
    }
}

static bool value_of(struct wire_slice line, const char *name, struct wire_slice *value) {
    size_t len = strlen(name);

    if (line.len < len || strncasecmp(line.at, name, len) != 0)
        return false;
    for (line.at += len, line.len -= len; line.len && *line.at == ' '; line.at++)
        line.len--;
    *value = line;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

uint64_t wire_service_begin(struct wire_services *services, uint64_t now_ns, uint64_t service_ns) {
    uint64_t less_ns = service_ns / 4;

    if (less_ns > services->owed_ns)
        less_ns = services->owed_ns;
    services->owed_ns -= less_ns;
    return now_ns + service_ns - less_ns;
}

void wire_service_end(struct wire_services *services, uint64_t due_ns, uint64_t now_ns) {
    uint64_t late_ns = now_ns > due_ns ? now_ns - due_ns : 0;

    services->owed_ns += late_ns < WIRE_LATE_MAX_NS ? late_ns : WIRE_LATE_MAX_NS;
}

void wire_exact_timers(void) {
    prctl(PR_SET_TIMERSLACK, 1);
}

struct timespec wire_until(uint64_t due_ns) {
    uint64_t now_ns = wire_now_ns(), left_ns = due_ns > now_ns ? due_ns - now_ns : 0;

    return (struct timespec){(time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000)};
}
