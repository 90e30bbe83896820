/* libuv's reads and writes as libh2o expects them. See uv_cure.h. */
#include "transport/uv_cure.h"

#include "base/alloc.h"

#include <assert.h>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define REST_BUFS 16 /* buffers of a rest that need no allocation */

typedef int read_start_fn(uv_stream_t *stream, uv_alloc_cb alloc_cb, uv_read_cb read_cb);

struct uv_cure {
    uv_loop_t *loop; /* borrowed: who opened us */
    uv_check_t check;
    uv_idle_t idle;           /* active while a callback is owed: the loop does not sleep then */
    uv_write_t *first, *last; /* owed callbacks, oldest first; borrowed: libh2o */
    struct uv_cure *next;     /* borrowed: the next one of this thread */
    unsigned handles;         /* not yet closed */
};

/* A request that is in our hands and not in libuv's has these fields to spare. */
#define NEXT_OF(req) (*(uv_write_t **)&(req)->reserved[0])
#define STATUS_OF(req) (*(intptr_t *)&(req)->reserved[1])

/* A loop and its cure live on one thread. */
static _Thread_local struct uv_cure *cures;

/* Written once, see find_libraries(). */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static read_start_fn *real_read_start; /* libuv's */
static uintptr_t libh2o, libh2o_end;   /* its place in memory; 0 where it is not loaded */

static struct uv_cure *find_cure(const uv_loop_t *loop);
static void owe(struct uv_cure *cure, uv_write_t *req, int status);
static int write_rest(uv_write_t *req, uv_stream_t *stream, const uv_buf_t bufs[], unsigned count,
                      size_t written, uv_write_cb cb);
static unsigned deliver(struct uv_cure *cure, bool only_closing);
static void on_check(uv_check_t *check);
static void on_idle(uv_idle_t *idle);
static void on_handle_close(uv_handle_t *handle);
static bool is_of_libh2o(uintptr_t function);
static void find_libraries(void);
static int note_libh2o(struct dl_phdr_info *info, size_t size, void *symbol);
static uv_read_cb cured_read_cb(uv_read_cb read_cb);

struct uv_cure *uv_cure_open(uv_loop_t *loop) {
    struct uv_cure *cure = xcalloc(1, sizeof *cure);

    cure->loop = loop;
    cure->handles = 2;
    uv_check_init(loop, &cure->check);
    uv_check_start(&cure->check, on_check);
    uv_unref((uv_handle_t *)&cure->check);
    uv_idle_init(loop, &cure->idle);
    cure->check.data = cure->idle.data = cure;
    cure->next = cures;
    cures = cure;
    return cure;
}

void uv_cure_close(struct uv_cure *cure) {
    struct uv_cure **at = &cures;

    if (!cure)
        return;
    assert(!cure->first);
    while (*at != cure)
        at = &(*at)->next;
    *at = cure->next;
    uv_close((uv_handle_t *)&cure->check, on_handle_close);
    uv_close((uv_handle_t *)&cure->idle, on_handle_close);
}

int uv_read_start(uv_stream_t *stream, uv_alloc_cb alloc_cb, uv_read_cb read_cb) {
    if (is_of_libh2o((uintptr_t)read_cb))
        read_cb = cured_read_cb(read_cb);
    return real_read_start(stream, alloc_cb, read_cb);
}

int uv_write(uv_write_t *req, uv_stream_t *stream, const uv_buf_t bufs[], unsigned count,
             uv_write_cb cb) {
    struct uv_cure *cure = is_of_libh2o((uintptr_t)cb) ? find_cure(stream->loop) : NULL;
    size_t total = 0;
    int n;

    if (!cure)
        return uv_write2(req, stream, bufs, count, NULL, cb);
    for (unsigned i = 0; i < count; i++)
        total += bufs[i].len;
    n = uv_try_write(stream, bufs, count);
    if (n == UV_EAGAIN)
        n = 0;
    if (n >= 0 && (size_t)n < total) {
        n = write_rest(req, stream, bufs, count, (size_t)n, cb);
        if (n == 0)
            return 0; /* libuv calls back */
    }
    req->type = UV_WRITE;
    req->handle = stream;
    req->cb = cb;
    owe(cure, req, n < 0 ? n : 0);
    return 0;
}

static struct uv_cure *find_cure(const uv_loop_t *loop) {
    struct uv_cure *cure = cures;

    while (cure && cure->loop != loop)
        cure = cure->next;
    return cure;
}

static void owe(struct uv_cure *cure, uv_write_t *req, int status) {
    NEXT_OF(req) = NULL;
    STATUS_OF(req) = status;
    if (cure->first)
        NEXT_OF(cure->last) = req;
    else
        cure->first = req;
    cure->last = req;
    uv_idle_start(&cure->idle, on_idle);
}

/* Hands libuv what is left of @bufs after the first @written bytes, less than all. */
static int write_rest(uv_write_t *req, uv_stream_t *stream, const uv_buf_t bufs[], unsigned count,
                      size_t written, uv_write_cb cb) {
    uv_buf_t few[REST_BUFS], *rest = few;
    unsigned skip = 0;
    int err;

    while (written >= bufs[skip].len)
        written -= bufs[skip++].len;
    assert(skip < count);
    count -= skip;
    if (count > REST_BUFS)
        rest = xmalloc(count * sizeof *rest);
    memcpy(rest, bufs + skip, count * sizeof *rest);
    rest[0].base += written;
    rest[0].len -= written;
    err = uv_write2(req, stream, rest, count, NULL, cb);
    if (rest != few)
        free(rest);
    return err;
}

/* Calls back what is owed now, but not what the callbacks add: a writer that is never full must not
 * keep the loop for itself. Returns how many. */
static unsigned deliver(struct uv_cure *cure, bool only_closing) {
    uv_write_t *req = cure->first, *next;
    unsigned delivered = 0;

    cure->first = NULL;
    for (; req; req = next) {
        next = NEXT_OF(req);
        if (only_closing && !uv_is_closing((uv_handle_t *)req->handle)) {
            owe(cure, req, (int)STATUS_OF(req));
            continue;
        }
        req->cb(req, (int)STATUS_OF(req));
        delivered++;
    }
    return delivered;
}

/* Closed handles are freed right after this phase, and their requests with them. */
static void on_check(uv_check_t *check) {
    struct uv_cure *cure = check->data;

    if (!cure->first)
        return;
    deliver(cure, false);
    while (deliver(cure, true) > 0)
        continue;
    if (!cure->first)
        uv_idle_stop(&cure->idle);
}

static void on_idle(uv_idle_t *idle) {
}

static void on_handle_close(uv_handle_t *handle) {
    struct uv_cure *cure = handle->data;

    if (--cure->handles == 0)
        free(cure);
}

static bool is_of_libh2o(uintptr_t function) {
    pthread_once(&once, find_libraries);
    return function >= libh2o && function < libh2o_end;
}

static void find_libraries(void) {
    *(void **)&real_read_start = dlsym(RTLD_NEXT, "uv_read_start");
    assert(real_read_start);
    dl_iterate_phdr(note_libh2o, dlsym(RTLD_NEXT, "h2o_socket_read_start"));
}

static int note_libh2o(struct dl_phdr_info *info, size_t size, void *symbol) {
    uintptr_t from = UINTPTR_MAX, to = 0;

    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        from = at < from ? at : from;
        to = at + info->dlpi_phdr[i].p_memsz > to ? at + info->dlpi_phdr[i].p_memsz : to;
    }
    if ((uintptr_t)symbol < from || (uintptr_t)symbol >= to)
        return 0;
    libh2o = from;
    libh2o_end = to;
    return 1;
}

/* A stream has no field to spare for its true callback, but libh2o has only two of them (plain and
 * TLS): each gets a function of its own in front. */
#define READ_CALLBACKS_MAX 2

static _Atomic(uv_read_cb) true_read_cb[READ_CALLBACKS_MAX];

#define DEFINE_READ_CB(i)                                                                     \
    static void on_read_##i(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {        \
        if (nread != 0)                                                                       \
            atomic_load_explicit(&true_read_cb[i], memory_order_relaxed)(stream, nread, buf); \
    }
DEFINE_READ_CB(0)
DEFINE_READ_CB(1)

static uv_read_cb cured_read_cb(uv_read_cb read_cb) {
    static const uv_read_cb cured[READ_CALLBACKS_MAX] = {on_read_0, on_read_1};

    for (unsigned i = 0; i < READ_CALLBACKS_MAX; i++) {
        uv_read_cb known = NULL;

        if (atomic_compare_exchange_strong(&true_read_cb[i], &known, read_cb) || known == read_cb)
            return cured[i];
    }
    assert(!"a third read callback in libh2o");
    return read_cb;
}
