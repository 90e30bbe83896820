/* The little HTTP/1.1 that the load generator and the test engine share: message heads, chunked
 * content, the byte pattern both sides expect, a clock and the parsing of addresses. It is made to
 * be cheap and is for test traffic only: it believes its peer where a real server must not. */
#ifndef LOAD_WIRE_H
#define LOAD_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
    WIRE_HEAD_MAX = 16 * 1024,
    WIRE_BUFFER_BYTES = 256 * 1024,
};

struct wire_slice {
    const char *at; /* borrowed: the buffer that was parsed */
    size_t len;
};

struct wire_head {
    struct wire_slice first[3];    /* method, target, version; or version, status, reason */
    struct wire_slice retry_after; /* empty when absent */
    long long content_bytes;       /* -1: no Content-Length */
    bool is_chunked;
    bool is_close;
};

/* Parses a head at the start of @data. Answers its length, 0 while it is incomplete, -EBADMSG. */
long wire_head(const char *data, size_t len, struct wire_head *head);

/* The status of a response head, or -1. */
int wire_status(const struct wire_head *head);

enum wire_chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_DATA,
    CHUNK_CRLF,
    CHUNK_TRAILER,
    CHUNK_END
};

struct wire_chunks {
    enum wire_chunk_state state;
    unsigned long long left;
    size_t line_bytes; /* of the trailer line being read */
};

/* Moves *@data forward to the next piece of content and past it. Answers true with a @piece (never
 * empty), false when @data is used up or the end is reached: state says which. */
bool wire_chunks_next(struct wire_chunks *chunks, struct wire_slice *data,
                      struct wire_slice *piece);

/* WIRE_BUFFER_BYTES bytes of the pattern as they stand at @offset of any content. */
const char *wire_pattern(uint64_t offset);

uint64_t wire_now_ns(void);

/* How long it is until @due_ns; nothing when that is past. */
struct timespec wire_until(uint64_t due_ns);

/* Services of a model that take what they ought to on average, on a machine that has other things
 * to do too: by what one has ended late, up to WIRE_LATE_MAX_NS, the next ones are shorter, each
 * by a quarter at most. Else the model's capacity would be the machine's, and what it is late would
 * be held against who is measured. Zeroed memory owes nothing. */
#define WIRE_LATE_MAX_NS 5000000

struct wire_services {
    uint64_t owed_ns;
};

/* When one ends that begins at @now_ns; it was due at @due_ns and ends at @now_ns. */
uint64_t wire_service_begin(struct wire_services *services, uint64_t now_ns, uint64_t service_ns);
void wire_service_end(struct wire_services *services, uint64_t due_ns, uint64_t now_ns);

/* Timers of this thread are not put off to save wake-ups, which is 50 us by default. */
void wire_exact_timers(void);

/* Parses "127.0.0.1:8080" (IPv4 only). 0 or -EINVAL. */
int wire_address(const char *text, struct sockaddr_in *out);

/* A non-blocking connection to @to, from @from unless NULL; -1: refused at once. On loopback it
 * stands by the time this returns. Ends the program with status 1 when there is no socket left. */
int wire_connect(const struct sockaddr_in *to, const struct sockaddr_in *from);

/* Parses a whole, unsigned decimal number; ends the program with status 2 when it is none. */
unsigned long long wire_number(const char *option, const char *text);

#endif
