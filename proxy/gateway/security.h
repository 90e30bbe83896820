/* The TLS of all listeners and pipelines, and the thread that looks every SECURITY_LOOK_NS whether
 * their files have changed. Home: shared. */
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "transport/tls_client.h"
#include "transport/tls_server.h"

#include <pthread.h>

#define SECURITY_LOOK_NS (1 * NS_PER_S)

struct security {
    const struct config *config; /* borrowed */
    struct tls_server **servers; /* owned; as in the config; NULL: a plain listener */
    struct tls_client **clients; /* owned; as in the config; NULL: a plain pipeline */
    bool has_any;
    pthread_mutex_t lock; /* guards is_ending */
    pthread_cond_t end;
    bool is_ending;
    bool is_running;
    pthread_t thread;
};

/* Reads all files. -errno; *why is a message (the caller frees), and security_close() is still due.
 */
int security_open(struct security *security, const struct config *config, char **why);

/* Starts the thread, with every signal blocked; none when nothing is to be looked at. -errno. */
int security_start(struct security *security);

/* Ends the thread, frees all. After the last connection. Zeroed memory is fine. */
void security_close(struct security *security);

/* The metrics. Any thread. */
void security_collect(const struct security *security, struct buffer *text);
