/* HTTP/1 and HTTP/2 on one port: waits for the bytes that tell them apart, which are the connection
 * preface that begins every HTTP/2 connection (RFC 9113 section 3.4). A client that differs from it
 * in any byte speaks HTTP/1. Home: loop. */
#pragma once

#include "transport/conn.h"

/* One listener on one loop. */
struct h2_sniff_loop {
    struct loop *loop;  /* borrowed */
    int64_t timeout_ns; /* for the first bytes; 0: none */
    void *ctx;          /* borrowed: the owner's */
    /* Starts the codec on @conn (conn_start()), which then gets the bytes that are here. */
    void (*on_known)(struct h2_sniff_loop *shared, struct conn *conn, bool is_http2);
    struct list all;        /* struct h2_sniff */
    _Atomic unsigned count; /* of all; any thread may read */
};

void h2_sniff_loop_init(struct h2_sniff_loop *shared);

void h2_sniff_open(struct h2_sniff_loop *shared, struct conn *conn);

/* Closes every connection that has not shown yet what it speaks. */
void h2_sniff_close_all(struct h2_sniff_loop *shared);
