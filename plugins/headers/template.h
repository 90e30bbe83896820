/* Values of fields in which "${...}" stands for something of the request. */
#pragma once

#include <weir/handler.h>

#define TEMPLATE_VALUE_MAX 8192 /* bytes of what becomes of one */

/* NULL: it is a template; otherwise what is wrong with it. */
const char *template_check(struct weir_text template);
/* In the call's memory. False: it becomes too long. */
bool template_expand(const struct weir_host *host, struct weir_call *call,
                     const struct weir_request *request, struct weir_text template,
                     struct weir_text *value);
