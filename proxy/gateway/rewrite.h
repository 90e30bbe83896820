/* URLs of the engine's own names, on routes with rewrite_urls: in what it answers they become those
 * that its clients can use, and, where that is asked for, the other way round in requests.
 *
 * c->rewrite is NULL, and none of these is to be called but rewrite_begin(), where there is nothing
 * to rewrite: no such route, a gRPC call, or no telling what the client calls us. */
#pragma once

#include "exchange/head.h"

struct crossing;

/* The route is known and has it: from here on the request's content is rewritten if it is to be. */
void rewrite_begin(struct crossing *c);
/* Of the request as it is sent on. */
void rewrite_request(struct crossing *c, struct request_head *head);
/* How long the request's content is, which is @content as it came. */
struct content rewrite_length(const struct crossing *c, struct content content);
/* The response is about to be sent: x->response_head, x->response_content and, from here on,
 * x->response. */
void rewrite_respond(struct crossing *c);
