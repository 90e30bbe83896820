/* The exchange: what its codecs record. */
#include "exchange/exchange.h"

static void on_deadline(struct timer *timer);

void exchange_init(struct exchange *x, struct loop *loop, task_fn *run, void *memory, size_t size) {
    memset(x, 0, offsetof(struct exchange, request));
    task_init(&x->task, run);
    x->loop = loop;
    x->started_ns = loop->now_ns;
    arena_init(&x->arena, memory, size);
    body_init(&x->request, loop);
    body_init(&x->response, loop);
    timer_init(&x->deadline, on_deadline);
}

void exchange_deinit(struct exchange *x) {
    loop_timer_stop(x->loop, &x->deadline);
    task_cancel(&x->task);
    body_deinit(&x->request);
    body_deinit(&x->response);
    arena_deinit(&x->arena);
}

void exchange_inform(struct exchange *x, struct response_head *head) {
    if (!x->client)
        return;
    if (x->adapt_informational)
        x->adapt_informational(x, head);
    x->client->send_informational(x, head);
}

void exchange_client_gone(struct exchange *x, enum fail fail) {
    x->client = NULL;
    x->client_fail = fail;
    x->request.source = NULL;
    x->response.sink = NULL;
    exchange_wake(x, EXCHANGE_CLIENT_GONE);
}

void exchange_upstream_failed(struct exchange *x, enum fail fail, const char *why) {
    x->upstream_fail = fail;
    x->upstream_why = why;
    x->response.source = NULL;
    x->request.sink = NULL;
    if (x->response_head.status != 0)
        body_reset(&x->response, fail);
    exchange_wake(x, EXCHANGE_UPSTREAM_FAIL);
}

static void on_deadline(struct timer *timer) {
    exchange_wake(CONTAINER_OF(timer, struct exchange, deadline), EXCHANGE_DEADLINE);
}
