/* The pages of the admin plane. */
#include "admin/page.h"

#include "base/log.h"
#include "metrics/process.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_JSON "application/json"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"

static const char *const health_names[] = {"starting", "live", "draining", "wedged"};

static void make_index(struct page *page);
static void make_metrics(struct page *page, const struct admin_options *options);
static void make_health(struct page *page, const struct admin_options *options, int64_t uptime_ns);
static void make_ready(struct page *page, const struct admin_options *options);
static json_t *ask_status(const struct admin_options *options, int64_t uptime_ns);
static enum admin_health ask_health(const struct admin_options *options);
static void append_json(struct buffer *out, json_t *json);

void page_make(struct page *page, const struct admin_options *options, int64_t uptime_ns,
               struct slice path) {
    *page = (struct page){.status = 200, .reason = "OK", .type = TYPE_TEXT};
    if (slice_equal(path, SLICE("/metrics"))) {
        make_metrics(page, options);
    } else if (slice_equal(path, SLICE("/healthz"))) {
        make_health(page, options, uptime_ns);
    } else if (slice_equal(path, SLICE("/readyz"))) {
        make_ready(page, options);
    } else if (slice_equal(path, SLICE("/status"))) {
        page->type = TYPE_JSON;
        append_json(&page->content, ask_status(options, uptime_ns));
    } else if (slice_equal(path, SLICE("/"))) {
        make_index(page);
    } else {
        page->status = 404;
        page->reason = "Not Found";
        buffer_append(&page->content, SLICE("no such page; see /\n"));
    }
}

static void make_index(struct page *page) {
    buffer_append(&page->content, SLICE("/metrics  counters and gauges for Prometheus\n"
                                        "/healthz  is the process alive, and how busy\n"
                                        "/readyz   does it take requests\n"
                                        "/status   listeners, pipelines, endpoints, handlers\n"
                                        "/reload   POST: read the configuration again\n"
                                        "/drain    POST: finish and end\n"
                                        "/reset    POST: start again what keeps dying\n"
                                        "/endpoint POST ?pipeline=NAME&endpoint=ADDRESS&"
                                        "do=drain|disable|enable\n"

                                        "/handler/reset?name=NAME\n"
                                        "          POST: end a handler's quarantine\n"));
}

static void make_metrics(struct page *page, const struct admin_options *options) {
    struct buffer *text = &page->content, label = {0};

    page->type = TYPE_METRICS;
    if (options->segment)
        metrics_render(options->segment, text);
    if (options->collect)
        options->collect(options->ctx, text);
    metrics_label(&label, "version", options->version);
    buffer_printf(text,
                  "# HELP weir_build_info The version that runs.\n"
                  "# TYPE weir_build_info gauge\n"
                  "weir_build_info{%.*s} 1\n"
                  "# HELP weir_log_dropped_total Log lines dropped.\n"
                  "# TYPE weir_log_dropped_total counter\n"
                  "weir_log_dropped_total %" PRIu64 "\n",
                  SLICE_ARG(buffer_slice(&label)), log_dropped());
    process_render(text);
    buffer_deinit(&label);
}

static void make_health(struct page *page, const struct admin_options *options, int64_t uptime_ns) {
    json_t *status = ask_status(options, uptime_ns);
    enum admin_health health = ask_health(options);

    page->type = TYPE_JSON;
    if (health == ADMIN_STARTING || health == ADMIN_WEDGED) {
        page->status = 503;
        page->reason = "Service Unavailable";
    }
    json_object_del(status, "listeners");
    json_object_del(status, "pipelines");
    json_object_del(status, "handlers");
    append_json(&page->content, status);
}

static void make_ready(struct page *page, const struct admin_options *options) {
    enum admin_health health = ask_health(options);

    if (health != ADMIN_LIVE) {
        page->status = 503;
        page->reason = "Service Unavailable";
    }
    buffer_printf(&page->content, "%s\n", health_names[health]);
}

static json_t *ask_status(const struct admin_options *options, int64_t uptime_ns) {
    json_t *status = json_object(), *asked = options->status ? options->status(options->ctx) : NULL;
    struct process_figures process;

    json_object_set_new(status, "version", json_string(options->version));
    json_object_set_new(status, "pid", json_integer(getpid()));
    json_object_set_new(status, "uptime_s", json_integer(uptime_ns / NS_PER_S));
    json_object_set_new(status, "state", json_string(health_names[ask_health(options)]));
    if (process_look(&process))
        json_object_set_new(
            status, "process",
            json_pack("{s:I, s:I, s:I}", "resident_bytes", (json_int_t)process.resident_bytes,
                      "threads", (json_int_t)process.threads, "fds", (json_int_t)process.open_fds));
    json_object_update_missing(status, asked);
    json_decref(asked);
    return status;
}

static enum admin_health ask_health(const struct admin_options *options) {
    return options->health ? options->health(options->ctx) : ADMIN_LIVE;
}

/* Frees @json. */
static void append_json(struct buffer *out, json_t *json) {
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(6));

    buffer_append(out, slice_str(text));
    buffer_append_char(out, '\n');
    free(text);
    json_decref(json);
}
