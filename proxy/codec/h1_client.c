/* The HTTP/1 client codec. */
#include "codec/h1_client.h"

#include "base/alloc.h"
#include "codec/h1_chunked.h"
#include "codec/h1_send.h"
#include "codec/h1_write.h"

#include <assert.h>
#include <stdlib.h>

struct h1_client {
    struct conn *conn; /* owned until its on_closed */
    struct h1_client_options o;
    struct exchange *x; /* borrowed: its owner; NULL while idle */

    /* The request. */
    struct h1_send send;
    bool is_request_sent;

    /* The response. */
    struct buffer input; /* a part of a head */
    size_t seen;         /* bytes of the head that were there at the last parse */
    struct content in;
    uint64_t in_left; /* CONTENT_LENGTH */
    struct h1_chunked chunked;
    unsigned informational;
    bool is_any_received; /* a byte of this response */
    bool is_head_received;
    bool is_response_received;
    bool is_failed; /* the exchange was told */
    bool is_persistent;
    bool is_broken; /* the last exchange did not go through whole */
    bool is_used;   /* an exchange has been through before: its end may be a race */
};

static void on_data(struct conn *conn, struct slice bytes);
static void on_eof(struct conn *conn);
static void on_error(struct conn *conn, int err);
static void on_drained(struct conn *conn);
static void on_closed(struct conn *conn);
static struct slice read_heads(struct h1_client *client, struct slice in);
static void take_informational(struct h1_client *client, struct response_head *head);
static void take_final(struct h1_client *client, const struct response_head *head,
                       struct content content);
static void read_content(struct h1_client *client, struct slice in);
static struct slice read_chunked(struct h1_client *client, struct slice in);
static void response_received(struct h1_client *client);
static void request_sent(struct h1_client *client);
static void connection_lost(struct h1_client *client) __attribute__((cold));
static void fail(struct h1_client *client, enum fail reason, const char *why) __attribute__((cold));
static void on_ready(struct body *body);
static void pump(struct h1_client *client, bool has_head);
static void pause_source(struct body *body);
static void source_taken(struct body *body, size_t n);

static const struct conn_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

static const struct body_sink_ops request_sink = {.ready = on_ready};

static const struct body_source_ops response_source = {
    .pause = pause_source,
    .taken = source_taken,
};

struct h1_client *h1_client_open(struct conn *conn, const struct h1_client_options *options) {
    struct h1_client *client = xcalloc(1, sizeof *client);

    client->conn = conn;
    client->o = *options;
    client->is_used = options->is_used;
    client->send = (struct h1_send){.conn = conn, .scratch = options->head};
    conn_start(conn, &events, client);
    return client;
}

void h1_client_start(struct h1_client *client, struct exchange *x, const struct request_head *head,
                     struct content content) {
    assert(!client->x);
    client->x = x;
    h1_send_init(&client->send, content);
    client->is_request_sent = client->is_failed = false;
    client->is_any_received = client->is_head_received = client->is_response_received = false;
    client->is_persistent = true;
    client->informational = 0;
    client->seen = 0;
    x->response.source = &response_source;
    x->response.source_ctx = client;
    x->request.sink = &request_sink;
    x->request.sink_ctx = client;
    client->o.head->len = 0;
    h1_write_request(client->o.head, head, content);
    pump(client, true);
}

void h1_client_prefetch(const struct h1_client *client, const struct loop *loop) {
    loop_prefetch(loop, client, sizeof *client);
}

void h1_client_detach(struct h1_client *client) {
    struct exchange *x = client->x;
    bool is_whole = client->is_request_sent && client->is_response_received;

    if (!x)
        return;
    if (x->response.source_ctx == client)
        x->response.source = NULL;
    if (x->request.sink_ctx == client)
        x->request.sink = NULL;
    client->x = NULL;
    client->is_used = true;
    h1_chunked_deinit(&client->chunked);
    client->is_broken = !is_whole;
    client->o.on_idle(client->o.ctx, !is_whole               ? H1_CLIENT_BROKEN
                                     : client->is_persistent ? H1_CLIENT_REUSABLE
                                                             : H1_CLIENT_FINISHED);
}

void h1_client_close(struct h1_client *client, bool at_once) {
    assert(!client->x);
    if (at_once)
        conn_close(client->conn);
    else if (client->is_broken)
        conn_linger(client->conn, H1_CLIENT_BROKEN_NS, H1_CLIENT_BROKEN_BYTES_MAX);
    else
        conn_linger(client->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
}

int h1_client_export(struct h1_client *client, struct conn_parcel *parcel) {
    assert(!client->x);
    return conn_export(client->conn, parcel);
}

static void on_data(struct conn *conn, struct slice bytes) {
    struct h1_client *client = conn->codec;

    if (!client->x || client->is_response_received) {
        /* Bytes that nobody asked for: they can never be the answer to a later request. */
        client->is_persistent = false;
        if (!client->x)
            client->o.on_idle(client->o.ctx, H1_CLIENT_BROKEN);
        return;
    }
    if (client->is_failed)
        return; /* read before the conn was paused */
    client->is_any_received = true;
    if (!client->is_head_received) {
        exchange_prefetch(client->x);
        bytes = read_heads(client, bytes);
    }
    if (bytes.len > 0 && client->is_head_received && !client->is_failed)
        read_content(client, bytes);
    if (client->x)
        body_flush(&client->x->response);
}

/* Reads 1xx heads and the final one; returns what follows it. */
static struct slice read_heads(struct h1_client *client, struct slice in) {
    bool is_kept = client->input.len > 0;

    if (is_kept) {
        buffer_append(&client->input, in);
        in = buffer_slice(&client->input);
    }
    while (in.len > 0 && !client->is_head_received) {
        struct response_head head = {0};
        struct content content;
        const char *why = "";
        size_t used = 0;
        enum h1_outcome outcome = h1_parse_response(
            in, client->seen, &client->o.settings->limits, client->x->request_head.method,
            &client->x->arena, &head, &content, &used, &why);

        if (outcome == H1_PARTIAL) {
            client->seen = in.len;
            break;
        }
        client->seen = 0;
        if (outcome != H1_DONE) {
            fail(client,
                 outcome == H1_HEAD_LARGE ? FAIL_UPSTREAM_HEAD_LARGE : FAIL_UPSTREAM_MALFORMED,
                 why);
            return SLICE_NONE;
        }
        in = slice_skip(in, used);
        if (head.status < 200 && head.status != 101)
            take_informational(client, &head);
        else
            take_final(client, &head, content);
        if (client->is_failed)
            return SLICE_NONE;
    }
    if (!client->is_head_received && !is_kept) {
        buffer_append(&client->input, in);
        return SLICE_NONE;
    }
    if (!client->is_head_received) {
        /* Keep the part that is left, at the front. */
        memmove(client->input.base, in.base, in.len);
        client->input.len = in.len;
        return SLICE_NONE;
    }
    if (is_kept) {
        /* Content behind a head that came in pieces: it moves with the buffer, so it is copied. */
        if (in.len > 0)
            read_content(client, in);
        buffer_deinit(&client->input);
        return SLICE_NONE;
    }
    return in;
}

static void take_informational(struct h1_client *client, struct response_head *head) {
    struct exchange *x = client->x;

    if (++client->informational > client->o.settings->max_informational) {
        fail(client, FAIL_UPSTREAM_MALFORMED, "too many interim (1xx) responses");
        return;
    }
    exchange_inform(x, head);
}

static void take_final(struct h1_client *client, const struct response_head *head,
                       struct content content) {
    struct exchange *x = client->x;

    client->is_head_received = true;
    client->in = content;
    client->in_left = content.kind == CONTENT_LENGTH ? content.length : 0;
    if (content.kind == CONTENT_CHUNKED)
        h1_chunked_init(&client->chunked);
    client->is_persistent = h1_is_persistent(head->version, &head->fields) &&
                            content.kind != CONTENT_CLOSE && content.kind != CONTENT_TUNNEL;
    x->response_head = *head;
    x->response_content = content;
    if (content.kind == CONTENT_TUNNEL) {
        if (!fields_find(&x->request_head.fields, FIELD_UPGRADE)) {
            fail(client, FAIL_UPSTREAM_UPGRADE, "101 without an Upgrade in the request");
            return;
        }
        /* The request's content is over; what it carries from now on is the tunnel's. */
        h1_send_init(&client->send, content);
        client->is_request_sent = false;
    }
    exchange_wake(x, EXCHANGE_RESPONSE_HEAD);
    if (content.kind == CONTENT_NONE || (content.kind == CONTENT_LENGTH && content.length == 0))
        response_received(client);
}

static void read_content(struct h1_client *client, struct slice in) {
    bool is_stable = client->input.len == 0;
    struct body *body = &client->x->response;

    if (client->is_response_received) {
        client->is_persistent = false; /* bytes behind the response */
        return;
    }
    if (client->in.kind == CONTENT_CHUNKED) {
        in = read_chunked(client, in);
    } else {
        size_t n = in.len;

        if (client->in.kind == CONTENT_LENGTH && n > client->in_left)
            n = (size_t)client->in_left;
        if (is_stable)
            body_push(body, slice_of(in.base, n));
        else
            body_push_copy(body, slice_of(in.base, n));
        in = slice_skip(in, n);
        client->in_left -= client->in.kind == CONTENT_LENGTH ? n : 0;
        if (client->in.kind == CONTENT_LENGTH && client->in_left == 0)
            response_received(client);
    }
    if (in.len > 0)
        client->is_persistent = false;
}

/* Returns what follows the last chunk. */
static struct slice read_chunked(struct h1_client *client, struct slice in) {
    struct exchange *x = client->x;
    bool is_stable = client->input.len == 0;
    struct slice data;
    const char *why = "";

    for (;;) {
        switch (h1_chunked_next(&client->chunked, &in, &data, &client->o.settings->limits,
                                &x->arena, &x->response.trailers, &why)) {
        case H1_CHUNK_DATA:
            if (is_stable)
                body_push(&x->response, data);
            else
                body_push_copy(&x->response, data);
            break;
        case H1_CHUNK_MORE:
            return SLICE_NONE;
        case H1_CHUNK_END:
            response_received(client);
            return in;
        case H1_CHUNK_BAD:
        case H1_CHUNK_LARGE:
            fail(client, FAIL_UPSTREAM_MALFORMED, why);
            return SLICE_NONE;
        }
    }
}

static void response_received(struct h1_client *client) {
    client->is_response_received = true;
    h1_chunked_deinit(&client->chunked);
    body_end(&client->x->response);
    if (client->is_request_sent)
        exchange_wake(client->x, EXCHANGE_UPSTREAM_DONE);
}

static void request_sent(struct h1_client *client) {
    client->is_request_sent = true;
    if (client->send.framing.kind == CONTENT_TUNNEL)
        conn_finish(client->conn);
    if (client->is_response_received)
        exchange_wake(client->x, EXCHANGE_UPSTREAM_DONE);
}

static void on_eof(struct conn *conn) {
    struct h1_client *client = conn->codec;

    client->is_persistent = false;
    if (client->x && client->is_head_received && !client->is_response_received &&
        (client->in.kind == CONTENT_CLOSE || client->in.kind == CONTENT_TUNNEL)) {
        response_received(client);
        body_flush(&client->x->response);
        return;
    }
    connection_lost(client);
}

static void on_error(struct conn *conn, int err) {
    struct h1_client *client = conn->codec;

    client->is_persistent = false;
    connection_lost(client);
}

static void connection_lost(struct h1_client *client) {
    if (!client->x) {
        client->o.on_idle(client->o.ctx, H1_CLIENT_BROKEN);
    } else if (client->is_response_received) {
        /* An answer that did not wait for the whole request, and then the end: it is whole. */
        client->x->request.sink = NULL;
        exchange_wake(client->x, EXCHANGE_UPSTREAM_DONE);
    } else if (client->is_head_received) {
        fail(client, FAIL_UPSTREAM_INCOMPLETE, "the connection ended inside the response");
    } else if (client->is_any_received) {
        fail(client, FAIL_UPSTREAM_RESET, "the connection ended inside the response head");
    } else {
        fail(client, client->is_used ? FAIL_UPSTREAM_STALE : FAIL_UPSTREAM_RESET,
             "no byte of an answer");
    }
}

/* Tells the exchange; the codec stays with it until it detaches. */
static void fail(struct h1_client *client, enum fail reason, const char *why) {
    if (client->is_failed)
        return;
    client->is_failed = true;
    client->is_persistent = false;
    conn_pause(client->conn);
    exchange_upstream_failed(client->x, reason, why);
}

static void on_drained(struct conn *conn) {
    struct h1_client *client = conn->codec;

    if (client->x && !client->is_request_sent)
        pump(client, false);
}

static void on_closed(struct conn *conn) {
    struct h1_client *client = conn->codec;

    assert(!client->x);
    h1_chunked_deinit(&client->chunked);
    buffer_deinit(&client->input);
    client->o.on_closed(client->o.ctx);
    free(client);
}

static void on_ready(struct body *body) {
    struct h1_client *client = body->sink_ctx;

    if (body->state != BODY_RESET && conn_is_drained(client->conn))
        pump(client, false);
}

static void pump(struct h1_client *client, bool has_head) {
    int outcome;

    if (client->is_request_sent || client->is_failed)
        return;
    outcome = h1_send_body(&client->send, &client->x->request, has_head);
    if (outcome == H1_SEND_END) {
        request_sent(client);
    } else if (outcome == H1_SEND_MISMATCH) {
        fail(client, FAIL_INTERNAL, "the request's content is not as long as announced");
    } else if (outcome < 0) {
        /* What the upstream said before it closed may still be there to be read: an early answer.
         * The connection's end follows as on_eof or on_error. */
        client->is_persistent = false;
        client->x->request.sink = NULL;
        if (!client->conn->is_reading)
            connection_lost(client);
    }
}

static void pause_source(struct body *body) {
    struct h1_client *client = body->source_ctx;

    conn_pause(client->conn);
}

static void source_taken(struct body *body, size_t n) {
    struct h1_client *client = body->source_ctx;

    if (body_has_room(body))
        conn_resume(client->conn);
}
