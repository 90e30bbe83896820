/* weir: the command line. */
#include "admin/status_fetch.h"
#include "admin/status_table.h"
#include "base/alloc.h"
#include "child/nursery.h"
#include "child/program.h"
#include "config/address.h"
#include "config/config.h"
#include "demo/demo.h"
#include "gateway/counters.h"
#include "handler/handlers.h"
#include "mcp/bridge.h"
#include "serve/limits.h"
#include "serve/serve.h"
#include "supervisor/control.h"
#include "supervisor/run_plan.h"
#include "supervisor/supervisor.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_HANDLERS_S 10 /* for all plugins to be loaded, and make an instance each */

static int run_command(int argc, char **argv);
static int check_command(int argc, char **argv);
static int status_command(int argc, char **argv);
static int endpoint_command(int argc, char **argv);
static void append_encoded(struct buffer *to, const char *text);
static int demo_command(int argc, char **argv);
static int check_handlers(const struct config *config);
static int print_plan(const struct config *config);
static bool do_programs_fit(const struct config *config);
static int nursery_command(int argc, char **argv);
static int engine_command(int argc, char **argv);
static int load(struct config **config, const char *path);
static int complain(struct config_errors *errors);
static void find_binary(const char *argv0);
static void greet(void *demo);
static int usage(FILE *to, int status);

static char binary[PATH_MAX]; /* weir itself, as it was called */

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* NULL: for weir's own use */
} commands[] = {
    {"run", run_command,
     "usage: weir run FILE\n\n"
     "Serves as FILE says, until SIGTERM or SIGINT: then it stops accepting, finishes what is "
     "under\n"
     "way within server.drain.shutdown, and exits. A second signal ends it at once. SIGHUP reads "
     "FILE\n"
     "again, SIGUSR1 reopens the log files.\n"},
    {"check", check_command,
     "usage: weir check [--plan] FILE [--stdin]\n\n"
     "Reads and checks FILE, and prints every error, or the listeners, pipelines and the sum of\n"
     "file descriptors; with --plan what `weir run` reads of it. With --stdin the text is that of\n"
     "standard input, and FILE only its name. Opens no socket and resolves no name, but loads the\n"
     "handlers' plugins.\n"},
    {"demo", demo_command,
     "usage: weir demo [--listen ADDRESS] [--admin ADDRESS]\n\n"
     "Serves a built-in demo engine on 127.0.0.1:8080, with the admin plane on 127.0.0.1:9901, "
     "and\n"
     "prints what to try.\n"},
    {"status", status_command,
     "usage: weir status [FILE | --admin ADDRESS] [--json]\n\n"
     "Asks the admin plane of a running weir (127.0.0.1:9901, or as FILE says) and prints its\n"
     "listeners, pipelines and endpoints.\n"},
    {"endpoint", endpoint_command,
     "usage: weir endpoint drain|disable|enable PIPELINE ADDRESS [FILE | --admin ADDRESS]\n\n"
     "Has a running weir send no new exchanges to an endpoint (drain: but those that belong to "
     "it;\n"
     "disable: none at all), or send them again. What is under way goes on. The token is FILE's\n"
     "admin.token, or in WEIR_ADMIN_TOKEN.\n"},
    {"gateway", serve_command, NULL},
    {"nursery", nursery_command, NULL},
    {"engine", engine_command, NULL},
    {"mcp-stdio", bridge_command, NULL},
};

int main(int argc, char **argv) {
    if (argc < 2)
        return usage(stderr, EXIT_UNUSABLE);
    find_binary(argv[0]);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return usage(stdout, 0);
    if (strcmp(argv[1], "--version") == 0) {
        puts("weir " WEIR_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        for (int j = 2; j < argc && commands[i].help; j++) {
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
          "  weir status        what a running weir is doing\n"
          "  weir endpoint      take an endpoint out of service, or back\n\n"
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

    if (!path)
        return EXIT_UNUSABLE;
    limits_raise_fds();
    return supervisor_run(&(struct supervisor_options){.binary = binary, .name = path});
}

static int check_command(int argc, char **argv) {
    bool is_plan = false, is_stdin = false;
    struct config_options options = limits_of_process();
    struct config_errors errors = {0};
    struct config *config;
    const char *path;
    char *names[2];
    int count = 0, status;

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--plan") == 0)
            is_plan = true;
        else if (strcmp(argv[i], "--stdin") == 0)
            is_stdin = true;
        else if (count < 2)
            names[count++] = argv[i];
    }
    path = only_argument(count, names, "check");
    if (!path)
        return EXIT_UNUSABLE;
    status = is_stdin ? config_load_fd(&config, STDIN_FILENO, path, &options, &errors)
                      : config_load(&config, path, &options, &errors);
    if (status)
        return complain(&errors);
    if (config->warnings)
        fputs(config->warnings, stderr);
    if ((config->handler_count > 0 && check_handlers(config)) || !do_programs_fit(config)) {
        status = EXIT_UNUSABLE;
    } else if (is_plan) {
        status = print_plan(config);
    } else {
        char *summary = config_summary(config);

        fputs(summary, stdout);
        free(summary);
    }
    config_free(config);
    return status;
}

/* Loads the plugins and makes an instance of each, in a child, because it is their code that runs.
 */
static int check_handlers(const struct config *config) {
    struct handlers_options options = {.config = config, .loops = 1, .cells_fd = -1};
    struct handlers *handlers;
    char *why = NULL;
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int err;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(CHECK_HANDLERS_S);
        err = handlers_prepare(&handlers, &options, &why);
        if (err)
            fprintf(stderr, "weir: %s\n", why);
        fflush(NULL);
        _exit(err ? EXIT_UNUSABLE : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        fprintf(stderr, "weir: cannot check the handlers: %s\n", strerror(errno));
        return EXIT_UNUSABLE;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        fprintf(stderr,
                "weir: a handler's plugin has not made an instance within %d s: see what it waits "
                "for in init()\n",
                CHECK_HANDLERS_S);
    else if (WIFSIGNALED(status))
        fprintf(stderr, "weir: a handler's plugin has crashed as it was loaded: %s\n",
                strsignal(WTERMSIG(status)));
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_UNUSABLE;
}

static int print_plan(const struct config *config) {
    size_t series = counters_series(config);
    struct counters *counters;

    if (series > COUNTERS_SERIES_MAX) {
        fprintf(stderr,
                "weir: the routes ask for %zu metric series, at most %d can be had: name the "
                "listener of each route, or have fewer of either\n",
                series, COUNTERS_SERIES_MAX);
        return EXIT_UNUSABLE;
    }
    counters = counters_new(config);
    run_plan_print(config, metrics_segment_size(counters_builder(counters), config->server.threads),
                   stdout);
    counters_free(counters);
    return 0;
}

static bool do_programs_fit(const struct config *config) {
    char *text = programs_write(config);
    size_t len = text ? strlen(text) : 0;

    free(text);
    if (len > PROGRAMS_TEXT_MAX)
        fprintf(stderr,
                "weir: what is said of all [pipeline.process] makes %zu bytes, at most %d can be "
                "had: shorten commands and environments\n",
                len, PROGRAMS_TEXT_MAX);
    return len <= PROGRAMS_TEXT_MAX;
}

static int nursery_command(int argc, char **argv) {
    int type;
    socklen_t len = sizeof type;

    if (getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        fprintf(stderr, "weir nursery: this is started by weir run, not by hand\n");
        return EXIT_UNUSABLE;
    }
    return nursery_run(CONTROL_FD);
}

static int engine_command(int argc, char **argv) {
    return demo_engine();
}

/* Where the admin plane of a running weir is: as @path says, or at @text. */
struct admin_place {
    const char *path, *text; /* borrowed; NULL: not said */
    struct config *config;   /* owned; with a path */
    struct config_address named;
    const struct config_address *address; /* borrowed: one of these */
};

/* Takes "--admin ADDRESS" or a FILE; returns how many arguments that was, 0: it is neither. */
static int take_admin(struct admin_place *place, int argc, char **argv) {
    if (argc > 1 && strcmp(argv[0], "--admin") == 0) {
        place->text = argv[1];
        return 2;
    }
    if (argv[0][0] == '-' || place->path)
        return 0;
    place->path = argv[0];
    return 1;
}

/* 0, or an exit code after a message. */
static int open_admin(struct admin_place *place, const char *command) {
    struct buffer guess = {0};
    const char *why = NULL;
    int status;

    if (place->path) {
        status = load(&place->config, place->path);
        if (status)
            return status;
        place->address = &place->config->admin.listen;
        if (place->config->admin.is_on)
            return 0;
        fprintf(stderr, "weir %s: '%s' has admin.listen = \"off\"\n", command, place->path);
        config_free(place->config);
        return EXIT_UNUSABLE;
    }
    if (!place->text)
        place->text = "127.0.0.1:9901";
    why = address_parse(&place->named, slice_str(place->text), ADDRESS_TO_DIAL, &guess);
    buffer_deinit(&guess);
    place->address = &place->named;
    if (!why)
        return 0;
    fprintf(stderr, "weir %s: --admin: found '%s', expected %s\n", command, place->text, why);
    return EXIT_UNUSABLE;
}

static void close_admin(struct admin_place *place) {
    if (!place->path)
        address_deinit(&place->named);
    config_free(place->config);
}

static int status_command(int argc, char **argv) {
    struct admin_place place = {0};
    bool as_json = false;
    int status, taken;

    for (int i = 0; i < argc; i += taken) {
        bool is_json = strcmp(argv[i], "--json") == 0;

        as_json |= is_json;
        taken = is_json ? 1 : take_admin(&place, argc - i, argv + i);
        if (taken == 0) {
            fprintf(stderr, "weir status: unexpected '%s'; see weir status --help\n", argv[i]);
            return EXIT_UNUSABLE;
        }
    }
    status = open_admin(&place, "status");
    if (status)
        return status;
    status = status_print(place.address, stdout, as_json);
    close_admin(&place);
    return status;
}

static int endpoint_command(int argc, char **argv) {
    struct admin_place place = {0};
    struct buffer path = {0}, content = {0};
    const char *token = getenv("WEIR_ADMIN_TOKEN");
    char *error = NULL;
    int status, taken;

    if (argc < 3 || (strcmp(argv[0], "drain") != 0 && strcmp(argv[0], "disable") != 0 &&
                     strcmp(argv[0], "enable") != 0)) {
        fputs("weir endpoint: expected drain, disable or enable, a pipeline and an address; see "
              "weir endpoint --help\n",
              stderr);
        return EXIT_UNUSABLE;
    }
    for (int i = 3; i < argc; i += taken) {
        taken = take_admin(&place, argc - i, argv + i);
        if (taken == 0) {
            fprintf(stderr, "weir endpoint: unexpected '%s'; see weir endpoint --help\n", argv[i]);
            return EXIT_UNUSABLE;
        }
    }
    status = open_admin(&place, "endpoint");
    if (status)
        return status;
    if (place.config && place.config->admin.token)
        token = place.config->admin.token;
    buffer_printf(&path, "/endpoint?do=%s&pipeline=", argv[0]);
    append_encoded(&path, argv[1]);
    buffer_append(&path, SLICE("&endpoint="));
    append_encoded(&path, argv[2]);
    buffer_append_char(&path, '\0');
    status = status_post(place.address, path.base, token, &content, &error) ? 1 : 0;
    if (error)
        fprintf(stderr, "weir: %s\n", error);
    else
        fprintf(status ? stderr : stdout, "%.*s", SLICE_ARG(content));
    free(error);
    buffer_deinit(&path);
    buffer_deinit(&content);
    close_admin(&place);
    return status;
}

/* RFC 3986 section 2.1. */
static void append_encoded(struct buffer *to, const char *text) {
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~:/", *text))
            buffer_append_char(to, *text);
        else
            buffer_printf(to, "%%%02X", (unsigned char)*text);
    }
}

static int demo_command(int argc, char **argv) {
    struct demo demo;
    int status = demo_open(&demo, binary, argc, argv);

    if (status)
        return status;
    limits_raise_fds();
    status = supervisor_run(&(struct supervisor_options){
        .binary = binary,
        .name = "weir demo",
        .text = demo.config,
        .on_ready = greet,
        .ctx = &demo,
    });
    demo_close(&demo);
    return status;
}

static void greet(void *demo) {
    demo_greet(demo);
}

static int load(struct config **config, const char *path) {
    struct config_options options = limits_of_process();
    struct config_errors errors = {0};

    if (config_load(config, path, &options, &errors))
        return complain(&errors);
    if ((*config)->warnings)
        fputs((*config)->warnings, stderr);
    return 0;
}

static int complain(struct config_errors *errors) {
    fputs(errors->text, stderr);
    config_errors_deinit(errors);
    return EXIT_UNUSABLE;
}

/* As a path, if we were called by one: whoever puts a new weir in its place means that. */
static void find_binary(const char *argv0) {
    char here[PATH_MAX];
    ssize_t len = -1;

    if (argv0[0] == '/')
        len = snprintf(binary, sizeof binary, "%s", argv0);
    else if (strchr(argv0, '/') && getcwd(here, sizeof here))
        len = snprintf(binary, sizeof binary, "%s/%s", here, argv0);
    if (len >= 0 && (size_t)len < sizeof binary)
        return;
    len = readlink("/proc/self/exe", binary, sizeof binary - 1);
    binary[len < 0 ? 0 : len] = '\0';
}
