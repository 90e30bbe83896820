/* The TLS of a listener: its certificates, chosen by the name that the client asks for (SNI, RFC
 * 6066 section 3), its demands on clients, and its sessions. The files are read again when they
 * change; connections keep what they began with. Home: shared. */
#pragma once

#include "transport/tls.h"
#include "transport/tls_context.h"

struct tls_server;

/* @listener is borrowed: outlives the server. -errno; *why is a message (the caller frees). */
int tls_server_open(struct tls_server **out, const struct config_listener *listener, char **why);

/* After the last connection. Accepts NULL. */
void tls_server_close(struct tls_server *server);

/* The TLS of a new connection. Any thread. */
struct tls *tls_server_accept(struct tls_server *server);

/* Reads the files again if they have changed since the last call and not since the one before it;
 * what cannot be used is logged, and the old ones stay. Blocks on the disk; one thread. */
void tls_server_refresh(struct tls_server *server);

/* When the certificate of the listener's config at @index ends, seconds since 1970. Any thread. */
int64_t tls_server_not_after_s(const struct tls_server *server, size_t index);
