/* A handler that does nothing: what a call costs (load/bench). */
#include <weir/handler.h>

#include <stddef.h>

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    (void)state;
    (void)call;
    (void)request;
    return WEIR_CONTINUE;
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .name = "nothing",
    .version = "1",
    .request = on_request,
};
