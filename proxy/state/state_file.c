/* Reading, setting aside and replacing the state file; see state_file.h. */
#include "state/state_file.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VERSION_KEY "weir_state"
#define SECTIONS_KEY "sections"
#define MODE 0600
#define BUSY_STEP_NS (10 * NS_PER_MS)

static int read_text(const char *path, char **text, size_t *len);
static json_t *parse(const char *text, size_t len, char **why);
static void set_aside(const char *path, const char *why);
static int open_new(const char *path, const atomic_bool *is_over);
static int try_new(const char *path);
static int write_all(int fd, const char *text);
static void sync_directory(const char *path);

json_t *state_file_read(const char *path) {
    json_t *sections = NULL;
    char *text = NULL, *why = NULL;
    size_t len = 0;
    int err = read_text(path, &text, &len);

    if (err == -EFBIG)
        why = xasprintf("it is larger than %d bytes", STATE_FILE_MAX);
    else if (err && err != -ENOENT)
        log_warn("cannot read the state file '%s', starting without: %s", path,
                 err == -EINVAL ? "it is no regular file" : strerror(-err));
    else if (!err)
        sections = parse(text, len, &why);
    if (why)
        set_aside(path, why);
    free(why);
    free(text);
    return sections;
}

int state_file_write(const char *path, const json_t *sections, const atomic_bool *is_over) {
    json_t *document =
        json_pack("{s:i, s:O}", VERSION_KEY, STATE_FILE_VERSION, SECTIONS_KEY, (json_t *)sections);
    char *text = document ? json_dumps(document, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
    char *new_path = xasprintf("%s.new", path);
    struct stat st;
    int err, fd = -1;

    json_decref(document);
    assert(text); /* sections are made of what JSON can say */
    if (strlen(text) > STATE_FILE_MAX)
        err = -EFBIG;
    else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        err = -EINVAL; /* nobody's device or directory is replaced */
    else
        err = fd = open_new(new_path, is_over);
    if (fd >= 0) {
        err = write_all(fd, text);
        if (!err && atomic_load(is_over))
            err = -ECANCELED;
        if (!err && rename(new_path, path) < 0)
            err = -errno;
        if (err)
            unlink(new_path);
        close(fd);
    }
    if (!err)
        sync_directory(path);
    free(new_path);
    free(text);
    return err;
}

static int read_text(const char *path, char **text, size_t *len) {
    /* A FIFO is not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    ssize_t got = 1;
    int err = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        err = -errno;
    else if (!S_ISREG(st.st_mode))
        err = -EINVAL;
    if (!err)
        *text = xmalloc(STATE_FILE_MAX + 1);
    while (!err && got > 0 && *len <= STATE_FILE_MAX) {
        got = read(fd, *text + *len, STATE_FILE_MAX + 1 - *len);
        if (got > 0)
            *len += (size_t)got;
        else if (got < 0 && errno != EINTR)
            err = -errno;
    }
    close(fd);
    return !err && *len > STATE_FILE_MAX ? -EFBIG : err;
}

/* NULL, and *@why. */
static json_t *parse(const char *text, size_t len, char **why) {
    json_error_t error;
    json_t *document = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    const json_t *version = json_object_get(document, VERSION_KEY);
    json_t *sections = json_object_get(document, SECTIONS_KEY);

    if (!document)
        *why = xasprintf("line %d: %s", error.line, error.text);
    else if (!json_is_integer(version))
        *why = xstrdup("it is no state file of weir");
    else if (json_integer_value(version) != STATE_FILE_VERSION)
        *why = xasprintf("it is of version %lld, not %d", (long long)json_integer_value(version),
                         STATE_FILE_VERSION);
    else if (!json_is_object(sections))
        *why = xstrdup("it has no sections");
    if (*why)
        sections = NULL;
    json_incref(sections);
    json_decref(document);
    return sections;
}

static void set_aside(const char *path, const char *why) {
    char *bad_path = xasprintf("%s.bad", path);

    if (rename(path, bad_path) == 0)
        log_warn("cannot use the state file '%s', starting without and setting it aside as '%s': "
                 "%s",
                 path, bad_path, why);
    else
        log_warn("cannot use the state file '%s', starting without: %s (and it cannot be set aside "
                 "as '%s': %s)",
                 path, why, bad_path, strerror(errno));
    free(bad_path);
}

/* At the change of generations there may be two who write: one waits for the other. */
static int open_new(const char *path, const atomic_bool *is_over) {
    const struct timespec step = {.tv_nsec = BUSY_STEP_NS};
    int64_t until_ns = clock_now_ns() + STATE_FILE_BUSY_NS;
    int fd;

    while ((fd = try_new(path)) == -EBUSY && clock_now_ns() < until_ns) {
        if (atomic_load(is_over))
            return -ECANCELED;
        nanosleep(&step, NULL);
    }
    return fd;
}

/* Empty, and locked while it is written. */
static int try_new(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, MODE);
    struct stat own, there;
    int err = 0;

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        err = errno == EWOULDBLOCK ? -EBUSY : -errno;
    else if (fstat(fd, &own) < 0 || stat(path, &there) < 0 || own.st_ino != there.st_ino ||
             own.st_dev != there.st_dev)
        err = -EBUSY; /* renamed meanwhile: it is the state file now */
    else if (ftruncate(fd, 0) < 0)
        err = -errno;
    if (!err)
        return fd;
    close(fd);
    return err;
}

static int write_all(int fd, const char *text) {
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* So that the new name, too, survives a power failure; without, it is the old file that does. */
static void sync_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    char *directory = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(directory);
}
