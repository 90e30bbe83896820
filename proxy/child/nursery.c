/* The nursery's loop; see nursery.h. */
#include "child/nursery.h"

#include "base/alloc.h"
#include "base/control.h"
#include "child/cgroup.h"
#include "child/nursery_state.h"
#include "child/tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define ORPHAN_NS \
    (2 * NS_PER_S) /* for all to be gone when the supervisor is; then no more is waited */
#define SLEEP_NS (500 * NS_PER_MS)

/* In front of what is buried. */
struct grave {
    struct grave *next; /* owned */
    void *memory;       /* owned */
};

static int open_all(struct nursery *nursery, int socket);
static void turn(struct nursery *nursery, int64_t until_ns);
static void on_supervisor(struct nursery *nursery, struct watch *watch);
static void obey(struct nursery *nursery, struct control_message *message);
static void take_board(struct nursery *nursery, struct control_message *message);
static void take_gateway(struct nursery *nursery, struct control_message *message, unsigned number);
static struct programs *read_programs(int fd);
static void take_log(const char *rest);
static void serve(struct nursery *nursery, unsigned number);
static void on_signal(struct nursery *nursery, struct watch *watch);
static void begin_to_end(struct nursery *nursery);
static int close_all(struct nursery *nursery);

int nursery_run(int socket) {
    struct nursery *nursery = xcalloc(1, sizeof *nursery);
    int64_t until_ns = INT64_MAX;
    int err = open_all(nursery, socket);

    if (err) {
        log_error("cannot start the nursery: %s", strerror(-err));
        free(nursery);
        return 1;
    }
    for (;;) {
        turn(nursery, until_ns);
        if (nursery->is_ending && nursery->child_count == 0)
            break;
        if (nursery->supervisor.fd < 0 && until_ns == INT64_MAX)
            until_ns = clock_now_ns() + ORPHAN_NS;
        if (clock_now_ns() >= until_ns)
            break;
    }
    return close_all(nursery);
}

/* Ctrl-C reaches us too: we end when the supervisor says so. */
static int open_all(struct nursery *nursery, int socket) {
    const int ignored[] = {SIGPIPE, SIGXFSZ, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t signals;
    int fd, err;

    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NAME, "weir-nursery");
    err = tree_hold();
    if (err)
        return err;
    cgroup_prepare("");
    cgroup_sweep("");
    list_init(&nursery->channels);
    list_init(&nursery->children);
    list_init(&nursery->residents);
    for (unsigned i = 0; i < BOARD_ROWS_MAX; i++)
        nursery->limits[i] = (struct log_limit)LOG_LIMIT(OUTPUT_LINES_PER_S);
    nursery->epoll = epoll_create1(EPOLL_CLOEXEC);
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (nursery->epoll < 0 || fd < 0)
        return -errno;
    fcntl(socket, F_SETFD, FD_CLOEXEC);
    nursery->supervisor.ready = on_supervisor;
    nursery->signals.ready = on_signal;
    nursery_watch(nursery, &nursery->supervisor, socket);
    nursery_watch(nursery, &nursery->signals, fd);
    return 0;
}

static void turn(struct nursery *nursery, int64_t until_ns) {
    struct epoll_event events[EVENTS_MAX];
    int64_t now_ns = clock_now_ns(), next_ns = residents_next_ns(nursery, now_ns + SLEEP_NS);
    int count;

    next_ns = next_ns < until_ns ? next_ns : until_ns;
    count = epoll_wait(nursery->epoll, events, EVENTS_MAX,
                       next_ns > now_ns ? (int)((next_ns - now_ns) / NS_PER_MS) + 1 : 0);
    for (int i = 0; i < count; i++) {
        struct watch *watch = events[i].data.ptr;

        if (watch->fd >= 0)
            watch->ready(nursery, watch);
    }
    residents_look(nursery, clock_now_ns());
    nursery_empty_graves(nursery);
}

void nursery_watch(struct nursery *nursery, struct watch *watch, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};

    watch->fd = fd;
    if (epoll_ctl(nursery->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        log_error("cannot look after an fd of the nursery: %s", strerror(errno));
}

void nursery_watch_writable(struct nursery *nursery, struct watch *watch, bool is_wanted) {
    struct epoll_event event = {.events = EPOLLIN | (is_wanted ? EPOLLOUT : 0U), .data.ptr = watch};

    epoll_ctl(nursery->epoll, EPOLL_CTL_MOD, watch->fd, &event);
}

void nursery_unwatch(struct nursery *nursery, struct watch *watch) {
    if (watch->fd < 0)
        return;
    epoll_ctl(nursery->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    close(watch->fd);
    watch->fd = -1;
}

void nursery_bury(struct nursery *nursery, void *memory) {
    struct grave *grave = xcalloc(1, sizeof *grave);

    grave->memory = memory;
    grave->next = nursery->dead;
    nursery->dead = grave;
}

struct program_set *program_set_ref(struct program_set *set) {
    set->refs++;
    return set;
}

void program_set_unref(struct program_set *set) {
    if (!set || --set->refs > 0)
        return;
    programs_free(set->programs);
    free(set);
}

/* Rows of programs that no configuration has any more are kept until they are in the way. */
struct board_row *nursery_row(struct nursery *nursery, const char *name) {
    struct board_row *row = nursery->board ? board_take(nursery->board, name) : NULL;

    for (unsigned i = 0; nursery->board && !row && i < BOARD_ROWS_MAX; i++) {
        struct board_row *old = &nursery->board->rows[i];
        bool is_needed = atomic_load(&old->is_wanted) || atomic_load(&old->running) ||
                         atomic_load(&old->ending) ||
                         board_count(old, INSTANCE_IDLE) < atomic_load(&old->instances);

        for (unsigned j = 0; j < NURSERY_GATEWAYS_MAX; j++)
            is_needed |= nursery->sets[j] &&
                         programs_find_name(nursery->sets[j]->programs, old->name) != NULL;
        if (!is_needed) {
            atomic_store(&old->is_used, 0);
            row = board_take(nursery->board, name);
        }
    }
    return row;
}

static void on_supervisor(struct nursery *nursery, struct watch *watch) {
    struct control_message message;
    int got = 0;

    while (watch->fd >= 0 && (got = control_receive(watch->fd, &message)) > 0) {
        obey(nursery, &message);
        control_message_deinit(&message);
    }
    if (got >= 0)
        return;
    /* It has ended, and not by asking us first: nobody may outlive it. */
    nursery_unwatch(nursery, watch);
    begin_to_end(nursery);
    for (struct list *at = nursery->children.next; at != &nursery->children; at = at->next)
        nursery_unwatch(nursery, &CONTAINER_OF(at, struct child, link)->socket);
}

static void obey(struct nursery *nursery, struct control_message *message) {
    const char *rest;

    if (control_is(message->text, "board", &rest) && message->fd_count == 1)
        take_board(nursery, message);
    else if (control_is(message->text, "log", &rest))
        take_log(rest);
    else if (control_is(message->text, "reopen", &rest))
        log_reopen();
    else if (control_is(message->text, "gateway", &rest) && message->fd_count == 2)
        take_gateway(nursery, message, (unsigned)strtoul(rest, NULL, 10));
    else if (control_is(message->text, "serve", &rest))
        serve(nursery, (unsigned)strtoul(rest, NULL, 10));
    else if (control_is(message->text, "end", &rest))
        begin_to_end(nursery);
}

/* Memory that a nursery before us has written to has its children in it, who are gone. */
static void take_board(struct nursery *nursery, struct control_message *message) {
    void *memory =
        mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, message->fds[0], 0);

    if (memory == MAP_FAILED || nursery->board) {
        log_error("the nursery cannot use the board it was given: %s", strerror(errno));
        return;
    }
    nursery->memory = memory;
    nursery->board = board_attach(memory, sizeof(struct board));
    if (!nursery->board)
        nursery->board = board_init(memory);
    for (unsigned i = 0; i < BOARD_ROWS_MAX; i++) {
        struct board_row *row = &nursery->board->rows[i];

        atomic_store(&row->running, 0);
        atomic_store(&row->ending, 0);
        for (unsigned j = 0; j < CONFIG_INSTANCES_MAX; j++) {
            atomic_store(&row->list[j].state, INSTANCE_IDLE);
            atomic_store(&row->list[j].pid, 0);
        }
    }
}

static void take_gateway(struct nursery *nursery, struct control_message *message,
                         unsigned number) {
    struct program_set *set = xcalloc(1, sizeof *set), *oldest;
    unsigned place = 0;

    set->refs = 1;
    set->gateway = number;
    set->programs = read_programs(message->fds[1]);
    if (!set->programs)
        log_error("the programs of gateway %u cannot be read: none of them will run", number);
    for (unsigned i = 0; i < NURSERY_GATEWAYS_MAX; i++) {
        oldest = nursery->sets[place];
        if (oldest && (!nursery->sets[i] || nursery->sets[i]->gateway < oldest->gateway))
            place = i;
    }
    program_set_unref(nursery->sets[place]);
    nursery->sets[place] = set;
    if (channel_open(nursery, message->fds[0], set))
        message->fds[0] = -1;
}

static struct programs *read_programs(int fd) {
    struct programs *programs = NULL;
    off_t size = lseek(fd, 0, SEEK_END);
    char *text;

    if (size < 0 || size > PROGRAMS_TEXT_MAX)
        return NULL;
    text = xmalloc((size_t)size + 1);
    if (pread(fd, text, (size_t)size, 0) == size)
        programs_parse(&programs, slice_of(text, (size_t)size));
    free(text);
    return programs;
}

static void take_log(const char *rest) {
    struct log_options options = {.level = (enum log_level)(rest[0] - '0')};
    const char *failed;

    if (rest[0] < '0' || rest[0] > '3' || rest[1] != ' ')
        return;
    options.file = rest + 2;
    log_close();
    if (log_open_direct(&options, &failed) != 0)
        log_error("cannot open log '%s': standard error has to do", failed);
}

/* First what gateways have said before: what is known of earlier lives counts. */
static void serve(struct nursery *nursery, unsigned number) {
    struct list *at, *next;

    for (at = nursery->channels.next; at != &nursery->channels; at = next) {
        next = at->next;
        channel_read(nursery, CONTAINER_OF(at, struct nursery_channel, link));
    }
    for (unsigned i = 0; i < NURSERY_GATEWAYS_MAX; i++) {
        if (!nursery->sets[i] || nursery->sets[i]->gateway != number)
            continue;
        residents_serve(nursery, nursery->sets[i]);
        return;
    }
    residents_serve(nursery, NULL);
}

/* Minders, and what a minder has left that was killed. */
static void on_signal(struct nursery *nursery, struct watch *watch) {
    struct signalfd_siginfo info;
    pid_t pid;

    while (read(watch->fd, &info, sizeof info) > 0)
        ;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        child_reaped(nursery, pid);
}

static void begin_to_end(struct nursery *nursery) {
    nursery->is_ending = true;
    residents_serve(nursery, NULL);
    while (!list_is_empty(&nursery->channels))
        channel_close(nursery, CONTAINER_OF(nursery->channels.next, struct nursery_channel, link));
}

void nursery_empty_graves(struct nursery *nursery) {
    struct grave *grave;

    while ((grave = nursery->dead)) {
        nursery->dead = grave->next;
        free(grave->memory);
        free(grave);
    }
}

static int close_all(struct nursery *nursery) {
    unsigned left = tree_signal(SIGKILL, NULL, 0);

    if (left > 0)
        log_error("the nursery has had to kill %u processes that were left", left);
    children_free(nursery);
    residents_free(nursery);
    for (unsigned i = 0; i < NURSERY_GATEWAYS_MAX; i++)
        program_set_unref(nursery->sets[i]);
    nursery_empty_graves(nursery);
    nursery_unwatch(nursery, &nursery->supervisor);
    nursery_unwatch(nursery, &nursery->signals);
    if (nursery->memory)
        munmap(nursery->memory, sizeof(struct board));
    close(nursery->epoll);
    free(nursery);
    log_info("census: children=%u", left);
    log_close();
    return left > 0;
}
