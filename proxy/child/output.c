#include "child/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void pass_on(struct output *output);
static void take(struct output *output, struct slice bytes);

void output_init(struct output *output, const char *name, struct log_limit *limit) {
    *output = (struct output){.name = name, .limit = limit};
}

bool output_read(struct output *output, int fd) {
    char bytes[8192];
    size_t all = 0;

    while (all < OUTPUT_TURN_BYTES) {
        ssize_t n = read(fd, bytes, sizeof bytes);

        if (n > 0) {
            take(output, slice_of(bytes, (size_t)n));
            all += (size_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else {
            return n < 0 && errno == EAGAIN;
        }
    }
    return true;
}

void output_end(struct output *output) {
    if (output->len > 0 && output->line[output->len - 1] == '\r')
        output->len--;
    if (output->wanted && memmem(output->line, output->len, output->wanted, strlen(output->wanted)))
        output->is_found = true;
    if (output->len > 0)
        pass_on(output);
    output->len = 0;
    output->is_cut = false;
}

static void pass_on(struct output *output) {
    static int64_t quiet_until_ns; /* of this process's log */
    int64_t began_ns = clock_now_ns();

    if (began_ns < quiet_until_ns)
        return;
    log_limited(output->limit, LOG_INFO, "'%s' says: %.*s%s", output->name, (int)output->len,
                output->line, output->is_cut ? "..." : "");
    if (clock_now_ns() - began_ns >= OUTPUT_STALL_NS)
        quiet_until_ns = clock_now_ns() + OUTPUT_QUIET_NS;
}

static void take(struct output *output, struct slice bytes) {
    while (bytes.len > 0) {
        const char *end = memchr(bytes.base, '\n', bytes.len);
        size_t n = end ? (size_t)(end - bytes.base) : bytes.len;
        size_t room = sizeof output->line - output->len, kept = n < room ? n : room;

        memcpy(output->line + output->len, bytes.base, kept);
        output->len += kept;
        output->is_cut |= kept < n;
        if (end)
            output_end(output);
        bytes = slice_skip(bytes, n + (end != NULL));
    }
}
