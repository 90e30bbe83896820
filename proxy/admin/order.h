/* Orders: POST /reload, /drain, /reset, /endpoint and /handler/reset. Home: admin. */
#pragma once

#include "admin/admin.h"

#include <h2o.h>

/* Answers @req if @path is that of an order; false: it is none. Whoever asks must be of this host
 * (loopback or a unix socket), show the token if there is one, and be no web page: a browser says
 * where a request comes from (Origin), and none that does may order anything. */
bool order_take(h2o_req_t *req, const struct admin_options *options, struct slice path);
