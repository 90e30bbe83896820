/* Empties libh2o's two per-thread stores: socket buffers, and the chunks of memory pools. The
 * latter has no name outside of libh2o, but every new pool takes its first chunk from there. */
#include "transport/h2o_thread.h"

#include <h2o.h>
#include <stdlib.h>

#define POOL_CHUNKS_KEPT 16 /* libh2o 2.2.5, lib/common/memory.c */

void h2o_thread_deinit(void) {
    h2o_mem_recycle_t *buffers = &h2o_socket_buffer_prototype.allocator;

    while (buffers->cnt > 0)
        free(h2o_mem_alloc_recycle(buffers, 1));
    for (unsigned i = 0; i < POOL_CHUNKS_KEPT; i++) {
        h2o_mem_pool_t pool;

        h2o_mem_init_pool(&pool);
        h2o_mem_alloc_pool(&pool, 1);
        free(pool.chunks);
    }
}
