/* weir: the command line, and the process that `weir run` is: it binds, makes the counter segment,
 * starts the gateway and the admin plane, and waits for signals. */
#include "admin/admin.h"
#include "admin/status_table.h"
#include "base/alloc.h"
#include "base/log.h"
#include "config/address.h"
#include "config/config.h"
#include "demo/demo.h"
#include "gateway/gateway.h"
#include "transport/listen.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define EXIT_UNUSABLE 2 /* arguments or configuration */
#define DRAIN_LOOK_NS (20 * NS_PER_MS)

/* What a running weir holds. */
struct server {
    struct config *config;
    struct counters *counters;
    struct metrics_segment *segment;
    size_t segment_bytes;
    struct gateway_socket *sockets;
    size_t socket_count;
    int admin_fd;
    struct gateway *gateway;
    struct admin *admin;
};

static int run_command(int argc, char **argv);
static int check_command(int argc, char **argv);
static int status_command(int argc, char **argv);
static int demo_command(int argc, char **argv);
static int serve(struct config *config, const struct demo *demo);
static int start(struct server *server);
static int bind_all(struct server *server);
static int make_segment(struct server *server);
static int open_admin(struct server *server);
static int wait_and_drain(struct server *server);
static void stop(struct server *server);
static int load(struct config **config, const char *path);
static struct config_options limits(void);
static int usage(FILE *to, int status);

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", run_command,
     "usage: weir run FILE\n\n"
     "Serves as FILE says, until SIGTERM or SIGINT: then it stops accepting, finishes what is "
     "under\n"
     "way within server.drain.shutdown, and exits. A second signal ends it at once. SIGUSR1 "
     "reopens\n"
     "the log files.\n"},
    {"check", check_command,
     "usage: weir check FILE\n\n"
     "Reads and checks FILE, and prints every error, or the listeners, pipelines and the sum of\n"
     "file descriptors. Opens no socket and resolves no name.\n"},
    {"demo", demo_command,
     "usage: weir demo [--listen ADDRESS] [--admin ADDRESS]\n\n"
     "Serves a built-in demo engine on 127.0.0.1:8080, with the admin plane on 127.0.0.1:9901, "
     "and\n"
     "prints what to try.\n"},
    {"status", status_command,
     "usage: weir status [FILE | --admin ADDRESS] [--json]\n\n"
     "Asks the admin plane of a running weir (127.0.0.1:9901, or as FILE says) and prints its\n"
     "listeners, pipelines and endpoints.\n"},
};

int main(int argc, char **argv) {
    if (argc < 2)
        return usage(stderr, EXIT_UNUSABLE);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return usage(stdout, 0);
    if (strcmp(argv[1], "--version") == 0) {
        puts("weir " WEIR_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        for (int j = 2; j < argc; j++) {
            if (strcmp(argv[j], "--help") == 0 || strcmp(argv[j], "-h") == 0) {
                fputs(commands[i].help, stdout);
                return 0;
            }
            if (strcmp(argv[j], "--version") == 0) {
                puts("weir " WEIR_VERSION);
                return 0;
            }
        }
        return commands[i].run(argc - 2, argv + 2);
    }
    fprintf(stderr, "weir: unknown %s '%s'\n", argv[1][0] == '-' ? "option" : "command", argv[1]);
    return usage(stderr, EXIT_UNUSABLE);
}

static int usage(FILE *to, int status) {
    fputs("usage: weir COMMAND [ARGUMENTS]\n\n"
          "  weir run FILE      serve as the configuration file says\n"
          "  weir check FILE    check a configuration file and print its limits\n"
          "  weir demo          serve with a built-in demo engine, nothing to configure\n"
          "  weir status        what a running weir is doing\n\n"
          "  weir COMMAND --help, weir --version\n",
          to);
    return status;
}

/* The one argument of @command, or NULL after a message. */
static const char *only_argument(int argc, char **argv, const char *command) {
    if (argc == 1 && argv[0][0] != '-')
        return argv[0];
    if (argc > 0 && argv[0][0] == '-')
        fprintf(stderr, "weir %s: unknown option '%s'; see weir %s --help\n", command, argv[0],
                command);
    else
        fprintf(stderr, "weir %s: expected one configuration file; see weir %s --help\n", command,
                command);
    return NULL;
}

static int run_command(int argc, char **argv) {
    const char *path = only_argument(argc, argv, "run");
    struct config *config;
    int status;

    if (!path)
        return EXIT_UNUSABLE;
    status = load(&config, path);
    return status ? status : serve(config, NULL);
}

static int check_command(int argc, char **argv) {
    const char *path = only_argument(argc, argv, "check");
    struct config *config;
    char *summary;
    int status;

    if (!path)
        return EXIT_UNUSABLE;
    status = load(&config, path);
    if (status)
        return status;
    summary = config_summary(config);
    fputs(summary, stdout);
    free(summary);
    config_free(config);
    return 0;
}

static int status_command(int argc, char **argv) {
    struct config_address admin, *address = &admin;
    struct config *config = NULL;
    const char *text = "127.0.0.1:9901", *path = NULL;
    bool as_json = false;
    struct buffer guess = {0};
    const char *why;
    int status;

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            as_json = true;
        } else if (strcmp(argv[i], "--admin") == 0 && i + 1 < argc) {
            text = argv[++i];
        } else if (argv[i][0] != '-' && !path) {
            path = argv[i];
        } else {
            fprintf(stderr, "weir status: unexpected '%s'; see weir status --help\n", argv[i]);
            return EXIT_UNUSABLE;
        }
    }
    if (path) {
        status = load(&config, path);
        if (status)
            return status;
        if (!config->admin.is_on) {
            fprintf(stderr, "weir status: '%s' has admin.listen = \"off\"\n", path);
            config_free(config);
            return EXIT_UNUSABLE;
        }
        address = &config->admin.listen;
    } else if ((why = address_parse(&admin, slice_str(text), ADDRESS_TO_DIAL, &guess))) {
        fprintf(stderr, "weir status: --admin: found '%s', expected %s\n", text, why);
        buffer_deinit(&guess);
        return EXIT_UNUSABLE;
    }
    status = status_print(address, stdout, as_json);
    if (!path)
        address_deinit(&admin);
    config_free(config);
    return status;
}

static int demo_command(int argc, char **argv) {
    struct demo demo;
    struct config_errors errors = {0};
    struct config_options options = limits();
    struct config *config;
    int status = demo_open(&demo, argc, argv);

    if (status)
        return status;
    if (config_parse(&config, "weir demo", demo.config, strlen(demo.config), &options, &errors)) {
        fputs(errors.text, stderr);
        config_errors_deinit(&errors);
        demo_close(&demo);
        return EXIT_UNUSABLE;
    }
    status = serve(config, &demo);
    demo_close(&demo);
    return status;
}

static int load(struct config **config, const char *path) {
    struct config_options options = limits();
    struct config_errors errors = {0};

    if (config_load(config, path, &options, &errors) == 0) {
        if ((*config)->warnings)
            fputs((*config)->warnings, stderr);
        return 0;
    }
    fputs(errors.text, stderr);
    config_errors_deinit(&errors);
    return EXIT_UNUSABLE;
}

/* What there is to be had; the soft fd limit is raised to the hard one first. */
static struct config_options limits(void) {
    struct config_options options = {.fd_limit = 1024, .cores = 1};
    struct rlimit fds;
    cpu_set_t cpus;

    if (getrlimit(RLIMIT_NOFILE, &fds) == 0) {
        fds.rlim_cur = fds.rlim_max;
        setrlimit(RLIMIT_NOFILE, &fds);
        getrlimit(RLIMIT_NOFILE, &fds);
        options.fd_limit = fds.rlim_cur < UINT32_MAX ? (unsigned)fds.rlim_cur : UINT32_MAX;
    }
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0)
        options.cores = (unsigned)CPU_COUNT(&cpus);
    return options;
}

/* What a running weir waits for. */
static sigset_t our_signals(void) {
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    return signals;
}

static int serve(struct config *config, const struct demo *demo) {
    struct server server = {.config = config, .admin_fd = -1};
    sigset_t signals;
    int status;

    /* Before any thread is there, so that all inherit it: signals are waited for, not caught. */
    signal(SIGPIPE, SIG_IGN);
    signals = our_signals();
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    status = start(&server);
    if (status == 0) {
        for (size_t i = 0; i < config->listener_count; i++)
            log_info("listening on '%s' for '%s' with %u loops", config->listeners[i].listen.text,
                     config->listeners[i].name, config->server.threads);
        if (demo)
            demo_greet(demo);
        status = wait_and_drain(&server);
    }
    stop(&server);
    return status;
}

static int start(struct server *server) {
    const struct config_log *log = &server->config->log;
    struct log_options options = {(enum log_level)log->level, log->file, log->access};
    const char *failed = NULL;
    char *why = NULL;
    int status, err;

    err = log_open(&options, &failed);
    if (err) {
        fprintf(stderr, "weir: cannot open log '%s': %s\n", failed, strerror(-err));
        return EXIT_UNUSABLE;
    }
    status = bind_all(server);
    if (!status)
        status = make_segment(server);
    if (status)
        return status;
    err = gateway_open(&server->gateway,
                       &(struct gateway_options){
                           .config = server->config,
                           .counters = server->counters,
                           .segment = server->segment,
                           .sockets = server->sockets,
                           .socket_count = server->socket_count,
                       },
                       &why);
    if (err) {
        fprintf(stderr, "weir: %s\n", why);
        free(why);
        return EXIT_UNUSABLE;
    }
    return open_admin(server);
}

static int bind_all(struct server *server) {
    const struct config *config = server->config;
    unsigned threads = config->server.threads;
    char *why = NULL;

    server->sockets = xcalloc(config->listener_count * threads, sizeof *server->sockets);
    for (size_t i = 0; i < config->listener_count; i++) {
        int fds[64];

        if (listen_open(&config->listeners[i].listen, fds, threads, &why) != 0) {
            fprintf(stderr, "weir: listener '%s': %s\n", config->listeners[i].name, why);
            free(why);
            return EXIT_UNUSABLE;
        }
        for (unsigned j = 0; j < threads; j++)
            server->sockets[server->socket_count++] = (struct gateway_socket){i, j, fds[j]};
    }
    if (config->admin.is_on &&
        listen_open(&config->admin.listen, &server->admin_fd, 1, &why) != 0) {
        server->admin_fd = -1;
        fprintf(stderr, "weir: admin: %s\n", why);
        free(why);
        return EXIT_UNUSABLE;
    }
    return 0;
}

/* The counters live in memory of their own, which another process could map too. */
static int make_segment(struct server *server) {
    unsigned writers = server->config->server.threads;
    size_t series = counters_series(server->config);
    void *memory;
    int fd;

    if (series > COUNTERS_SERIES_MAX) {
        fprintf(stderr,
                "weir: the routes ask for %zu metric series, at most %d can be had: name the "
                "listener of each route, or have fewer of either\n",
                series, COUNTERS_SERIES_MAX);
        return EXIT_UNUSABLE;
    }
    server->counters = counters_new(server->config);
    server->segment_bytes = metrics_segment_size(counters_builder(server->counters), writers);
    fd = memfd_create("weir-counters", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)server->segment_bytes) < 0) {
        fprintf(stderr, "weir: cannot make %zu bytes of counters: %s\n", server->segment_bytes,
                strerror(errno));
        return 1;
    }
    memory = mmap(NULL, server->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "weir: cannot map %zu bytes of counters: %s\n", server->segment_bytes,
                strerror(errno));
        return 1;
    }
    server->segment = metrics_segment_init(memory, server->segment_bytes,
                                           counters_builder(server->counters), writers);
    return 0;
}

static void collect(void *ctx, struct buffer *text) {
    gateway_collect(ctx, text);
}

static json_t *status_of(void *ctx) {
    return gateway_status(ctx);
}

static enum admin_health health_of(void *ctx) {
    static const enum admin_health of[] = {ADMIN_STARTING, ADMIN_LIVE, ADMIN_DRAINING};
    const struct gateway *gateway = ctx;

    return of[atomic_load(&gateway->state)];
}

static int open_admin(struct server *server) {
    struct admin_options options = {
        .fd = server->admin_fd,
        .version = WEIR_VERSION,
        .segment = server->segment,
        .ctx = server->gateway,
        .collect = collect,
        .status = status_of,
        .health = health_of,
    };
    int err;

    if (!server->config->admin.is_on)
        return 0;
    err = admin_open(&server->admin, &options);
    if (err) {
        fprintf(stderr, "weir: cannot start the admin plane on '%s': %s\n",
                server->config->admin.listen.text, strerror(-err));
        return 1;
    }
    server->admin_fd = -1;
    log_info("admin plane on 'http://%s'", server->config->admin.listen.text);
    return 0;
}

/* Returns the exit status. */
static int wait_and_drain(struct server *server) {
    const struct timespec look = {0, DRAIN_LOOK_NS};
    int64_t drain_ns = server->config->server.drain_shutdown_ns, deadline_ns = 0;
    bool is_aborted = false;
    const sigset_t signals = our_signals();

    while (!deadline_ns || !gateway_is_drained(server->gateway)) {
        int number =
            deadline_ns ? sigtimedwait(&signals, NULL, &look) : sigwaitinfo(&signals, NULL);

        if (number == SIGUSR1) {
            log_reopen();
        } else if (number == SIGHUP) {
            log_warn("SIGHUP: this version cannot reload; restart it to read the file again");
        } else if (number > 0 && deadline_ns) {
            log_warn("second signal: ending at once");
            log_close();
            _exit(1);
        } else if (number > 0) {
            log_info("%s: draining for up to %lld s", strsignal(number),
                     (long long)(drain_ns / NS_PER_S));
            deadline_ns = clock_now_ns() + drain_ns;
            gateway_drain(server->gateway);
        }
        if (deadline_ns && !is_aborted && clock_now_ns() >= deadline_ns) {
            log_warn("the drain time has passed: breaking off what is left");
            is_aborted = true;
            gateway_abort(server->gateway);
        }
    }
    return 0;
}

static void stop(struct server *server) {
    struct census census;
    bool is_clean;

    if (server->gateway) {
        admin_close(server->admin); /* its sources are the gateway's */
        is_clean = gateway_close(server->gateway, &census);
        log_line(is_clean ? LOG_INFO : LOG_ERROR,
                 "census: connections=%u exchanges=%u timers=%u handles=%u fds=%u permits=%u",
                 census.connections, census.exchanges, census.timers, census.handles, census.fds,
                 census.permits);
    }
    for (size_t i = 0; !server->gateway && i < server->socket_count; i++)
        close(server->sockets[i].fd);
    for (size_t i = 0; i < server->config->listener_count; i++)
        if (server->config->listeners[i].listen.kind == ADDRESS_UNIX && server->gateway)
            unlink(((struct sockaddr_un *)&server->config->listeners[i].listen.sockaddr)->sun_path);
    if (server->admin_fd >= 0)
        close(server->admin_fd);
    if (server->segment)
        munmap(server->segment, server->segment_bytes);
    counters_free(server->counters);
    free(server->sockets);
    log_close();
    config_free(server->config);
}
