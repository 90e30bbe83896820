/* fail.def as a table. */
#include "exchange/fail.h"

#include <assert.h>

static const struct fail_row rows[FAILS] = {
#define X(id, reason, error, http, grpc, retry, title, remedy) \
    [FAIL_##id] = {reason, error, http, grpc, FAIL_RETRY_##retry, title, remedy},
#include "exchange/fail.def"
#undef X
};

const struct fail_row *fail_row(enum fail fail) {
    assert(fail > FAIL_NONE && fail < FAILS);
    return &rows[fail];
}
