#include "serve/serve.h"

#include "admin/admin.h"
#include "base/alloc.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "handler/handlers.h"
#include "serve/deaths.h"
#include "serve/histories.h"
#include "serve/limits.h"
#include "serve/other_counters.h"
#include "serve/stacks.h"
#include "supervisor/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRAIN_LOOK_MS 20
#define RETIRE_LOOK_MS 1
/* How long before the end of its time an old gateway tells its WebSockets to go, if that is no more
 * than a quarter of the time. */
#define TUNNELS_END_NS (5 * NS_PER_S)

struct server {
    /* What the supervisor has told. */
    struct config_options limits;
    int config_fd, admin_fd, cells_fd;
    bool is_substitute; /* of a gateway that has died: nobody else serves */
    char *name;         /* of the configuration; owned */
    void *memory;       /* owned mapping */
    size_t memory_bytes, segment_bytes;
    struct share_table *shares; /* owned mapping; NULL: limits are our own */
    unsigned share_slot;
    struct board *children;         /* owned mapping; NULL: the configuration has no programs */
    int nursery_fd;                 /* owned; the channel to the nursery; -1: there is none */
    struct gateway_socket *sockets; /* owned; their fds are the gateway's once it is open */
    size_t socket_count;

    struct config *config;
    struct counters *counters;
    struct metrics_segment *segment;
    struct handlers *handlers; /* NULL: there are none */
    struct gateway *gateway;
    struct admin *admin;
    struct keeper *keeper;  /* of the state file; NULL: there is none */
    struct crashes crashes; /* for the state file, or from it */
    struct histories histories;
    struct other_counters others;
    int64_t deadline_ns; /* of draining; 0: it is not */
    int64_t tunnels_ns;  /* when WebSockets are told of it */
    bool is_retiring;    /* until no loop accepts any more */
    bool is_aborted;
};

static int set_up(struct server *server);
static int take(struct server *server, struct control_message *message);
static int take_memory(struct server *server, struct control_message *message, size_t bytes);
static int take_shares(struct server *server, struct control_message *message, unsigned slot);
static int take_nursery(struct server *server, struct control_message *message);
static struct pulse_board *board_of(const struct server *server);
static void take_sockets(struct server *server, struct control_message *message, size_t listener);
static int start(struct server *server);
static int become(const char *user);
static void tell_taint(void *unused);
static int prepare_handlers(struct server *server);
static int make_segment(struct server *server);
static int open_gateway(struct server *server);
static void go_live(struct server *server);
static int serve(struct server *server);
static void obey(struct server *server, struct control_message *message);
static void take_deaths(struct server *server, const char *told);
static void drain(struct server *server, const char *ns);
static int end(struct server *server);
static void release(struct server *server);

int serve_command(int argc, char **argv) {
    const int ignored[] = {SIGPIPE, SIGXFSZ, SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    struct server server = {.config_fd = -1,
                            .admin_fd = -1,
                            .nursery_fd = -1,
                            .cells_fd = -1,
                            .others = OTHER_COUNTERS_NONE};
    int status;

    if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0) {
        fprintf(stderr, "weir gateway: this is started by weir run, not by hand\n");
        return EXIT_UNUSABLE;
    }
    /* They reach the supervisor, too, and it tells us. */
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    stacks_open(CONTROL_FD);
    status = set_up(&server);
    if (status == 0)
        status = start(&server);
    if (status == 0)
        status = serve(&server);
    if (server.gateway)
        status = end(&server);
    release(&server);
    return status;
}

/* Reads what it is given, until "start". */
static int set_up(struct server *server) {
    struct pollfd polled = {.fd = CONTROL_FD, .events = POLLIN};
    struct control_message message;
    const char *rest;
    int got, err = 0;

    server->limits = limits_of_process();
    limits_make_room_for_fds(server->limits.fd_limit);
    for (;;) {
        got = control_receive(CONTROL_FD, &message);
        if (got == 0) {
            poll(&polled, 1, -1);
            continue;
        }
        if (got < 0)
            return 1; /* the supervisor has gone */
        if (control_is(message.text, "start", &rest))
            return server->config_fd >= 0 && server->memory ? 0 : 1;
        err = take(server, &message);
        control_message_deinit(&message);
        if (err) {
            fprintf(stderr, "weir: cannot take '%s': %s\n", message.text, strerror(-err));
            return 1;
        }
    }
}

static int take(struct server *server, struct control_message *message) {
    const char *rest;

    if (control_is(message->text, "config", &rest) && message->fd_count == 1) {
        server->name = xstrdup(rest);
        server->config_fd = message->fds[0];
        message->fds[0] = -1;
    } else if (control_is(message->text, "threads", &rest)) {
        server->limits.cores = (unsigned)strtoul(rest, NULL, 10);
    } else if (control_is(message->text, "substitute", &rest)) {
        server->is_substitute = true;
    } else if (control_is(message->text, "memory", &rest) && message->fd_count == 1) {
        return take_memory(server, message, strtoul(rest, NULL, 10));
    } else if (control_is(message->text, "shares", &rest) && message->fd_count == 1) {
        return take_shares(server, message, (unsigned)strtoul(rest, NULL, 10));
    } else if (control_is(message->text, "nursery", &rest) && message->fd_count == 2) {
        return take_nursery(server, message);
    } else if (control_is(message->text, "cells", &rest) && message->fd_count == 1) {
        server->cells_fd = message->fds[0];
        message->fds[0] = -1;
    } else if (control_is(message->text, "listener", &rest)) {
        take_sockets(server, message, strtoul(rest, NULL, 10));
    } else if (control_is(message->text, "admin", &rest) && message->fd_count == 1) {
        server->admin_fd = message->fds[0];
        message->fds[0] = -1;
    }
    return 0;
}

static int take_memory(struct server *server, struct control_message *message, size_t bytes) {
    off_t size = lseek(message->fds[0], 0, SEEK_END);

    if (size < 0 || (size_t)size < bytes + sizeof(struct pulse_board))
        return -EINVAL;
    server->memory_bytes = (size_t)size;
    server->segment_bytes = bytes;
    server->memory =
        mmap(NULL, server->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, message->fds[0], 0);
    if (server->memory == MAP_FAILED) {
        server->memory = NULL;
        return -errno;
    }
    return 0;
}

/* A table of another version is left alone: the binary at the supervisor's path has changed, and
 * the supervisor has not been told yet. */
static int take_shares(struct server *server, struct control_message *message, unsigned slot) {
    off_t size = lseek(message->fds[0], 0, SEEK_END);
    void *memory;

    if (size <= 0 || slot >= SHARE_SLOTS)
        return -EINVAL;
    memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, message->fds[0], 0);
    if (memory == MAP_FAILED)
        return -errno;
    server->shares = share_table_attach(memory, (size_t)size);
    server->share_slot = slot;
    if (!server->shares)
        munmap(memory, (size_t)size);
    return 0;
}

/* A board of another version is left alone, and then nothing is known of programs. */
static int take_nursery(struct server *server, struct control_message *message) {
    off_t size = lseek(message->fds[1], 0, SEEK_END);
    void *memory;

    if (size <= 0)
        return -EINVAL;
    if (server->nursery_fd >= 0)
        close(server->nursery_fd);
    server->nursery_fd = message->fds[0];
    message->fds[0] = -1;
    if (server->children)
        return 0; /* the board stays when the nursery changes */
    memory = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, message->fds[1], 0);
    if (memory == MAP_FAILED)
        return -errno;
    server->children = board_attach(memory, (size_t)size);
    if (!server->children)
        munmap(memory, (size_t)size);
    return 0;
}

/* NULL: there is no memory yet. */
static struct pulse_board *board_of(const struct server *server) {
    char *memory = server->memory;

    return memory ? (void *)(memory + server->memory_bytes - sizeof(struct pulse_board)) : NULL;
}

/* The first of a listener for the first loop, and so on, and round again. */
static void take_sockets(struct server *server, struct control_message *message, size_t listener) {
    struct pulse_board *board = board_of(server);

    server->sockets = xrealloc(server->sockets, (server->socket_count + message->fd_count) *
                                                    sizeof *server->sockets);
    for (unsigned i = 0; i < message->fd_count; i++) {
        server->sockets[server->socket_count++] = (struct gateway_socket){
            listener, i % server->limits.cores, message->fds[i],
            board && listener < PULSE_LISTENERS_MAX ? &board->sockets[listener][i] : NULL};
        message->fds[i] = -1;
    }
}

static int start(struct server *server) {
    struct config_errors errors = {0};
    struct log_options options;
    const char *failed = NULL;
    int status, err;

    err =
        config_load_fd(&server->config, server->config_fd, server->name, &server->limits, &errors);
    close(server->config_fd);
    if (err) {
        fputs(errors.text, stderr);
        config_errors_deinit(&errors);
        return EXIT_UNUSABLE;
    }
    status = become(server->config->server.user);
    if (status)
        return status;
    /* Behind the change of user, which undoes it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    status = prepare_handlers(server);
    if (status)
        return status;
    options = (struct log_options){(enum log_level)server->config->log.level,
                                   server->config->log.file, server->config->log.access};
    err = log_open(&options, &failed);
    if (err) {
        fprintf(stderr, "weir: cannot open log '%s': %s\n", failed, strerror(-err));
        return EXIT_UNUSABLE;
    }
    status = make_segment(server);
    return status ? status : open_gateway(server);
}

static int become(const char *user) {
    const struct passwd *entry;

    if (!user || geteuid() != 0)
        return 0;
    errno = 0;
    entry = getpwnam(user);
    if (!entry) {
        fprintf(stderr, "weir: server.user '%s': %s\n", user,
                errno ? strerror(errno) : "there is no such user; create it or name another");
        return EXIT_UNUSABLE;
    }
    if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 ||
        setuid(entry->pw_uid) < 0) {
        fprintf(stderr, "weir: cannot become '%s': %s\n", user, strerror(errno));
        return EXIT_UNUSABLE;
    }
    return 0;
}

/* Any thread. That the supervisor is behind by a whole socket of messages is not reckoned with:
 * then the gateway goes on as it is. */
static void tell_taint(void *unused) {
    control_send(CONTROL_FD, "tainted", NULL, 0);
}

/* While there is one thread only. */
static int prepare_handlers(struct server *server) {
    char *why = NULL;

    if (server->config->handler_count == 0 ||
        handlers_prepare(&server->handlers,
                         &(struct handlers_options){.config = server->config,
                                                    .loops = server->config->server.threads,
                                                    .is_substitute = server->is_substitute,
                                                    .cells_fd = server->cells_fd,
                                                    .on_taint = tell_taint},
                         &why) == 0)
        return 0;
    fprintf(stderr, "weir: %s\n", why);
    free(why);
    return EXIT_UNUSABLE;
}

static int make_segment(struct server *server) {
    unsigned writers = server->config->server.threads;

    server->counters = counters_new(server->config);
    if (metrics_segment_size(counters_builder(server->counters), writers) > server->segment_bytes) {
        fprintf(stderr, "weir: the counters need more memory than was planned\n");
        return 1;
    }
    server->segment = metrics_segment_init(server->memory, server->segment_bytes,
                                           counters_builder(server->counters), writers);
    return 0;
}

static int open_gateway(struct server *server) {
    struct keeper_section deaths = deaths_section(&server->crashes);
    struct keeper_section histories = histories_section(&server->histories);
    char *why = NULL;
    int err = server->handlers ? handlers_start(server->handlers, &why) : 0;

    if (err) {
        fprintf(stderr, "weir: %s\n", why);
        free(why);
        return 1;
    }
    server->keeper = keeper_open(server->config->server.state_file);
    keeper_add(server->keeper, &deaths);
    server->histories = (struct histories){server->config, server->children, server->nursery_fd};
    if (server->children)
        keeper_add(server->keeper, &histories);
    err = gateway_open(&server->gateway,
                       &(struct gateway_options){
                           .config = server->config,
                           .counters = server->counters,
                           .segment = server->segment,
                           .sockets = server->sockets,
                           .socket_count = server->socket_count,
                           .board = board_of(server),
                           .shares = server->shares,
                           .share_slot = server->share_slot,
                           .children = server->children,
                           .nursery = server->nursery_fd,
                           .handlers = server->handlers,
                           .keeper = server->keeper,
                           .may_lack_addresses = server->is_substitute,
                       },
                       &why);

    if (err) {
        fprintf(stderr, "weir: %s\n", why);
        free(why);
        return EXIT_UNUSABLE;
    }
    handlers_know_fds(server->handlers, &server->gateway->fds);
    err = control_send(CONTROL_FD, "ready", NULL, 0);
    if (err) {
        fprintf(stderr, "weir: cannot tell the supervisor that the gateway is ready: %s\n",
                strerror(-err));
        return 1;
    }
    return 0;
}

/* All that /metrics has of counters. */
static void collect(void *ctx, struct buffer *text) {
    struct server *server = ctx;

    other_counters_render(&server->others, server->segment, text);
    gateway_collect(server->gateway, text);
}

static json_t *status_of(void *ctx) {
    return gateway_status(((struct server *)ctx)->gateway);
}

static enum admin_health health_of(void *ctx) {
    static const enum admin_health of[] = {ADMIN_STARTING, ADMIN_LIVE, ADMIN_DRAINING};
    const struct gateway *gateway = ((struct server *)ctx)->gateway;

    return gateway_is_wedged(gateway) ? ADMIN_WEDGED : of[atomic_load(&gateway->state)];
}

static bool pass_on(void *ctx, enum admin_order order, struct slice subject) {
    const struct server *server = ctx;
    char text[BOARD_NAME_MAX + sizeof "reset "];

    if (order == ADMIN_RESET) {
        int len = snprintf(text, sizeof text, "reset %.*s", SLICE_ARG(subject));

        return len < (int)sizeof text && control_send(server->nursery_fd, text, NULL, 0) == 0;
    }
    return control_send(CONTROL_FD, order == ADMIN_RELOAD ? "reload" : "drain", NULL, 0) == 0;
}

static bool reset_handler(void *ctx, const char *name) {
    const struct server *server = ctx;

    return server->handlers && handlers_reset(server->handlers, name);
}

static enum admin_found change_endpoint(void *ctx, const struct admin_change *change) {
    static const enum gateway_service services[] = {
        [ADMIN_ENDPOINT_DRAIN] = GATEWAY_ENDPOINT_DRAINED,
        [ADMIN_ENDPOINT_DISABLE] = GATEWAY_ENDPOINT_DISABLED,
        [ADMIN_ENDPOINT_ENABLE] = GATEWAY_ENDPOINT_ENABLED,
    };
    const struct server *server = ctx;
    int err = gateway_serve_endpoint(server->gateway, change->pipeline, change->endpoint,
                                     services[change->service]);

    if (err)
        return err == -ENXIO ? ADMIN_NO_PIPELINE : ADMIN_NO_ENDPOINT;
    keeper_hurry(server->keeper);
    return server->keeper ? ADMIN_CHANGED : ADMIN_CHANGED_UNKEPT;
}

static void go_live(struct server *server) {
    const struct config *config = server->config;
    struct admin_options options = {
        .fd = server->admin_fd,
        .version = WEIR_VERSION,
        .ctx = server,
        .collect = collect,
        .status = status_of,
        .health = health_of,
        .order = pass_on,
        .change = change_endpoint,
        .reset = reset_handler,
        .token = config->admin.token,
    };
    int err;

    keeper_start(server->keeper);
    for (size_t i = 0; i < config->listener_count; i++)
        log_info("listening on '%s' for '%s' with %u loops", config->listeners[i].listen.text,
                 config->listeners[i].name, config->server.threads);
    if (server->admin_fd < 0)
        return;
    err = listen(server->admin_fd, SOMAXCONN) < 0 ? -errno : admin_open(&server->admin, &options);
    if (err) {
        log_error("cannot start the admin plane on '%s': %s", config->admin.listen.text,
                  strerror(-err));
        return;
    }
    server->admin_fd = -1;
    log_info("admin plane on 'http://%s'", config->admin.listen.text);
}

/* Until all loops have ended. */
static int serve(struct server *server) {
    struct pollfd polled = {.fd = CONTROL_FD, .events = POLLIN};
    struct control_message message;
    int got;

    while (!server->deadline_ns || !gateway_is_drained(server->gateway)) {
        while ((got = control_receive(CONTROL_FD, &message)) > 0) {
            obey(server, &message);
            control_message_deinit(&message);
        }
        if (got < 0)
            _exit(1); /* nobody keeps the sockets any more: make room for the next start */
        if (server->deadline_ns && clock_now_ns() >= server->tunnels_ns)
            gateway_end_tunnels(server->gateway);
        if (server->deadline_ns && !server->is_aborted && clock_now_ns() >= server->deadline_ns) {
            log_warn("the drain time has passed: breaking off what is left");
            server->is_aborted = true;
            gateway_abort(server->gateway);
        }
        if (server->is_retiring && gateway_has_retired(server->gateway)) {
            server->is_retiring = false;
            control_send(CONTROL_FD, "retired", NULL, 0); /* if lost, it is waited for in vain */
        }
        poll(&polled, 1,
             server->is_retiring   ? RETIRE_LOOK_MS
             : server->deadline_ns ? DRAIN_LOOK_MS
                                   : -1);
    }
    return 0;
}

static void obey(struct server *server, struct control_message *message) {
    const char *rest;

    if (control_is(message->text, "others", &rest)) {
        other_counters_replace(&server->others, message->fds, message->fd_count);
    } else if (control_is(message->text, "live", &rest)) {
        go_live(server);
    } else if (control_is(message->text, "deaths", &rest)) {
        take_deaths(server, rest);
    } else if (control_is(message->text, "nursery", &rest) && message->fd_count == 2) {
        if (take_nursery(server, message) == 0)
            gateway_take_nursery(server->gateway, server->nursery_fd);
    } else if (control_is(message->text, "save", &rest)) {
        keeper_hurry(server->keeper);
    } else if (control_is(message->text, "reopen", &rest)) {
        log_reopen();
    } else if (control_is(message->text, "drain", &rest)) {
        drain(server, rest);
        gateway_drain(server->gateway);
    } else if (control_is(message->text, "retire", &rest)) {
        drain(server, rest);
        gateway_retire(server->gateway);
        keeper_release(server->keeper);
        admin_close(server->admin);
        server->admin = NULL;
        server->is_retiring = true;
    }
}

/* What the supervisor knows is newer than the file. */
static void take_deaths(struct server *server, const char *told) {
    char text[CRASHES_TEXT_MAX + sizeof "deaths"] = "deaths";

    if (crashes_read(&server->crashes, told, clock_now_ns()) || server->crashes.count == 0)
        return;
    crashes_write(&server->crashes, clock_now_ns(), text + strlen(text));
    control_send(CONTROL_FD, text, NULL, 0); /* if it is lost, so is what was before this start */
}

static void drain(struct server *server, const char *ns) {
    int64_t time_ns = strtoll(ns, NULL, 10), by_ns = clock_now_ns() + time_ns;
    int64_t early_ns = time_ns / 4 < TUNNELS_END_NS ? time_ns / 4 : TUNNELS_END_NS;

    if (server->deadline_ns && by_ns >= server->deadline_ns)
        return;
    server->deadline_ns = by_ns;
    server->tunnels_ns = by_ns - early_ns;
}

/* Returns the exit status. */
static int end(struct server *server) {
    struct census census;
    bool is_clean;

    admin_close(server->admin); /* its sources are the gateway's */
    keeper_close(server->keeper);
    server->keeper = NULL;
    if (handlers_are_tainted(server->handlers)) {
        /* Locks may be held by threads that are no more: nothing is freed, and no destructor runs.
         */
        log_info("ends without a census: a fault of a handler has left it in doubt");
        log_close();
        _exit(0);
    }
    is_clean = gateway_close(server->gateway, &census);
    handlers_close(server->handlers);
    log_line(
        is_clean ? LOG_INFO : LOG_ERROR,
        "census: connections=%u exchanges=%u timers=%u handles=%u fds=%u permits=%u children=%u",
        census.connections, census.exchanges, census.timers, census.handles, census.fds,
        census.permits, census.children);
    return is_clean ? 0 : 1;
}

static void release(struct server *server) {
    keeper_close(server->keeper);
    log_close();
    other_counters_replace(&server->others, NULL, 0);
    if (server->memory)
        munmap(server->memory, server->memory_bytes);
    if (server->shares)
        munmap(server->shares, sizeof *server->shares);
    if (server->children)
        munmap(server->children, sizeof *server->children);
    if (server->nursery_fd >= 0)
        close(server->nursery_fd);
    counters_free(server->counters);
    config_free(server->config);
    free(server->sockets);
    free(server->name);
}
