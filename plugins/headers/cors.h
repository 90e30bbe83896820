/* CORS (Fetch standard, section 3.2): which pages of other origins may use a server. */
#pragma once

#include <weir/handler.h>

#include <jansson.h>

struct cors {
    json_t *origins, *methods, *headers, *expose; /* borrowed: the configuration */
    bool has_credentials;
    int64_t max_age_ns;
    bool is_for_all; /* an origin of "*" */
};

/* Reads the `cors` table. 0; -1: @why says what is wrong. */
int cors_read(struct cors *cors, const json_t *table, char *why, size_t why_size);

/* Is it a preflight, which is answered here, by WEIR_RESPOND? */
bool cors_is_preflight(const struct weir_request *request);
enum weir_verdict cors_answer(const struct cors *cors, const struct weir_host *host,
                              struct weir_call *call, const struct weir_request *request);
/* Edits the response: what it says of CORS is what @cors says. */
void cors_edit(const struct cors *cors, const struct weir_host *host, struct weir_call *call,
               const struct weir_request *request, const struct weir_response *response);
/* The same of the answers that weir and the handlers behind may give to a request that goes on. */
void cors_prepare(const struct cors *cors, const struct weir_host *host, struct weir_call *call,
                  const struct weir_request *request);
