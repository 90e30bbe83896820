/* See run.h.
 *
 *            | sent      | started | failed | stdout ends            | gone        | detached
 *   UNSENT   | STARTING  | -       | -      | -                      | -           | freed
 *   STARTING | -         | RUNNING | GONE   | its end is awaited     | GONE        | its end is
 * asked for RUNNING  | -         | -       | -      | the same, for a while  | GONE        | the
 * same GONE     | -         | -       | -      | OVER: the response ends | -          | freed
 *
 * Freed when detached, gone, and its pipes are closed. */
#include "child/run.h"

#include "base/alloc.h"
#include "child/run_output.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN_PIPES 2

enum run_state { RUN_UNSENT, RUN_STARTING, RUN_RUNNING, RUN_GONE };

/* Our end of a pipe. */
struct run_pipe {
    uv_poll_t poll;
    struct run *run; /* borrowed */
    int fd;          /* owned; -1: closed, or not made yet */
};

struct run {
    struct list link;        /* in the loop's */
    struct list unsent_link; /* in the loop's, while it is UNSENT */
    struct run_loop *rl;     /* borrowed */
    struct exchange *x;      /* borrowed; NULL: detached */
    struct run_options o;
    enum run_state state;
    unsigned long id;
    struct run_pipe in, out;
    unsigned open_handles; /* pipes whose handle is not closed yet */
    struct run_output output;
    struct timer ending; /* how long it may go on without a standard output */
    int status;          /* GONE: as by wait(2) */
    bool was_killed;     /* GONE */
    bool is_head_sent;
    bool is_in_over;  /* its standard input is closed */
    bool is_out_over; /* all of its output was read */
    bool is_told;     /* the exchange was told of its end, or failure */
    bool is_end_asked;
};

static int open_pipe(struct run *run, struct run_pipe *end, int own, int ends[2]);
static void close_pipe(struct run_pipe *end);
static void on_handle_closed(uv_handle_t *handle);
static void ask_for_end(struct run *run);
static void on_ending(struct timer *timer);
static void gone(struct run *run);
static void free_if_over(struct run *run);
static void fail(struct run *run, enum fail reason, const char *why);
static void send_head(struct run *run);
static void finish(struct run *run);
static const char *describe(struct run *run, const char *before);
static void read_output(struct run *run);
static void on_output(uv_poll_t *poll, int status, int events);
static void write_input(struct run *run);
static void on_input(uv_poll_t *poll, int status, int events);
static void on_request(struct body *body);
static void pause_output(struct body *body);
static void output_taken(struct body *body, size_t n);

static const struct body_sink_ops request_sink = {.ready = on_request};
static const struct body_source_ops response_source = {.pause = pause_output,
                                                       .taken = output_taken};

enum fail run_start(struct run **out, struct run_loop *rl, struct exchange *x,
                    const struct run_options *options, const char **why) {
    struct run *run;

    *why = NULL;
    if (!rl->channel || options->env.len > RUN_ENV_MAX) {
        struct buffer env = options->env;
        bool is_large = env.len > RUN_ENV_MAX;

        buffer_deinit(&env);
        *why = is_large ? "its fields are more than an environment can hold"
                        : "the nursery is not there";
        return is_large ? FAIL_HEAD_LARGE : FAIL_PROGRAM_START;
    }
    run = xcalloc(1, sizeof *run);
    run->rl = rl;
    run->x = x;
    run->o = *options;
    run->id = ++rl->last_id;
    run->in.fd = run->out.fd = -1;
    run->in.run = run->out.run = run;
    for (unsigned i = 0; i < OWN_PIPES; i++) {
        if (fds_acquire(rl->fds, FD_UPSTREAM))
            continue;
        while (i-- > 0)
            fds_release(rl->fds, FD_UPSTREAM);
        buffer_deinit(&run->o.env);
        free(run);
        return FAIL_FDS_USED_UP;
    }
    timer_init(&run->ending, on_ending);
    list_init(&run->unsent_link);
    list_push_back(&rl->runs, &run->link);
    rl->loop->conns++;
    run_output_init(&run->output, options->output);
    x->response.source = &response_source;
    x->response.source_ctx = run;
    x->request.sink = &request_sink;
    x->request.sink_ctx = run;
    *out = run;
    run_send(run);
    return FAIL_NONE;
}

bool run_is_gone(const struct run *run) {
    return run->state == RUN_GONE;
}

void *run_ctx(const struct run *run) {
    return run->o.ctx;
}

void run_detach(struct run *run) {
    struct exchange *x = run->x;

    assert(x);
    if (x->response.source_ctx == run)
        x->response.source = NULL;
    if (x->request.sink_ctx == run)
        x->request.sink = NULL;
    run->x = NULL;
    close_pipe(&run->in);
    close_pipe(&run->out);
    run->is_in_over = run->is_out_over = true;
    if (run->state == RUN_UNSENT)
        gone(run);
    else if (run->state != RUN_GONE)
        ask_for_end(run);
    free_if_over(run);
}

/* Pipes are made when there is room to send their other ends: nobody holds four of them for long.
 */
void run_send(struct run *run) {
    int input[2] = {-1, -1}, output[2] = {-1, -1}, err;
    struct buffer text = {0};

    err = open_pipe(run, &run->in, 1, input);
    if (!err)
        err = open_pipe(run, &run->out, 0, output);
    if (!err) {
        buffer_printf(&text, "spawn %lu %u%c", run->id, run->o.pipeline, 0);
        buffer_append(&text, buffer_slice(&run->o.env));
        err = run_loop_send(run->rl, buffer_slice(&text), (const int[]){input[0], output[1]}, 2);
        buffer_deinit(&text);
    }
    if (input[0] >= 0)
        close(input[0]);
    if (output[1] >= 0)
        close(output[1]);
    if (err) {
        close_pipe(&run->in);
        close_pipe(&run->out);
    }
    if (err == -EAGAIN) {
        list_push_back(&run->rl->unsent, &run->unsent_link);
    } else if (err) {
        gone(run);
        fail(run, FAIL_PROGRAM_START, strerror(-err));
    } else {
        run->state = RUN_STARTING;
        buffer_deinit(&run->o.env);
        uv_poll_start(&run->out.poll, UV_READABLE, on_output);
        write_input(run);
    }
}

void run_told(struct run *run, const char *verb, const char *rest) {
    int was_killed;

    if (strcmp(verb, "started") == 0) {
        run->state = RUN_RUNNING;
        if (run->x && (run->o.output == OUTPUT_SSE || run->x->is_stream))
            send_head(run);
    } else if (strcmp(verb, "failed") == 0) {
        gone(run);
        if (run->x)
            fail(run, FAIL_PROGRAM_START, arena_printf(&run->x->arena, "%s", rest).base);
    } else if (strcmp(verb, "gone") == 0 && sscanf(rest, "%d %d", &run->status, &was_killed) == 2) {
        run->was_killed = was_killed != 0;
        gone(run);
        if (run->x && run->is_out_over)
            finish(run);
    }
    free_if_over(run);
}

void run_lost(struct run *run) {
    if (run->state == RUN_GONE)
        return;
    gone(run);
    if (run->x)
        fail(run, FAIL_PROGRAM_LOST, NULL);
    free_if_over(run);
}

unsigned long run_id(const struct run *run) {
    return run->id;
}

struct run *run_of_link(struct list *link) {
    return CONTAINER_OF(link, struct run, link);
}

struct run *run_of_unsent(struct list *link) {
    return CONTAINER_OF(link, struct run, unsent_link);
}

static int open_pipe(struct run *run, struct run_pipe *end, int own, int ends[2]) {
    int err;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        ends[0] = ends[1] = -1;
        return -errno;
    }
    fcntl(ends[own], F_SETFL, O_NONBLOCK);
    err = uv_poll_init(&run->rl->loop->uv, &end->poll, ends[own]);
    if (err) {
        close(ends[own]);
        return err;
    }
    end->fd = ends[own];
    run->open_handles++;
    return 0;
}

static void close_pipe(struct run_pipe *end) {
    if (end->fd < 0)
        return;
    uv_close((uv_handle_t *)&end->poll, on_handle_closed);
    close(end->fd);
    end->fd = -1;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct run *run = CONTAINER_OF((uv_poll_t *)handle, struct run_pipe, poll)->run;

    run->open_handles--;
    free_if_over(run);
}

static void ask_for_end(struct run *run) {
    char text[32];

    if (run->is_end_asked)
        return;
    run->is_end_asked = true;
    snprintf(text, sizeof text, "end %lu", run->id);
    /* What cannot be said is said by the end of the channel. */
    if (run_loop_send(run->rl, slice_str(text), NULL, 0) == -EAGAIN) {
        run->is_end_asked = false;
        loop_timer_start(run->rl->loop, &run->ending, NS_PER_MS);
    }
}

static void on_ending(struct timer *timer) {
    struct run *run = CONTAINER_OF(timer, struct run, ending);

    if (run->state != RUN_GONE)
        ask_for_end(run);
}

static void gone(struct run *run) {
    run->state = RUN_GONE;
    list_remove(&run->unsent_link);
    loop_timer_stop(run->rl->loop, &run->ending);
    if (run->o.on_gone)
        run->o.on_gone(run->o.ctx);
    run->o.on_gone = NULL;
}

static void free_if_over(struct run *run) {
    struct run_loop *rl = run->rl;

    if (run->x || run->state != RUN_GONE || run->open_handles > 0)
        return;
    list_remove(&run->link);
    for (unsigned i = 0; i < OWN_PIPES; i++)
        fds_release(rl->fds, FD_UPSTREAM);
    run_output_deinit(&run->output);
    buffer_deinit(&run->o.env);
    rl->loop->conns--;
    free(run);
}

static void fail(struct run *run, enum fail reason, const char *why) {
    if (run->is_told || !run->x)
        return;
    run->is_told = true;
    exchange_upstream_failed(run->x, reason, why);
}

static void send_head(struct run *run) {
    struct exchange *x = run->x;
    struct response_head *head = &x->response_head;
    const char *type = run->o.content_type;

    if (run->is_head_sent)
        return;
    run->is_head_sent = true;
    *head = (struct response_head){.status = 200, .version = HTTP_1_1, .reason = SLICE("OK")};
    fields_add_known(&head->fields, &x->arena, FIELD_CONTENT_TYPE,
                     type ? slice_str(type) : run_output_type(run->o.output));
    fields_add_known(&head->fields, &x->arena, FIELD_CACHE_CONTROL, SLICE("no-store"));
    if (run->o.output != OUTPUT_SSE)
        fields_add_known(&head->fields, &x->arena, FIELD_TRAILER, SLICE(RUN_STATUS_FIELD));
    x->response_content =
        (struct content){x->request_head.method == METHOD_HEAD ? CONTENT_NONE : CONTENT_CHUNKED, 0};
    run->output.is_dropped = x->request_head.method == METHOD_HEAD;
    exchange_wake(x, EXCHANGE_RESPONSE_HEAD);
}

/* All was read, and nobody is left. */
static void finish(struct run *run) {
    struct exchange *x = run->x;

    if (run->is_told)
        return;
    if (!run->is_head_sent && run->status != 0) {
        fail(run, FAIL_PROGRAM_FAILED, describe(run, "it "));
        return;
    }
    run->is_told = true;
    send_head(run);
    run_output_end(&run->output, run->status, &x->response, &x->arena);
    body_flush(&x->response);
    if (!body_is_done(&x->request))
        x->request.sink = NULL; /* nobody reads the rest */
    exchange_wake(x, EXCHANGE_UPSTREAM_DONE);
}

static const char *describe(struct run *run, const char *before) {
    struct arena *arena = &run->x->arena;

    if (WIFSIGNALED(run->status))
        return arena_printf(arena, "%sdied by signal %d", before, WTERMSIG(run->status)).base;
    return arena_printf(arena, "%sended with status %d", before, WEXITSTATUS(run->status)).base;
}

static void on_output(uv_poll_t *poll, int status, int events) {
    struct run *run = CONTAINER_OF(poll, struct run_pipe, poll)->run;

    read_output(run);
    loop_turn(run->rl->loop);
}

static void read_output(struct run *run) {
    struct loop *loop = run->rl->loop;
    ssize_t n = read(run->out.fd, loop->read_buffer, run_output_step(run->o.output));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        send_head(run);
        run_output_push(&run->output, slice_of(loop->read_buffer, (size_t)n), &run->x->response);
        body_flush(&run->x->response);
        return;
    }
    run->is_out_over = true;
    close_pipe(&run->out);
    if (run->state == RUN_GONE)
        finish(run);
    else
        loop_timer_start(loop, &run->ending, run->o.grace_ns);
}

/* Gives what is there as far as it is taken. What a program does not want, it need not read: the
 * rest of the request is passed over then. */
static void write_input(struct run *run) {
    struct body *body = &run->x->request;
    uv_buf_t bufs[BODY_BUFS_MAX];

    while (body_waiting(body) > 0) {
        unsigned count = body_peek(body, bufs, BODY_BUFS_MAX);
        ssize_t n;

        if (run->is_in_over) {
            body_drop(body, body_waiting(body));
            break;
        }
        n = writev(run->in.fd, (const struct iovec *)bufs, (int)count);
        if (n > 0) {
            body_drop(body, (size_t)n);
        } else if (n < 0 && errno == EAGAIN) {
            uv_poll_start(&run->in.poll, UV_WRITABLE, on_input);
            return;
        } else if (n >= 0 || errno != EINTR) {
            run->is_in_over = true;
            close_pipe(&run->in);
        }
    }
    if (run->in.fd >= 0)
        uv_poll_stop(&run->in.poll);
    if (body->state != BODY_OPEN && !run->is_in_over) {
        run->is_in_over = true;
        close_pipe(&run->in);
    }
}

static void on_input(uv_poll_t *poll, int status, int events) {
    struct run *run = CONTAINER_OF(poll, struct run_pipe, poll)->run;

    write_input(run);
    loop_turn(run->rl->loop);
}

static void on_request(struct body *body) {
    struct run *run = body->sink_ctx;

    if (run->state == RUN_UNSENT || (run->in.fd >= 0 && uv_is_active((uv_handle_t *)&run->in.poll)))
        return; /* when there is a pipe, or room in it */
    write_input(run);
}

static void pause_output(struct body *body) {
    struct run *run = body->source_ctx;

    if (run->out.fd >= 0)
        uv_poll_stop(&run->out.poll);
}

static void output_taken(struct body *body, size_t n) {
    struct run *run = body->source_ctx;

    if (run->out.fd >= 0 && body_has_room(body) && !uv_is_active((uv_handle_t *)&run->out.poll))
        uv_poll_start(&run->out.poll, UV_READABLE, on_output);
}
