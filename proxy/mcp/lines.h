/* Lines of a stream of bytes, of bounded length. Of one that is too long nothing is kept but the id
 * of the JSON-RPC response that it may be, so that who waits for it can be told. Any thread. */
#pragma once

#include "base/buffer.h"

/* Looks for the top-level "id" of a JSON object, a number, as the bytes come by. Zeroed memory is
 * at its beginning. */
struct id_finder {
    unsigned depth;
    bool is_in_string, is_escaped;
    bool is_id_next; /* behind its colon */
    unsigned len;    /* of the last string at depth 1; of it the first bytes: */
    char text[2];
    bool is_found;
    uint64_t id;
};

void id_finder_see(struct id_finder *finder, struct slice bytes);

struct lines {
    size_t max;         /* bytes of a line, without its end */
    struct buffer held; /* the beginning of a line whose end has not come */
    bool is_given;      /* it was given out: to be forgotten */
    bool is_lost;       /* the line is too long */
    uint64_t lost;      /* bytes of it */
    struct id_finder finder;
};

struct lines_item {
    struct slice text; /* borrowed: until the next call; without its end */
    bool is_lost;      /* it was too long: no text */
    uint64_t bytes;    /* is_lost: how long it was */
    bool has_id;       /* is_lost: a number was found */
    uint64_t id;
};

/* Takes bytes off @in up to the end of a line; false: all are taken, and there was none. */
bool lines_next(struct lines *lines, struct slice *in, struct lines_item *line);
void lines_deinit(struct lines *lines);
