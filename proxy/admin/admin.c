/* The admin thread: its loop, its connections, and their complete end. */
#include "admin/admin.h"

#include "admin/order.h"
#include "admin/page.h"
#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "base/thread.h"
#include "transport/h2o_thread.h"
#include "transport/uv_cure.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <h2o.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#define ACCEPT_PAUSE_MS 100 /* after an accept that failed for want of fds or memory */
#define CLOSE_MS 1000       /* for answers under way at the end */
#define SETTLE_MS 100       /* for requests that are on their way then */

/* Home: admin, but for what admin_open() and admin_close() do around the thread's life. */
struct admin {
    struct admin_options options;
    int64_t started_ns;
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t close_request; /* the one handle that another thread touches */
    uv_poll_t listener;
    uv_timer_t pause;     /* of accepting; once closing, the patience with connections */
    struct uv_cure *cure; /* owned */
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    struct list conns; /* of struct admin_conn */
    unsigned conn_count;
    bool is_closing;
};

struct admin_conn {
    uv_tcp_t tcp;        /* a unix socket works as well */
    struct admin *admin; /* borrowed */
    struct list link;
    int fd; /* borrowed: tcp */
};

struct admin_handler {
    h2o_handler_t super;
    struct admin *admin; /* borrowed */
};

static void *run(void *arg);
static void open_http(struct admin *admin);
static void update_accepting(struct admin *admin);
static void on_listener_ready(uv_poll_t *poll, int status, int events);
static void serve(struct admin *admin, int fd);
static void on_pause_ended(uv_timer_t *timer);
static void on_conn_closed(void *data);
static void on_conn_handle_closed(uv_handle_t *handle);
static int on_request(h2o_handler_t *handler, h2o_req_t *req);
static void reply(h2o_req_t *req, const struct page *page);
static void on_close_request(uv_async_t *async);
static void on_settled(uv_timer_t *timer);
static void on_patience_ended(uv_timer_t *timer);

int admin_open(struct admin **out, const struct admin_options *options) {
    struct admin *admin = xcalloc(1, sizeof *admin);
    int flags, err;

    admin->options = *options;
    if (admin->options.timeout_ns == 0)
        admin->options.timeout_ns = ADMIN_TIMEOUT_NS;
    admin->started_ns = clock_now_ns();
    list_init(&admin->conns);

    flags = fcntl(options->fd, F_GETFL);
    if (flags < 0 || fcntl(options->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        err = -errno;
        goto fail;
    }
    err = uv_loop_init(&admin->loop);
    if (err)
        goto fail;
    err = uv_async_init(&admin->loop, &admin->close_request, on_close_request);
    if (err)
        goto fail_loop;
    err = uv_poll_init(&admin->loop, &admin->listener, options->fd);
    if (err)
        goto fail_async;
    err = thread_start(&admin->thread, run, admin);
    if (err)
        goto fail_poll;
    *out = admin;
    return 0;
fail_poll:
    uv_close((uv_handle_t *)&admin->listener, NULL);
fail_async:
    uv_close((uv_handle_t *)&admin->close_request, NULL);
    uv_run(&admin->loop, UV_RUN_DEFAULT);
fail_loop:
    uv_loop_close(&admin->loop);
fail:
    free(admin);
    return err;
}

void admin_close(struct admin *admin) {
    if (!admin)
        return;
    uv_async_send(&admin->close_request);
    pthread_join(admin->thread, NULL);
    close(admin->options.fd);
    free(admin);
}

static void *run(void *arg) {
    struct admin *admin = arg;
    int err;

    pthread_setname_np(pthread_self(), "weir-admin");
    admin->cure = uv_cure_open(&admin->loop);
    uv_timer_init(&admin->loop, &admin->pause);
    admin->listener.data = admin->pause.data = admin->close_request.data = admin;
    open_http(admin);
    update_accepting(admin);
    uv_run(&admin->loop,
           UV_RUN_DEFAULT); /* until on_conn_closed() or on_close_request() stops it */

    assert(admin->is_closing && admin->conn_count == 0);
    h2o_context_dispose(&admin->context);
    h2o_config_dispose(&admin->config);
    uv_close((uv_handle_t *)&admin->pause, NULL);
    uv_close((uv_handle_t *)&admin->close_request, NULL);
    uv_close((uv_handle_t *)&admin->listener, NULL);
    uv_cure_close(admin->cure);
    uv_run(&admin->loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&admin->loop);
    assert(err == 0);
    h2o_thread_deinit();
    return NULL;
}

static void open_http(struct admin *admin) {
    struct admin_handler *handler;
    h2o_hostconf_t *host;

    h2o_config_init(&admin->config);
    admin->config.server_name = h2o_iovec_init(H2O_STRLIT("weir"));
    admin->config.max_request_entity_size = ADMIN_CONTENT_MAX;
    admin->config.http1.req_timeout = (uint64_t)(admin->options.timeout_ns / NS_PER_MS);
    admin->config.http1.upgrade_to_http2 = 0;
    /* It would arm a timer that h2o_context_dispose() then trips over. */
    admin->config.http2.callbacks.request_shutdown = NULL;
    host = h2o_config_register_host(&admin->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    handler = (void *)h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof *handler);
    handler->super.on_req = on_request;
    handler->admin = admin;
    h2o_context_init(&admin->context, &admin->loop, &admin->config);
    admin->accept = (h2o_accept_ctx_t){.ctx = &admin->context, .hosts = admin->config.hosts};
}

/* The listener is polled while there is room; more clients wait in its backlog. */
static void update_accepting(struct admin *admin) {
    if (admin->is_closing || admin->conn_count >= ADMIN_CONNECTIONS_MAX ||
        uv_is_active((uv_handle_t *)&admin->pause))
        uv_poll_stop(&admin->listener);
    else
        uv_poll_start(&admin->listener, UV_READABLE, on_listener_ready);
}

static void on_listener_ready(uv_poll_t *poll, int status, int events) {
    struct admin *admin = poll->data;
    int fd = accept4(admin->options.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        serve(admin, fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        static struct log_limit limit = LOG_LIMIT(1);

        log_limited(&limit, LOG_WARN, "cannot accept an admin connection: %s", strerror(errno));
        uv_timer_start(&admin->pause, on_pause_ended, ACCEPT_PAUSE_MS, 0);
    }
    update_accepting(admin);
}

static void serve(struct admin *admin, int fd) {
    struct admin_conn *conn = xcalloc(1, sizeof *conn);
    unsigned timeout_ms = (unsigned)(admin->options.timeout_ns / NS_PER_MS);
    h2o_socket_t *sock;
    int err;

    conn->admin = admin;
    conn->fd = fd;
    uv_tcp_init(&admin->loop, &conn->tcp);
    err = uv_tcp_open(&conn->tcp, fd);
    if (err) {
        close(fd);
        uv_close((uv_handle_t *)&conn->tcp, on_conn_handle_closed);
        return;
    }
    /* libh2o has no time limit for writing; the kernel has. Unix sockets have no use for it. */
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    list_push_back(&admin->conns, &conn->link);
    admin->conn_count++;
    sock = h2o_uv_socket_create((uv_stream_t *)&conn->tcp, on_conn_handle_closed);
    sock->on_close.cb = on_conn_closed;
    sock->on_close.data = conn;
    h2o_accept(&admin->accept, sock);
}

static void on_pause_ended(uv_timer_t *timer) {
    update_accepting(timer->data);
}

static void on_conn_closed(void *data) {
    struct admin_conn *conn = data;
    struct admin *admin = conn->admin;

    list_remove(&conn->link);
    admin->conn_count--;
    update_accepting(admin);
    if (admin->is_closing && admin->conn_count == 0)
        uv_stop(&admin->loop);
}

static void on_conn_handle_closed(uv_handle_t *handle) {
    free(CONTAINER_OF(handle, struct admin_conn, tcp));
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req) {
    struct admin *admin = ((struct admin_handler *)handler)->admin;
    struct slice method = slice_of(req->method.base, req->method.len);
    struct slice path = slice_of(req->path.base, req->path.len);
    struct page page;

    if (req->query_at != SIZE_MAX)
        path.len = req->query_at;
    if (order_take(req, &admin->options, path))
        return 0;
    page_make(&page, &admin->options, clock_now_ns() - admin->started_ns, path);
    if (page.status != 404 && !slice_equal(method, SLICE("GET")) &&
        !slice_equal(method, SLICE("HEAD"))) {
        page.status = 405;
        page.reason = "Method Not Allowed";
        page.type = "text/plain; charset=utf-8";
        page.content.len = 0;
        buffer_append(&page.content, SLICE("only GET and HEAD\n"));
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ALLOW, NULL,
                       H2O_STRLIT("GET, HEAD"));
    }
    reply(req, &page);
    buffer_deinit(&page.content);
    return 0;
}

static void reply(h2o_req_t *req, const struct page *page) {
    req->res.status = page->status;
    req->res.reason = page->reason;
    req->res.content_length = page->content.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, page->type,
                   strlen(page->type));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL,
                   H2O_STRLIT("no-store"));
    h2o_send_inline(req, page->content.base, page->content.len); /* copies */
}

/* A request may be on its way on a connection that was accepted a moment ago. Then idle connections
 * see an end of file and go; those that are being answered go after it. */
static void on_close_request(uv_async_t *async) {
    struct admin *admin = async->data;

    admin->is_closing = true;
    update_accepting(admin);
    h2o_context_request_shutdown(&admin->context);
    uv_timer_start(&admin->pause, on_settled, SETTLE_MS, 0);
    if (admin->conn_count == 0)
        uv_stop(&admin->loop);
}

static void on_settled(uv_timer_t *timer) {
    struct admin *admin = timer->data;

    for (struct list *at = admin->conns.next; at != &admin->conns; at = at->next)
        shutdown(CONTAINER_OF(at, struct admin_conn, link)->fd, SHUT_RD);
    uv_timer_start(&admin->pause, on_patience_ended, CLOSE_MS, 0);
}

/* A socket of libh2o may only be closed by libh2o: make its next read or write fail. */
static void on_patience_ended(uv_timer_t *timer) {
    struct admin *admin = timer->data;
    struct linger linger = {1, 0};

    for (struct list *at = admin->conns.next; at != &admin->conns; at = at->next) {
        int fd = CONTAINER_OF(at, struct admin_conn, link)->fd;

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        shutdown(fd, SHUT_RDWR);
    }
}
