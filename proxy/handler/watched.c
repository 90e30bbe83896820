/* Watched files; see watched.h. */
#include "handler/watched.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"
#include "base/thread.h"
#include "config/pem.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_CALL UINT64_MAX

/* What is known of a file's versions, in one word: the number of the newest, whether the next is
 * being written, and whether the newest is the last but one again. Version n is in half n & 1;
 * what was there before it stays in the other until the next is written. */
#define STATE_WRITING 1
#define STATE_REVERTED 2
#define STATE_VERSION(n) ((uint64_t)(n) << 2)

/* In shared memory. */
struct watched_area {
    _Atomic uint64_t state; /* 0: no file */
    _Atomic uint64_t len[2];
    char path[WATCHED_PATH_MAX + 1];
    char halves[2][WATCHED_BYTES_MAX];
};

static inline uint64_t version_of(const struct watched_area *area) {
    return atomic_load(&area->state) >> 2;
}

struct watched_snapshot {
    _Atomic unsigned refs; /* watched_file.current, and views */
    uint64_t version;
    size_t len;
    char text[];
};

/* What a look at a file has seen. */
struct watched_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

struct watched_file {
    struct watched_area *area;        /* borrowed: files */
    struct watched_snapshot *current; /* of this process; counted; NULL: none yet */
    /* Only of the process that reads. */
    struct watched_stamp last, seen; /* when it was read, and at the last look */
    bool is_lost;                    /* the log knows that it cannot be read */
};

/* Home: shared, between threads. */
struct watched_files {
    char *folder;
    pid_t reader;
    struct watched_area *areas; /* owned: mapped */
    pthread_mutex_t lock;       /* of current, count, and of writing areas */
    struct watched_file list[WATCHED_FILES_MAX];
    unsigned count; /* known to this process */
    pthread_mutex_t pause_lock;
    pthread_cond_t pause; /* is_ending */
    bool is_ending, has_thread;
    pthread_t thread;
};

struct weir_file {
    struct watched_files *files; /* borrowed */
    struct watched_file *file;   /* borrowed: files */
    struct watched_snapshot *held;
    uint64_t call;
};

static void *run(void *arg);
static char *absolute(const struct watched_files *files, struct slice path);
static struct watched_file *find(struct watched_files *files, const char *path);
static int add(struct watched_files *files, const char *path, struct watched_file **out,
               char **why);
static void look_at(struct watched_files *files, struct watched_file *file);
static int read_whole(const char *path, struct buffer *text, char **why);
static void publish(struct watched_files *files, struct watched_file *file, struct slice text);
static struct watched_snapshot *hold(struct watched_files *files, struct watched_file *file);
static struct watched_snapshot *copy(const struct watched_area *area);
static void release(struct watched_snapshot *snapshot);
static bool get_stamp(const char *path, struct watched_stamp *stamp);
static bool is_same(const struct watched_stamp *a, const struct watched_stamp *b);

int watched_open(struct watched_files **out, const char *folder) {
    struct watched_files *files = xcalloc(1, sizeof *files);
    pthread_condattr_t monotonic;
    int err;

    files->areas = mmap(NULL, WATCHED_FILES_MAX * sizeof *files->areas, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (files->areas == MAP_FAILED) {
        err = -errno;
        free(files);
        return err;
    }
    files->folder = xstrdup(folder);
    files->reader = getpid();
    pthread_mutex_init(&files->lock, NULL);
    pthread_mutex_init(&files->pause_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&files->pause, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *out = files;
    return 0;
}

int watched_start(struct watched_files *files) {
    int err = thread_start(&files->thread, run, files);

    files->has_thread = err == 0;
    return err;
}

void watched_close(struct watched_files *files) {
    if (!files)
        return;
    if (files->has_thread) {
        pthread_mutex_lock(&files->pause_lock);
        files->is_ending = true;
        pthread_cond_signal(&files->pause);
        pthread_mutex_unlock(&files->pause_lock);
        pthread_join(files->thread, NULL);
    }
    for (unsigned i = 0; i < files->count; i++)
        release(files->list[i].current);
    munmap(files->areas, WATCHED_FILES_MAX * sizeof *files->areas);
    pthread_cond_destroy(&files->pause);
    pthread_mutex_destroy(&files->pause_lock);
    pthread_mutex_destroy(&files->lock);
    free(files->folder);
    free(files);
}

void watched_look(struct watched_files *files) {
    unsigned count;

    pthread_mutex_lock(&files->lock);
    count = files->count;
    pthread_mutex_unlock(&files->lock);
    for (unsigned i = 0; i < count; i++)
        look_at(files, &files->list[i]);
}

int watched_view_open(struct weir_file **out, struct watched_files *files, struct slice path,
                      char **why) {
    char *full = absolute(files, path);
    struct watched_file *file = NULL;
    struct weir_file *view;
    int err = 0;

    if (!full) {
        *why = xasprintf("a path has 1 to %d bytes", WATCHED_PATH_MAX);
        return -ENAMETOOLONG;
    }
    pthread_mutex_lock(&files->lock);
    file = find(files, full);
    pthread_mutex_unlock(&files->lock);
    if (!file)
        err = add(files, full, &file, why);
    free(full);
    if (err)
        return err;
    view = xcalloc(1, sizeof *view);
    *view = (struct weir_file){.files = files, .file = file, .call = NO_CALL};
    *out = view;
    return 0;
}

void watched_view_close(struct weir_file *view) {
    if (view)
        release(view->held);
    free(view);
}

struct weir_text watched_view_content(struct weir_file *view, uint64_t call, uint64_t *version) {
    if (view->call != call &&
        (!view->held || version_of(view->file->area) != view->held->version)) {
        release(view->held);
        view->held = hold(view->files, view->file);
    }
    view->call = call;
    *version = view->held->version;
    return (struct weir_text){view->held->text, view->held->len};
}

void watched_view_reject(struct weir_file *view, uint64_t version) {
    uint64_t state = STATE_VERSION(version);

    if (version > 1)
        atomic_compare_exchange_strong(&view->file->area->state, &state,
                                       STATE_VERSION(version + 1) | STATE_REVERTED);
    view->call = NO_CALL;
}

static void *run(void *arg) {
    struct watched_files *files = arg;
    struct timespec until;

    pthread_mutex_lock(&files->pause_lock);
    while (!files->is_ending) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += WATCHED_EVERY_MS / 1000;
        if (pthread_cond_timedwait(&files->pause, &files->pause_lock, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&files->pause_lock);
        watched_look(files);
        pthread_mutex_lock(&files->pause_lock);
    }
    pthread_mutex_unlock(&files->pause_lock);
    return NULL;
}

/* NULL: no such path can be. The caller frees. */
static char *absolute(const struct watched_files *files, struct slice path) {
    char *full;

    if (path.len == 0 || path.len > WATCHED_PATH_MAX || memchr(path.base, '\0', path.len))
        return NULL;
    full = path.base[0] == '/' ? xstrndup(path.base, path.len)
                               : xasprintf("%s/%.*s", files->folder, SLICE_ARG(path));
    if (strlen(full) <= WATCHED_PATH_MAX)
        return full;
    free(full);
    return NULL;
}

/* Locked. What another process has added behind our back is found, too. */
static struct watched_file *find(struct watched_files *files, const char *path) {
    while (files->count < WATCHED_FILES_MAX && version_of(&files->areas[files->count])) {
        files->list[files->count].area = &files->areas[files->count];
        files->count++;
    }
    for (unsigned i = 0; i < files->count; i++)
        if (strcmp(files->list[i].area->path, path) == 0)
            return &files->list[i];
    return NULL;
}

static int add(struct watched_files *files, const char *path, struct watched_file **out,
               char **why) {
    struct watched_stamp stamp = {0};
    struct watched_file *file;
    struct buffer text = {0};
    int err;

    if (getpid() != files->reader) {
        *why = xstrdup("the first instance of the plugin did not ask for it");
        return -EPERM;
    }
    get_stamp(path, &stamp);
    err = read_whole(path, &text, why);
    if (err) {
        buffer_deinit(&text);
        return err;
    }
    pthread_mutex_lock(&files->lock);
    file = find(files, path); /* by another thread, meanwhile */
    if (!file && files->count < WATCHED_FILES_MAX) {
        file = &files->list[files->count];
        file->area = &files->areas[files->count];
        file->last = file->seen = stamp;
        memcpy(file->area->path, path, strlen(path) + 1);
        publish(files, file, buffer_slice(&text));
        files->count++;
    } else if (!file) {
        *why = xasprintf("there are %d watched files already", WATCHED_FILES_MAX);
        err = -ENOSPC;
    }
    pthread_mutex_unlock(&files->lock);
    buffer_deinit(&text);
    if (!err)
        *out = file;
    return err;
}

/* A file that is being written changes from look to look: it is read when it has stayed the same
 * for one. */
static void look_at(struct watched_files *files, struct watched_file *file) {
    const char *path = file->area->path;
    struct watched_stamp stamp = {0}, after = {0};
    bool is_there = get_stamp(path, &stamp), has_settled = is_same(&stamp, &file->seen);
    struct buffer text = {0};
    char *why = NULL;

    file->seen = stamp;
    if (is_there && is_same(&stamp, &file->last))
        file->is_lost = false;
    if (is_there && (!has_settled || is_same(&stamp, &file->last)))
        return;
    if (read_whole(path, &text, &why) == 0) {
        file->is_lost = false;
        if (get_stamp(path, &after) && is_same(&stamp, &after)) {
            file->last = stamp;
            pthread_mutex_lock(&files->lock);
            publish(files, file, buffer_slice(&text));
            pthread_mutex_unlock(&files->lock);
        }
    } else if (!file->is_lost) {
        file->is_lost = true;
        log_warn("cannot use what '%s' is now, its last content stays: %s", path, why);
    }
    free(why);
    buffer_deinit(&text);
}

static int read_whole(const char *path, struct buffer *text, char **why) {
    int err = pem_read_file(path, text, why);

    if (!err && text->len > WATCHED_BYTES_MAX) {
        *why = xstrdup("it is larger than 1 MiB");
        err = -EFBIG;
    }
    return err;
}

/* Locked. Workers of other processes may go back to the version before until STATE_WRITING says
 * that it is gone. */
static void publish(struct watched_files *files, struct watched_file *file, struct slice text) {
    struct watched_area *area = file->area;
    uint64_t version, next;

    assert(files->reader == getpid());
    version = atomic_fetch_or(&area->state, STATE_WRITING) >> 2;
    next = version + 1;
    if (version > 0 && slice_equal(text, slice_of(area->halves[version & 1],
                                                  atomic_load(&area->len[version & 1])))) {
        atomic_fetch_and(&area->state, ~(uint64_t)STATE_WRITING);
        return;
    }
    memcpy(area->halves[next & 1], text.base, text.len);
    atomic_store(&area->len[next & 1], text.len);
    atomic_store(&area->state, STATE_VERSION(next));
}

/* The newest, counted. */
static struct watched_snapshot *hold(struct watched_files *files, struct watched_file *file) {
    struct watched_snapshot *snapshot;

    pthread_mutex_lock(&files->lock);
    if (!file->current || file->current->version != version_of(file->area)) {
        release(file->current);
        file->current = copy(file->area);
    }
    snapshot = file->current;
    atomic_fetch_add(&snapshot->refs, 1);
    pthread_mutex_unlock(&files->lock);
    return snapshot;
}

/* In the process that reads nobody writes meanwhile, for we are locked; in another a version that
 * is still the newest behind the copying was not written over. Versions are a second apart. */
static struct watched_snapshot *copy(const struct watched_area *area) {
    for (;;) {
        uint64_t version = version_of(area);
        size_t len = atomic_load(&area->len[version & 1]);
        struct watched_snapshot *snapshot;

        len = len < WATCHED_BYTES_MAX ? len : WATCHED_BYTES_MAX;
        snapshot = xmalloc(sizeof *snapshot + len);
        atomic_init(&snapshot->refs, 1);
        snapshot->version = version;
        snapshot->len = len;
        memcpy(snapshot->text, area->halves[version & 1], len);
        atomic_thread_fence(memory_order_acquire);
        if (version_of(area) == version)
            return snapshot;
        free(snapshot);
    }
}

static void release(struct watched_snapshot *snapshot) {
    if (snapshot && atomic_fetch_sub(&snapshot->refs, 1) == 1)
        free(snapshot);
}

static bool get_stamp(const char *path, struct watched_stamp *stamp) {
    struct stat about;

    *stamp = (struct watched_stamp){0};
    if (stat(path, &about) < 0)
        return false;
    *stamp = (struct watched_stamp){about.st_dev, about.st_ino, about.st_size, about.st_mtim,
                                    about.st_ctim};
    return true;
}

static bool is_same(const struct watched_stamp *a, const struct watched_stamp *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}
