/* /bytes: any number of bytes from one small block that is never copied here: the next piece is
 * pushed when the last one was taken. */
#include "demo/resource.h"

#include <stdlib.h>

#define BULK_MAX (UINT64_C(1) << 30)
#define BLOCK_BYTES (32 * 1024)
#define LINE_BYTES 64

static void bulk_move(struct visit *v);
static struct slice block(void);

void bulk_open(struct visit *v) {
    const struct visit_number number = {"n", 1024 * 1024, 0, BULK_MAX};
    uint64_t *left = visit_state(v, sizeof *left);

    if (!visit_number(v, &number, left))
        return;
    v->move = bulk_move;
    if (visit_begin(v, 200, "application/octet-stream", (struct content){CONTENT_LENGTH, *left}))
        exchange_wake(&v->x, 0);
    else
        v->move = NULL;
}

static void bulk_move(struct visit *v) {
    struct body *body = &v->x.response;
    struct slice piece = block();
    uint64_t *left = v->state;

    if (body_waiting(body) > 0)
        return; /* woken again as it is taken */
    if (*left < piece.len)
        piece.len = (size_t)*left;
    *left -= piece.len;
    body_push(body, piece);
    if (*left == 0) {
        v->move = NULL;
        body_end(body);
    }
    body_flush(body);
}

/* Lines of digits and letters. */
static struct slice block(void) {
    static char bytes[BLOCK_BYTES];

    for (size_t i = 0; !bytes[0] && i < LINE_BYTES; i++)
        bytes[BLOCK_BYTES - LINE_BYTES + i] =
            i < LINE_BYTES - 1 ? "0123456789abcdefghijklmnopqrstuvwxyz"[i % 36] : '\n';
    for (size_t i = 0; !bytes[0] && i < BLOCK_BYTES; i += LINE_BYTES)
        memcpy(bytes + i, bytes + BLOCK_BYTES - LINE_BYTES, LINE_BYTES);
    return slice_of(bytes, sizeof bytes);
}
