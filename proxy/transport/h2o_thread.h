/* libh2o keeps freed memory per thread for the next use, and forgets it when the thread ends. */
#pragma once

/* Frees what libh2o keeps for this thread: the last thing that a thread with h2o sockets does. */
void h2o_thread_deinit(void);
