/* What of the WebSocket handshake a gateway has to compute (RFC 6455 section 4.2.2). */
#pragma once

#include "base/arena.h"

/* The Sec-WebSocket-Accept for @key; arena. */
struct slice websocket_accept(struct arena *arena, struct slice key);
