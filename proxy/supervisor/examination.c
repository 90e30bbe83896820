#include "supervisor/examination.h"

#include "base/log.h"
#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_BYTES_MAX (4 << 20) /* more than any configuration may have: the check says so */

static int copy_text(const struct examination_options *options);
static int copy_file(int to, const char *path);
static int copy_from(int to, int from);
static int open_pipe(int *ours, int *theirs);
static void read_plan(struct examination *examination);
static void read_errors(struct examination *examination);
static void log_error_line(struct examination *examination);
static void end(int *fd);

int examination_start(struct examination *examination, const struct examination_options *options) {
    char *argv[] = {(char *)"weir",        (char *)"check",   (char *)"--plan",
                    (char *)options->name, (char *)"--stdin", NULL};
    struct process_options process = {options->binary, argv, -1, -1, -1, -1};
    pid_t pid = 0;
    int err;

    examination->plan_len = examination->line_len = 0;
    examination->lines = 0;
    examination->since_ns = clock_now_ns();
    examination->is_late = false;
    examination->out = examination->err = -1;
    examination->edition = (struct edition){.name = options->name};
    examination->edition.text_fd = process.in = copy_text(options);
    if (process.in < 0)
        argv[4] = NULL; /* it finds out why the file cannot be read, and says so */
    err = open_pipe(&examination->out, &process.out);
    if (!err && !options->is_quiet)
        err = open_pipe(&examination->err, &process.err);
    if (!err) {
        pid = process_start(&process);
        err = pid < 0 ? pid : 0;
    }
    end(&process.out);
    end(&process.err);
    if (err) {
        end(&examination->out);
        end(&examination->err);
        edition_deinit(&examination->edition);
        return err;
    }
    examination->pid = pid;
    return 0;
}

void examination_read(struct examination *examination) {
    read_plan(examination);
    read_errors(examination);
}

void examination_look(struct examination *examination, int64_t now_ns) {
    if (!examination->pid || examination->is_late ||
        now_ns - examination->since_ns < EXAMINATION_MAX_NS)
        return;
    examination->is_late = true;
    kill(examination->pid, SIGKILL);
}

int examination_end(struct examination *examination, int status, struct edition *edition) {
    const char *why = NULL;
    int result = 0;

    examination_read(examination); /* all that it wrote is in the pipes */
    if (examination->line_len > 0)
        log_error_line(examination);
    end(&examination->out);
    end(&examination->err);
    examination->pid = 0;
    if (examination->is_late) {
        why = "its check took more than 60 s";
    } else if (WIFSIGNALED(status)) {
        why = "its check was killed";
    } else if (WEXITSTATUS(status) != 0) {
        result = WEXITSTATUS(status);
    } else if (examination->edition.text_fd < 0) {
        why = "it could not be read at first";
    } else {
        examination->plan[examination->plan_len] = '\0';
        why = run_plan_parse(&examination->edition.plan, examination->plan);
    }
    if (why) {
        log_error("cannot use '%s': %s", examination->edition.name, why);
        result = 1;
    }
    if (result)
        edition_deinit(&examination->edition);
    else
        *edition = examination->edition;
    return result;
}

void examination_cancel(struct examination *examination) {
    if (examination->pid == 0)
        return;
    kill(examination->pid, SIGKILL);
    examination->pid = 0;
    end(&examination->out);
    end(&examination->err);
    edition_deinit(&examination->edition);
}

/* The memfd, or -errno when the file cannot be read. */
static int copy_text(const struct examination_options *options) {
    int fd = memfd_create("weir-config", MFD_CLOEXEC), err = 0;

    if (fd < 0)
        return -errno;
    if (options->text_fd >= 0)
        err = copy_from(fd, options->text_fd);
    else if (!options->text)
        err = copy_file(fd, options->name);
    else if (write(fd, options->text, strlen(options->text)) != (ssize_t)strlen(options->text))
        err = -errno;
    if (err) {
        close(fd);
        return err;
    }
    return fd;
}

static int copy_file(int to, const char *path) {
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int err = from < 0 ? -errno : copy_from(to, from);

    if (from >= 0)
        close(from);
    return err;
}

static int copy_from(int to, int from) {
    char piece[4096];
    size_t total = 0;
    ssize_t n;

    while ((n = pread(from, piece, sizeof piece, (off_t)total)) > 0 && total <= TEXT_BYTES_MAX) {
        if (write(to, piece, (size_t)n) != n)
            break;
        total += (size_t)n;
    }
    return n < 0 ? -errno : n > 0 ? -EFBIG : 0;
}

static int open_pipe(int *ours, int *theirs) {
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *ours = ends[0];
    *theirs = ends[1];
    return 0;
}

static void read_plan(struct examination *examination) {
    while (examination->out >= 0) {
        size_t room = RUN_PLAN_TEXT_MAX - examination->plan_len;
        char spill[512];
        ssize_t n = room > 0
                        ? read(examination->out, examination->plan + examination->plan_len, room)
                        : read(examination->out, spill, sizeof spill);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            end(&examination->out);
        else if (room > 0)
            examination->plan_len += (size_t)n;
    }
}

static void read_errors(struct examination *examination) {
    while (examination->err >= 0) {
        char piece[512];
        ssize_t n = read(examination->err, piece, sizeof piece);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            end(&examination->err);
        for (ssize_t i = 0; i < n; i++) {
            if (piece[i] == '\n')
                log_error_line(examination);
            else if (examination->line_len < EXAMINATION_LINE_MAX)
                examination->line[examination->line_len++] = piece[i];
        }
    }
}

static void log_error_line(struct examination *examination) {
    if (examination->lines++ < EXAMINATION_ERRORS_MAX)
        log_error("%.*s", (int)examination->line_len, examination->line);
    examination->line_len = 0;
}

static void end(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
