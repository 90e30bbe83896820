/* The demo as `weir demo` sees it: arguments, configuration, greeting; and the engine, in its own
 * process. */
#include "demo/demo.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/address.h"
#include "demo/resource.h"
#include "transport/listen.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <unistd.h>

#define EXIT_UNUSABLE 2 /* arguments */
#define DEFAULT_LISTEN "127.0.0.1:8080"
#define DEFAULT_ADMIN "127.0.0.1:9901"
#define OFF "off"                   /* --admin */
#define START_MAX_NS (5 * NS_PER_S) /* for the engine to listen */
#define START_LOOK_NS (5 * NS_PER_MS)
#define ENGINE_FDS 16500 /* if there are so many */

static int run_engine(int fd);
static int read_arguments(struct demo *demo, int argc, char **argv);
static int check_address(const char *option, const char *text);
static int find_port(unsigned *port);
static void await_engine(unsigned port);
static char *make_config(const struct demo *demo, const char *binary);
static void append_curl(struct buffer *out, const char *options, const char *address,
                        const char *path);
static void append_url(struct buffer *out, const char *address, const char *path);
static bool is_unix(const char *address);

int demo_open(struct demo *demo, const char *binary, int argc, char **argv) {
    int status;

    *demo = (struct demo){0};
    status = read_arguments(demo, argc, argv);
    if (!status)
        status = find_port(&demo->port);
    if (status)
        demo_close(demo);
    else
        demo->config = make_config(demo, binary);
    return status;
}

void demo_greet(const struct demo *demo) {
    bool has_admin = strcmp(demo->admin, OFF) != 0;
    struct buffer out = {0};

    await_engine(demo->port);
    buffer_append(&out, SLICE("\nweir is in front of its demo engine.\n\n  "));
    append_url(&out, demo->listen, "/");
    buffer_append(&out, SLICE("   lists all that the engine answers\n"));
    if (has_admin) {
        buffer_append(&out, SLICE("  "));
        append_url(&out, demo->admin, "/");
        buffer_append(&out, SLICE("   weir's own: /metrics /status /healthz /readyz\n"));
    }
    buffer_append(&out, SLICE("\nTry, in another terminal:\n\n"
                              "  # your request as the engine got it\n"));
    append_curl(&out, "-d hello ", demo->listen, "/echo");
    buffer_append(&out, SLICE("\n  # an event each second, passed on at once\n"));
    append_curl(&out, "-N ", demo->listen, "/events/sse");
    buffer_append(&out, SLICE("\n  # the engine resets the connection, weir says so\n"));
    append_curl(&out, "-i ", demo->listen, "/fail?how=reset");
    if (has_admin) {
        buffer_append(&out, SLICE("\n  # what weir counts, and how it stands\n"));
        append_curl(&out, "", demo->admin, "/metrics");
        append_curl(&out, "", demo->admin, "/status");
    }
    buffer_append(&out, SLICE("\nEnd it with Ctrl-C. From here on, a line for each request:\n\n"));
    fwrite(out.base, 1, out.len, stdout);
    fflush(stdout);
    buffer_deinit(&out);
}

void demo_close(struct demo *demo) {
    free(demo->config);
    free(demo->listen);
    free(demo->admin);
    *demo = (struct demo){0};
}

/* What it is told stands in its environment, as for every program that weir starts. */
int demo_engine(void) {
    const char *listen = getenv("WEIR_LISTEN");
    struct config_address address = {0};
    struct buffer guess = {0};
    char *why = NULL;
    int fd, status;

    if (!listen || address_parse(&address, slice_str(listen), ADDRESS_TO_LISTEN, &guess)) {
        fprintf(stderr, "weir engine: this is started by weir demo, not by hand\n");
        buffer_deinit(&guess);
        return EXIT_UNUSABLE;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "weir-engine");
    log_leave_out_time();
    if (listen_open(&address, &fd, 1, &why) != 0) {
        fprintf(stderr, "weir engine: %s\n", why);
        status = 1;
    } else {
        status = run_engine(fd);
        close(fd);
    }
    free(why);
    address_deinit(&address);
    return status;
}

static int run_engine(int fd) {
    static struct origin origin; /* half a page of timer wheel: not for the stack */
    const struct origin_options options = {.name = "the demo engine", .visited = resource_open};
    int err = origin_open(&origin, &options);
    unsigned left;

    if (!err)
        err = origin_listen(&origin, fd);
    if (err) {
        log_error("cannot start the demo engine: %s", strerror(-err));
        return 1;
    }
    left = origin_run(&origin);
    if (left > 0)
        log_error("the demo engine has left %u handles open", left);
    return left > 0;
}

static int read_arguments(struct demo *demo, int argc, char **argv) {
    const struct {
        const char *name;
        char **value;
    } options[] = {{"--listen", &demo->listen}, {"--admin", &demo->admin}};
    int status;

    demo->listen = xstrdup(DEFAULT_LISTEN);
    demo->admin = xstrdup(DEFAULT_ADMIN);
    for (int i = 0; i < argc; i++) {
        size_t j = 0, len = strcspn(argv[i], "=");
        const char *value = argv[i][len] ? argv[i] + len + 1 : NULL;

        while (j < 2 && !slice_equal(slice_of(argv[i], len), slice_str(options[j].name)))
            j++;
        if (j == 2) {
            fprintf(stderr, "weir demo: unexpected '%s'; see weir demo --help\n", argv[i]);
            return EXIT_UNUSABLE;
        }
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value) {
            fprintf(stderr, "weir demo: %s needs an address; see weir demo --help\n",
                    options[j].name);
            return EXIT_UNUSABLE;
        }
        free(*options[j].value);
        *options[j].value = xstrdup(value);
    }
    status = check_address("--listen", demo->listen);
    if (!status && strcmp(demo->admin, OFF) != 0)
        status = check_address("--admin", demo->admin);
    return status;
}

/* Before anything is started: that it is an address, and that nobody has it. */
static int check_address(const char *option, const char *text) {
    struct config_address address = {0};
    struct buffer guess = {0};
    const char *expected = address_parse(&address, slice_str(text), ADDRESS_TO_LISTEN, &guess);
    char *why = NULL;
    int fd, status = EXIT_UNUSABLE;

    if (expected) {
        fprintf(stderr, "weir demo: %s: found '%s', expected %s%s%.*s%s\n", option, text, expected,
                guess.len ? "; did you mean \"" : "", SLICE_ARG(buffer_slice(&guess)),
                guess.len ? "\"?" : "");
    } else if (listen_open(&address, &fd, 1, &why) != 0) {
        fprintf(stderr, "weir demo: %s, with %s ADDRESS\n", why, option);
    } else {
        status = 0;
        close(fd);
        if (address.kind == ADDRESS_UNIX)
            unlink(((const struct sockaddr_un *)&address.sockaddr)->sun_path);
    }
    free(why);
    buffer_deinit(&guess);
    address_deinit(&address);
    return status;
}

/* A free port of the loopback interface, for the engine to bind a moment later. */
static int find_port(unsigned *port) {
    struct config_address address = {.kind = ADDRESS_INET,
                                     .text = (char *)"127.0.0.1:0",
                                     .sockaddr_len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *in = (struct sockaddr_in *)&address.sockaddr;
    socklen_t len = sizeof *in;
    char *why = NULL;
    int fd;

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listen_open(&address, &fd, 1, &why) != 0) {
        fprintf(stderr, "weir demo: engine: %s\n", why);
        free(why);
        return EXIT_UNUSABLE;
    }
    getsockname(fd, (struct sockaddr *)in, &len);
    *port = ntohs(in->sin_port);
    close(fd);
    return 0;
}

/* Who reads the greeting may type at once. In vain for a while: the log says why then. */
static void await_engine(unsigned port) {
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timespec look = {0, START_LOOK_NS};
    int64_t until_ns = clock_now_ns() + START_MAX_NS;
    bool is_there = false;

    while (!is_there && clock_now_ns() < until_ns) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        is_there = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
        if (fd >= 0)
            close(fd);
        if (!is_there)
            nanosleep(&look, NULL);
    }
}

static char *make_config(const struct demo *demo, const char *binary) {
    struct buffer out = {0};

    /* Whoever presses Ctrl-C is not to wait half a minute for an event stream in another terminal.
     */
    buffer_append(&out, SLICE("[server]\ndrain = { shutdown = \"5s\" }\n\n[admin]\nlisten = "));
    buffer_append_json(&out, slice_str(demo->admin));
    buffer_append(&out, SLICE("\n\n[log]\naccess = \"stderr\"\n\n"
                              "[[listener]]\nname = \"http\"\nlisten = "));
    buffer_append_json(&out, slice_str(demo->listen));
    buffer_printf(&out,
                  "\n\n[[pipeline]]\nname = \"engine\"\nendpoints = [\"127.0.0.1:%u\"]\n"
                  "deadline = \"70s\"\n\n[pipeline.process]\ncommand = [",
                  demo->port);
    buffer_append_json(&out, slice_str(binary));
    buffer_printf(&out,
                  ", \"engine\"]\nlimits = { fds = %d }\n\n"
                  "[[route]]\npipeline = \"engine\"\n\n"
                  "[[route]]\nmatch = { path = \"/fail\" }\npipeline = \"engine\"\n"
                  "deadline = \"5s\"\n",
                  ENGINE_FDS);
    /* Those that take as long as their clients like. */
    for (size_t i = 0; i < 3; i++)
        buffer_printf(&out,
                      "\n[[route]]\nmatch = { path = \"%s\" }\npipeline = \"engine\"\n"
                      "stream = true\n",
                      (const char *[]){"/stream", "/bytes", "/upload"}[i]);
    buffer_append_char(&out, '\0');
    return out.base;
}

static void append_curl(struct buffer *out, const char *options, const char *address,
                        const char *path) {
    bool is_quoted = strchr(path, '?') != NULL;

    buffer_printf(out, "  curl %s", options);
    if (is_unix(address))
        buffer_printf(out, "--unix-socket %s ", address + 5);
    if (is_quoted)
        buffer_append_char(out, '\'');
    append_url(out, address, path);
    buffer_append(out, is_quoted ? SLICE("'\n") : SLICE("\n"));
}

/* An address to listen on as one to ask. */
static void append_url(struct buffer *out, const char *address, const char *path) {
    const char *port = strrchr(address, ':');

    if (is_unix(address))
        buffer_printf(out, "http://localhost%s", path);
    else if (port == address || strncmp(address, "0.0.0.0:", 8) == 0)
        buffer_printf(out, "http://127.0.0.1%s%s", port, path);
    else if (strncmp(address, "[::]:", 5) == 0)
        buffer_printf(out, "http://[::1]%s%s", port, path);
    else
        buffer_printf(out, "http://%s%s", address, path);
}

static bool is_unix(const char *address) {
    return strncmp(address, "unix:", 5) == 0;
}
