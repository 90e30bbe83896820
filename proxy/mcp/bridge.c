/* The bridge's life; see bridge.h. */
#include "mcp/bridge.h"

#include "base/control.h"
#include "base/log.h"
#include "config/address.h"
#include "origin/visit.h"
#include "transport/listen.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_UNUSABLE 2
#define EXIT_NOT_STARTED 126
#define EXIT_SILENT 125 /* the server has not ended, but says nothing more */

static bool read_settings(struct config_process *process, const char *text);
static int open_bridge(struct bridge *bridge, const struct config_process *process);
static bool say(void *ctx, struct slice line);
static void on_ready(void *ctx);
static int open_address(int *fd);
static void on_refused(void *ctx, struct slice why);
static void on_line(struct stdio *server, const struct lines_item *line);
static void on_gone(struct stdio *server, const char *how);
static void on_ending(struct origin *origin);
static void on_look(struct timer *timer);
static void tell_counts(const struct bridge *bridge);

static const struct hub_server_ops hub_ops = {.say = say, .ready = on_ready, .refused = on_refused};
static const struct stdio_events stdio_events = {.line = on_line, .gone = on_gone};

int bridge_command(int argc, char **argv) {
    static struct bridge bridge; /* half a page of timer wheel: not for the stack */
    struct config_process process = {0};
    int err;

    if (argc < 2 || !getenv("WEIR_LISTEN") || !read_settings(&process, argv[0])) {
        fprintf(stderr, "weir mcp-stdio: this is started by weir run, not by hand\n");
        return EXIT_UNUSABLE;
    }
    process.command = argv + 1;
    process.command_count = (size_t)argc - 1;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "weir-mcp");
    log_leave_out_time();
    err = open_bridge(&bridge, &process);
    if (err)
        return err;
    if (origin_run(&bridge.origin) > 0)
        log_error("the bridge of '%s' has left handles open", bridge.name);
    tell_counts(&bridge);
    hub_deinit(&bridge.hub);
    return bridge.exit_status;
}

/* What a weir of another version leaves out is 0, and a limit of 0 would be none. */
static bool read_settings(struct config_process *process, const char *text) {
    json_int_t sessions, calls, per_session, queue, depth, message, idle_ns, ping_ns;
    json_int_t ask, memory, cpu_ns, fds;
    json_t *all = json_loads(text, 0, NULL);
    bool is_read =
        json_unpack(all, "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sessions",
                    &sessions, "calls", &calls, "calls_per_session", &per_session, "queue", &queue,
                    "depth", &depth, "message", &message, "idle_ns", &idle_ns, "ping_ns", &ping_ns,
                    "ask", &ask, "memory", &memory, "cpu_ns", &cpu_ns, "fds", &fds) == 0 &&
        sessions > 0 && calls > 0 && per_session > 0 && queue > 0 && depth > 0 &&
        depth <= MESSAGE_DEPTH_MAX && message > 0 && idle_ns > 0;

    json_decref(all);
    if (!is_read)
        return false;
    process->mcp = (struct config_mcp){.sessions = (unsigned)sessions,
                                       .calls = (unsigned)calls,
                                       .calls_per_session = (unsigned)per_session,
                                       .queue = (unsigned)queue,
                                       .depth = (unsigned)depth,
                                       .message_bytes = (size_t)message,
                                       .idle_ns = idle_ns,
                                       .ping_ns = ping_ns,
                                       .ask = (enum config_mcp_ask)ask};
    process->limits.memory_bytes = (size_t)memory;
    process->limits.cpu_ns = cpu_ns;
    process->limits.fds = (unsigned)fds;
    return true;
}

/* 0, or an exit status after a message. */
static int open_bridge(struct bridge *bridge, const struct config_process *process) {
    const char *name = getenv("WEIR_PIPELINE");
    char why[160];
    int err;

    bridge->name = name ? name : "mcp-stdio";
    bridge->settings = process->mcp;
    bridge->fd = -1;
    timer_init(&bridge->look, on_look);
    err = origin_open(
        &bridge->origin,
        &(struct origin_options){.name = "a bridge", .visited = http_visited, .ending = on_ending});
    if (err) {
        log_error("cannot start the bridge of '%s': %s", bridge->name, strerror(-err));
        return 1;
    }
    hub_init(&bridge->hub,
             &(struct hub_options){
                 .limits = process->mcp, .ops = &hub_ops, .ctx = bridge, .name = bridge->name});
    if (stdio_open(&bridge->server, &bridge->origin.loop, &stdio_events, process,
                   process->mcp.message_bytes, why, sizeof why)) {
        log_error("cannot start '%s': %s", process->command[0], why);
        return EXIT_NOT_STARTED;
    }
    loop_timer_start(&bridge->origin.loop, &bridge->look, BRIDGE_LOOK_NS);
    hub_start(&bridge->hub);
    return 0;
}

static bool say(void *ctx, struct slice line) {
    struct bridge *bridge = ctx;

    return stdio_say(&bridge->server, line);
}

static void on_ready(void *ctx) {
    struct bridge *bridge = ctx;
    int err = open_address(&bridge->fd);

    if (!err)
        err = origin_listen(&bridge->origin, bridge->fd);
    if (!err)
        return;
    log_error("the bridge of '%s' cannot accept: %s", bridge->name, strerror(-err));
    bridge->exit_status = 1;
    origin_end(&bridge->origin, 0);
}

static int open_address(int *fd) {
    struct config_address address = {0};
    struct buffer guess = {0};
    char *why = NULL;
    int err = -EINVAL;

    if (!address_parse(&address, slice_str(getenv("WEIR_LISTEN")), ADDRESS_TO_LISTEN, &guess))
        err = listen_open(&address, fd, 1, &why);
    if (why)
        log_error("%s", why);
    free(why);
    buffer_deinit(&guess);
    address_deinit(&address);
    return err;
}

static void on_refused(void *ctx, struct slice why) {
    struct bridge *bridge = ctx;

    log_error("the MCP server of '%s' cannot be initialized: %.*s", bridge->name, SLICE_ARG(why));
    bridge->exit_status = 1;
    origin_end(&bridge->origin, 0);
}

static void on_line(struct stdio *server, const struct lines_item *line) {
    struct bridge *bridge = CONTAINER_OF(server, struct bridge, server);

    hub_hear(&bridge->hub, line, bridge->origin.loop.now_ns);
}

/* Who reads the log of deaths there finds the server's own status. */
static void on_gone(struct stdio *server, const char *how) {
    struct bridge *bridge = CONTAINER_OF(server, struct bridge, server);
    const struct mcp_counts *counts = &bridge->hub.counts;

    log_error("the MCP server of '%s' %s: %llu requests are answered with an error, %llu sessions "
              "end",
              bridge->name, how, (unsigned long long)counts->calls,
              (unsigned long long)counts->sessions);
    bridge->exit_status = !server->has_status           ? EXIT_SILENT
                          : WIFSIGNALED(server->status) ? 128 + WTERMSIG(server->status)
                                                        : WEXITSTATUS(server->status);
    bridge->how = how;
    origin_end(&bridge->origin, BRIDGE_ENDING_NS);
    bridge->how = NULL;
}

/* No answer comes any more, nor can a session go on. Who gets his last one now hears in it that the
 * connection ends, and sends nothing more there: that is why the origin is ended first. */
static void on_ending(struct origin *origin) {
    struct bridge *bridge = CONTAINER_OF(origin, struct bridge, origin);

    if (bridge->fd >= 0)
        close(bridge->fd); /* who comes now is to wait for the next one */
    bridge->fd = -1;
    hub_end(&bridge->hub, bridge->how ? "the server " : "the server is ended by weir",
            slice_str(bridge->how ? bridge->how : ""));
    stdio_close(&bridge->server);
    loop_timer_stop(&origin->loop, &bridge->look);
}

static void on_look(struct timer *timer) {
    struct bridge *bridge = CONTAINER_OF(timer, struct bridge, look);

    if (!hub_is_alive(&bridge->hub, BRIDGE_LOOK_NS)) {
        log_error("the MCP server of '%s' hangs, or knows no ping: then have mcp.ping = 0",
                  bridge->name);
        on_gone(&bridge->server, "does not answer a ping");
        return;
    }
    hub_expire(&bridge->hub, bridge->origin.loop.now_ns);
    tell_counts(bridge);
    loop_timer_start(&bridge->origin.loop, timer, BRIDGE_LOOK_NS);
}

static void tell_counts(const struct bridge *bridge) {
    const struct mcp_counts *counts = &bridge->hub.counts;

    control_send_bytes(STDIN_FILENO, slice_of((const char *)counts, sizeof *counts), NULL, 0);
}
