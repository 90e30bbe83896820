/* See stdio.h. */
#include "mcp/stdio.h"

#include "base/log.h"
#include "child/cgroup.h"
#include "child/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int start(struct stdio *server, const struct config_process *process, char *why,
                 size_t why_max);
static int open_pipes(int in[2], int out[2], int tell[2]);
static void close_all(int *pairs[], size_t count);
static void on_output(uv_poll_t *poll, int status, int events);
static bool read_some(struct stdio *server);
static void on_room(uv_poll_t *poll, int status, int events);
static void send_rest(struct stdio *server);
static void on_child(uv_signal_t *handle, int number);
static void on_status_late(struct timer *timer);
static void tell_gone(struct stdio *server);

int stdio_open(struct stdio *server, struct loop *loop, const struct stdio_events *events,
               const struct config_process *process, size_t line_max, char *why, size_t why_max) {
    int err;

    *server = (struct stdio){.events = events, .loop = loop, .in = -1, .out = -1};
    server->lines.max = line_max;
    timer_init(&server->status_timer, on_status_late);
    err = start(server, process, why, why_max);
    if (err)
        return err;
    uv_poll_init(&loop->uv, &server->in_poll, server->in);
    uv_poll_init(&loop->uv, &server->out_poll, server->out);
    uv_signal_init(&loop->uv, &server->sigchld);
    uv_signal_start(&server->sigchld, on_child, SIGCHLD);
    uv_poll_start(&server->out_poll, UV_READABLE, on_output);
    server->is_open = true;
    return 0;
}

bool stdio_say(struct stdio *server, struct slice line) {
    struct buffer *unsent = &server->unsent;
    size_t waiting = unsent->len - server->unsent_begin;

    if (!server->is_open || (waiting > 0 && waiting + line.len > STDIO_UNSENT_MAX))
        return false;
    if (server->unsent_begin > unsent->len / 2) {
        memmove(unsent->base, unsent->base + server->unsent_begin, waiting);
        unsent->len = waiting;
        server->unsent_begin = 0;
    }
    buffer_append(unsent, line);
    if (!server->is_writing)
        send_rest(server);
    return true;
}

void stdio_close(struct stdio *server) {
    if (server->is_open) {
        server->is_open = false;
        uv_close((uv_handle_t *)&server->in_poll, NULL);
        uv_close((uv_handle_t *)&server->out_poll, NULL);
        uv_close((uv_handle_t *)&server->sigchld, NULL);
        loop_timer_stop(server->loop, &server->status_timer);
    }
    if (server->in >= 0)
        close(server->in);
    if (server->out >= 0)
        close(server->out);
    server->in = server->out = -1;
    lines_deinit(&server->lines);
    buffer_deinit(&server->unsent);
    server->lines.held = server->unsent = (struct buffer){0};
}

static int start(struct stdio *server, const struct config_process *process, char *why,
                 size_t why_max) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, tell[2] = {-1, -1};
    int *pairs[] = {in, out, tell};
    struct launch_failure failure = {LAUNCH_SETUP, 0};
    int err = open_pipes(in, out, tell);
    ssize_t got;

    if (!err) {
        server->pid = fork();
        err = server->pid < 0 ? -errno : 0;
    }
    if (err) {
        snprintf(why, why_max, "%s", strerror(-err));
        close_all(pairs, 3);
        return err;
    }
    if (server->pid == 0)
        launch_become(&(struct launch){.process = process,
                                       .env = environ,
                                       .in = in[0],
                                       .out = out[1],
                                       .err = STDERR_FILENO},
                      &(struct cgroup){0}, /* ours */
                      tell[1]);
    close(tell[1]);
    tell[1] = -1;
    got = read(tell[0], &failure, sizeof failure);
    if (got > 0) {
        launch_describe(&failure, why, why_max);
        waitpid(server->pid, NULL, 0);
        server->pid = 0;
        close_all(pairs, 3);
        return failure.err > 0 ? -failure.err : -EIO;
    }
    server->in = in[1];
    server->out = out[0];
    in[1] = out[0] = -1;
    close_all(pairs, 3);
    fcntl(server->in, F_SETFL, O_NONBLOCK);
    fcntl(server->out, F_SETFL, O_NONBLOCK);
    return 0;
}

static int open_pipes(int in[2], int out[2], int tell[2]) {
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(tell, O_CLOEXEC) < 0)
        return -errno;
    return 0;
}

static void close_all(int *pairs[], size_t count) {
    for (size_t i = 0; i < 2 * count; i++)
        if (pairs[i / 2][i % 2] >= 0)
            close(pairs[i / 2][i % 2]);
}

static void on_output(uv_poll_t *poll, int status, int events) {
    struct stdio *server = CONTAINER_OF(poll, struct stdio, out_poll);

    if (!read_some(server) && server->is_open) {
        uv_poll_stop(&server->out_poll);
        if (server->has_status)
            tell_gone(server);
        else
            loop_timer_start(server->loop, &server->status_timer, STDIO_STATUS_NS);
    }
    loop_turn(server->loop);
}

/* False: there will be no more. */
static bool read_some(struct stdio *server) {
    char *bytes = server->loop->read_buffer;
    size_t all = 0;

    while (server->is_open && all < STDIO_TURN_BYTES) {
        ssize_t n = read(server->out, bytes, LOOP_READ_BYTES);
        struct slice in = slice_of(bytes, n > 0 ? (size_t)n : 0);
        struct lines_item line;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        all += (size_t)n;
        while (server->is_open && lines_next(&server->lines, &in, &line))
            server->events->line(server, &line);
    }
    return true;
}

static void on_room(uv_poll_t *poll, int status, int events) {
    struct stdio *server = CONTAINER_OF(poll, struct stdio, in_poll);

    send_rest(server);
    loop_turn(server->loop);
}

/* Who has closed its input is about to end, or is of no use any more. */
static void send_rest(struct stdio *server) {
    struct buffer *unsent = &server->unsent;

    while (server->unsent_begin < unsent->len) {
        ssize_t n = write(server->in, unsent->base + server->unsent_begin,
                          unsent->len - server->unsent_begin);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            if (!server->is_deaf)
                loop_timer_start(server->loop, &server->status_timer, STDIO_STATUS_NS);
            server->is_deaf = true;
            break;
        }
        server->unsent_begin += (size_t)n;
    }
    if (server->is_deaf)
        server->unsent_begin = unsent->len;
    if (server->unsent_begin == unsent->len) {
        unsent->len = server->unsent_begin = 0;
        if (server->is_writing)
            uv_poll_stop(&server->in_poll);
        server->is_writing = false;
    } else if (!server->is_writing) {
        server->is_writing = true;
        uv_poll_start(&server->in_poll, UV_WRITABLE, on_room);
    }
}

/* What it has said before it ended is still in the pipe. */
static void on_child(uv_signal_t *handle, int number) {
    struct stdio *server = CONTAINER_OF(handle, struct stdio, sigchld);

    if (server->pid > 0 && waitpid(server->pid, &server->status, WNOHANG) == server->pid) {
        server->has_status = true;
        server->pid = 0;
        if (!uv_is_active((uv_handle_t *)&server->out_poll))
            tell_gone(server); /* its output has ended already */
        else
            loop_timer_start(server->loop, &server->status_timer, STDIO_STATUS_NS);
    }
    loop_turn(server->loop);
}

/* Its output has ended, or its input, and it has not; or the other way round, as others have its
 * output too. */
static void on_status_late(struct timer *timer) {
    tell_gone(CONTAINER_OF(timer, struct stdio, status_timer));
}

static void tell_gone(struct stdio *server) {
    char how[96];

    if (server->is_gone)
        return;
    server->is_gone = true;
    if (!server->has_status)
        snprintf(how, sizeof how, "closed its standard %s", server->is_deaf ? "input" : "output");
    else if (WIFSIGNALED(server->status))
        snprintf(how, sizeof how, "died by signal %d (%s)", WTERMSIG(server->status),
                 strsignal(WTERMSIG(server->status)));
    else
        snprintf(how, sizeof how, "ended with status %d", WEXITSTATUS(server->status));
    server->events->gone(server, how);
}
