#include "calls_world.h"

#include "handler/trap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct world world;
unsigned loops = 1;
unsigned done;

static enum config_isolation isolation;            /* of all handlers */
static char gate[] = "/tmp/weir-gate-XXXXXX/open"; /* what "wait" waits for */

void open_gate(void) {
    FILE *file = fopen(gate, "w");

    assert_non_null(file);
    fclose(file);
}

void begin(const char *plugin, unsigned threads, unsigned handlers, int64_t timeout_ns,
           unsigned queue) {
    static char path[512];
    char *why = NULL;

    snprintf(path, sizeof path, "%s/%s.so", PLUGINS, plugin);
    memset(&world, 0, sizeof world);
    done = 0;
    unlink(gate);
    for (unsigned i = 0; i < 2; i++)
        world.handlers[i] = (struct config_handler){
            .name = (char *)(uintptr_t)(i ? "second" : "first"),
            .plugin = path,
            .timeout_ns = timeout_ns,
            .fault = {.quarantine_share = 0.5, .min_calls = 4, .window_ns = NS_PER_S * 60},
            .hold_ns = NS_PER_S * 60,
            .isolation = isolation,
            .process = {.memory = 512 << 20, .cpu_ns = NS_PER_S},
            .queue = queue,
            .config = (char *)(uintptr_t) "{}",
        };
    world.config = (struct config){.server = {.handler_threads = threads, .handler_loss = 64 << 20},
                                   .handlers = world.handlers,
                                   .handler_count = handlers};
    if (handlers_prepare(
            &world.all,
            &(struct handlers_options){.config = &world.config, .loops = loops, .cells_fd = -1},
            &why) ||
        handlers_start(world.all, &why))
        fail_msg("%s", why);
    assert_int_equal(loop_open(&world.loop, 0), 0);
    world.desk = handler_desk_open(world.all, &world.loop);
}

void end(void) {
    if (world.desk)
        handler_desk_close(world.desk);
    handlers_close(world.all);
    assert_int_equal(finish_loop(&world.loop), 0);
    assert_int_equal(world.loop.wheel.running, 0);
}

static void on_done(struct call *call, void *ctx) {
    const struct call_answer *answer = call_answer(call);
    struct asked *asked = ctx;

    asked->is_done = true;
    asked->order = done++;
    asked->outcome = answer->outcome;
    asked->edits = answer->edit_count;
    asked->content = answer->content.len;
    for (size_t i = 0; i < answer->content.len; i++)
        assert_int_equal(answer->content.base[i], 'c');
    for (unsigned i = 0; i < answer->edit_count; i++)
        if (slice_equal(answer->edits[i].name, SLICE("x-count")))
            snprintf(asked->count, sizeof asked->count, "%.*s", SLICE_ARG(answer->edits[i].value));
    call_free(call);
}

void ask_at(struct handler_desk *desk, struct asked *asked, size_t handler, const char *what) {
    struct field fields[] = {{SLICE("x-fault"), slice_str(what), FIELD_OTHER, false}};
    const struct request_head head = {
        .version = HTTP_1_1,
        .method_text = SLICE("GET"),
        .path = SLICE("/"),
        .fields = {fields, what ? 1 : 0, 1},
    };
    const struct call_input input = {
        .handler = handler, .request = &head, .request_id = SLICE("some-id")};

    memset(asked, 0, sizeof *asked);
    asked->call = call_submit(desk, &input, on_done, asked);
}

void ask(struct asked *asked, size_t handler, const char *what) {
    ask_at(world.desk, asked, handler, what);
}

unsigned queued_of(size_t handler) {
    unsigned queued;

    pthread_mutex_lock(&world.all->lock);
    queued = world.all->list[handler].queued_count;
    pthread_mutex_unlock(&world.all->lock);
    return queued;
}

bool is_running(unsigned running, unsigned queued) {
    bool is_so;

    pthread_mutex_lock(&world.all->lock);
    is_so = world.all->list[0].running == running && world.all->list[0].queued_count == queued;
    pthread_mutex_unlock(&world.all->lock);
    return is_so;
}

int in_process(void **state) {
    isolation = ISOLATION_PROCESS;
    return 0;
}

int in_thread(void **state) {
    isolation = ISOLATION_THREAD;
    return 0;
}

int make_gate(void **state) {
    char *name = strrchr(gate, '/');

    *name = '\0';
    if (!mkdtemp(gate))
        return -1;
    *name = '/';
    return setenv("WEIR_TEST_GATE", gate, 1);
}

int remove_gate(void **state) {
    unlink(gate);
    *strrchr(gate, '/') = '\0';
    return rmdir(gate);
}
