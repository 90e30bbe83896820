/* The HTTP/1 server codec, what concerns all connections of a listener on a loop: drain, abort, and
 * the eviction of idle ones. */
#include "codec/h1_server_state.h"
#include "codec/longest.h"

#include <assert.h>

static void close_idle(struct h1_server *server);
static bool may_close_when_idle(const struct h1_server *server);

void h1_server_loop_init(struct h1_server_loop *shared) {
    list_init(&shared->all);
}

void h1_server_loop_deinit(struct h1_server_loop *shared) {
    assert(list_is_empty(&shared->all));
    buffer_deinit(&shared->head);
    spares_drop(&shared->spares);
}

void h1_server_drain(struct h1_server_loop *shared) {
    struct list *link, *next;

    shared->is_draining = true;
    for (link = shared->all.next; link != &shared->all; link = next) {
        struct h1_server *server = CONTAINER_OF(link, struct h1_server, link);

        next = link->next;
        if (may_close_when_idle(server))
            close_idle(server);
    }
}

void h1_server_abort_all(struct h1_server_loop *shared) {
    struct list *link;

    for (link = shared->all.next; link != &shared->all; link = link->next) {
        struct h1_server *server = CONTAINER_OF(link, struct h1_server, link);

        if (server->x)
            h1_server_client_gone(server, FAIL_DRAINING);
        else
            conn_close(server->conn);
    }
}

unsigned h1_server_evict(struct h1_server_loop *shared, int64_t idle_ns, unsigned max) {
    int64_t before_ns = shared->loop->now_ns - idle_ns;
    struct longest idle;

    longest_init(&idle, max);
    for (struct list *link = shared->all.next; link != &shared->all; link = link->next) {
        struct h1_server *server = CONTAINER_OF(link, struct h1_server, link);

        if (server->read_ns <= before_ns && may_close_when_idle(server))
            longest_offer(&idle, server->read_ns, server);
    }
    for (unsigned i = 0; i < idle.count; i++)
        close_idle(idle.list[i].who);
    return idle.count;
}

static void close_idle(struct h1_server *server) {
    server->reading = H1_CLOSED;
    conn_linger(server->conn, H1_SERVER_IDLE_LINGER_NS, CONN_LINGER_BYTES_MAX);
}

/* Between two requests, with nothing of the next one here. */
static bool may_close_when_idle(const struct h1_server *server) {
    return !server->x && server->reading == H1_HEAD && server->input.len == 0;
}
