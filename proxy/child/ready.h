/* Asks an instance again and again whether it is ready: by a connection (tcp), by a GET that is to
 * be answered with 2xx (http), or by a Check of its health service over HTTP/2 (grpc). Nothing of
 * it waits, and of the answer no more is understood than that. Home: nursery. */
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "config/config.h"

#include <stdbool.h>

#define READY_AGAIN_NS (50 * NS_PER_MS) /* between two tries */
#define READY_TRY_NS (2 * NS_PER_S)     /* for one */
#define READY_ANSWER_MAX 4096           /* bytes of an answer that are looked at */

struct ready {
    const struct config_process *process; /* borrowed */
    const struct config_address *address; /* borrowed */
    int fd;                               /* of the try that is under way; -1: none */
    bool is_connected;                    /* what is asked was sent */
    int64_t next_ns;                      /* of the next try, or when this one is given up */
    struct buffer answer;
};

void ready_init(struct ready *ready, const struct config_process *process,
                const struct config_address *address, int64_t now_ns);
/* Ends a try that is under way. */
void ready_stop(struct ready *ready);

/* Goes on; to be called every few milliseconds. True: it is ready, and no try is under way. */
bool ready_look(struct ready *ready, int64_t now_ns);
