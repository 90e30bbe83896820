/* The insides of a pool, shared by what both protocols need (pool.c, pool_dial.c) and what only
 * HTTP/2 does (pool_h2.c). */
#pragma once

#include "upstream/pool.h"

/* HTTP/2: how often a loop that may have no connection asks for one, how long another loop keeps
 * new exchanges off the one that it means to give up, and when it tries that again if they stayed.
 */
#define POOL_ASK_NS (100 * NS_PER_MS)
#define POOL_YIELD_NS (250 * NS_PER_MS)
#define POOL_YIELD_AGAIN_NS (5 * NS_PER_S)

struct upstream_conn {
    struct list link;        /* in pool->idle, ->open or ->others */
    struct pool *pool;       /* borrowed: outlives it */
    struct conn *conn;       /* owned until a codec is there, then the codec's */
    struct h1_client *codec; /* HTTP/1; NULL while dialling */
    struct h2_client *h2;    /* HTTP/2; NULL until connected */
    struct timer timer;      /* dial timeout; HTTP/2: the time to yield */
    int64_t idle_since_ns;
    bool is_dialling;
    bool is_idle;

    /* HTTP/1. */
    struct lease *lease; /* borrowed; NULL: idle, closing, or its lease has ended */
    bool is_lost;        /* it ended while it was leased but not in use yet */
    bool is_back;        /* its codec has told how it was left behind since it was leased */

    /* HTTP/2. */
    struct gate_ticket ticket; /* while it is wanted */
    bool is_wanted;            /* waits for its right */
    bool is_live;              /* takes exchanges when it has room; counted in open_count */
    bool has_room;             /* in pool->open */
    bool is_yielding;          /* takes no more exchanges: another loop waits for its right */
};

/* pool_dial.c */
/* @uc is in pool->others and counts as nothing yet. */
struct upstream_conn *pool_conn_new(struct pool *pool);
/* Why no connection may be dialled now; FAIL_NONE: one may, and its fd is taken. */
enum fail pool_enter_dial(struct pool *pool);
/* Dials; the right is the connection's from here on. */
void pool_dial(struct upstream_conn *uc);
void pool_dial_failed(struct upstream_conn *uc, enum fail fail);
void pool_dial_over(struct upstream_conn *uc);
/* What a connection of the pool counts against. */
struct conn_account pool_account(struct pool *pool);

/* pool.c */
/* Dials for who stands in the dial line, as far as that is bounded. */
void pool_start_dials(struct pool *pool);
void pool_h1_connected(struct upstream_conn *uc);
void pool_enter_idle(struct upstream_conn *uc);
void pool_leave_idle(struct upstream_conn *uc);
void pool_close_if_empty(struct pool *pool);
/* Is a connection to be closed without waiting for the upstream? Only of a closing pool, and not
 * where another process may dial next: the upstream has to hear of the end first. */
bool pool_closes_at_once(const struct pool *pool);
/* Has others hand over, or close, what is idle there. */
void pool_ask_others(struct pool *pool);

/* pool_h2.c */
void pool_h2_init(struct pool *pool);
enum pool_outcome pool_h2_lease(struct pool *pool, struct lease *lease, enum fail *fail);
void pool_h2_lease_end(struct lease *lease, enum lease_state state);
void pool_h2_close(struct pool *pool);
void pool_h2_granted(struct gate_ticket *ticket);
void pool_h2_connected(struct upstream_conn *uc);
void pool_h2_dial_failed(struct pool *pool);
void pool_h2_asked(struct pool *pool);
/* Gives up a connection that is in use, unless that was tried just now. */
void pool_h2_yield(struct pool *pool);
