/* The TLS of a pipeline: what its upstreams are verified by, what we show them, and the sessions
 * that can be resumed, one per endpoint. The files are read again when they change. Home: shared.
 */
#pragma once

#include "transport/tls.h"
#include "transport/tls_context.h"

#define TLS_CLIENT_SESSIONS_MAX 64 /* per pipeline; a new one may take the place of an old one */

/* @pipeline is borrowed: outlives the client. -errno; *why is a message (the caller frees). */
int tls_client_open(struct tls_client **out, const struct config_pipeline *pipeline, char **why);

/* After the last connection. Accepts NULL. */
void tls_client_close(struct tls_client *client);

/* The TLS of a new connection to @address. Any thread. */
struct tls *tls_client_dial(struct tls_client *client, const struct sockaddr *address);

/* As tls_server_refresh(). */
void tls_client_refresh(struct tls_client *client);

/* When the certificate that we show ends, seconds since 1970; 0: we have none. Any thread. */
int64_t tls_client_not_after_s(const struct tls_client *client);
