/* The cure for two defects of libh2o's libuv binding (2.2.5), which ignores what libuv tells it:
 *
 * A. A TLS read that fills the buffer exactly is followed by nread == 0 ("nothing more for now"),
 *    and libh2o takes that for an I/O error: uploads die at exact sizes.
 * B. A uv_write() that fails at once, as it does on a connection that was reset, never calls back,
 *    and libh2o waits for that callback before it closes a TLS socket: every such reset leaks an
 * fd.
 *
 * The executable defines uv_read_start() and uv_write(), and exports them, so that libh2o's calls
 * come here. Only calls whose callback lives in libh2o are treated; for everybody else the two are
 * libuv's own. Reads with nread == 0 are kept back. Writes are tried at once; what went out whole
 * or failed is called back from a queue at the end of the loop's iteration, which also saves the
 * epoll_ctl that uv_write() costs; the rest goes to libuv. */
#pragma once

#include <uv.h>

struct uv_cure;

/* Makes writes of @loop's h2o sockets call back. Call it on the loop's thread, straight after
 * uv_loop_init() and before any other uv_check_t is started: its own then runs last in each
 * iteration, and a callback never comes after its handle has been closed. On a loop without it
 * defect B stands. Never NULL. Home: loop. */
struct uv_cure *uv_cure_open(uv_loop_t *loop);

/* After the h2o sockets of the loop are closed; run the loop once more before uv_loop_close().
 * Accepts NULL. */
void uv_cure_close(struct uv_cure *cure);
