/* The table of resources, and the index page that is made from it. */
#include "demo/resource.h"

static const struct resource *find(struct slice path);
static void index_open(struct visit *v);
static void healthz_open(struct visit *v);
static void append_curl(struct buffer *out, const char *curl, struct slice authority);

static const struct resource resources[] = {
    {"/", index_open, false, "curl @/", "this page"},
    {"/echo", echo_open, true, "curl -d 'hello' '@/echo?any=query'",
     "your request as the engine got it, as JSON: any method, up to 1 MiB of content"},
    {"/slow", slow_open, false, "curl '@/slow?ms=2000'", "answers after ms (1000, at most 60000)"},
    {"/stream", stream_open, false, "curl -N '@/stream?chunks=5&ms=500&bytes=64'",
     "chunked content that trickles: chunks (10, at most 100000) of bytes (64, at most 65536),\n"
     "one every ms (100, at most 60000)"},
    {"/bytes", bulk_open, false, "curl -o /dev/null '@/bytes?n=1073741824'",
     "n bytes (1048576, at most 1 GiB), as fast as you take them"},
    {"/upload", upload_open, true, "curl -T FILE @/upload",
     "reads content of any size and counts it"},
    {"/events/sse", events_open, false, "curl -N '@/events/sse?n=5&ms=500'",
     "server-sent events up to number n (0: without end), one every ms (1000); goes on behind\n"
     "Last-Event-ID"},
    {"/ws", websocket_open, true,
     "curl -N -i -m 3 -H 'Connection: upgrade' -H 'Upgrade: websocket' \\\n"
     "       -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: d2VpciBzYXlzIGhlbGxvIQ==' @/ws",
     "WebSocket: says what you say, up to 1 MiB at once; this shows the handshake, or try\n"
     "python3 -m websockets ws://.../ws"},
    {"/status/", status_open, false, "curl -i @/status/503", "any status from 200 to 599"},
    {"/fail", trouble_open, false, "curl -i '@/fail?how=reset'",
     "how=reset      resets the connection before it answers\n"
     "how=close      closes it without an answer\n"
     "how=truncate   answers with less content than it announces\n"
     "how=garbage    answers with a status line that is none\n"
     "how=hang       never answers"},
    {"/early", early_open, true, "curl -i -T FILE @/early",
     "answers before it has read the content"},
    {"/flaky", flaky_open, false, "curl -i '@/flaky?percent=30'",
     "503 for that share of the requests (50)"},
    {"/healthz", healthz_open, false, "curl @/healthz", "200"},
};

void resource_open(struct visit *v) {
    const struct resource *resource = find(v->path);

    if (!resource) {
        visit_discard(v);
        visit_say(v, 404, "nothing here; / lists what there is");
        return;
    }
    if (!resource->reads_content)
        visit_discard(v);
    resource->open(v);
}

static const struct resource *find(struct slice path) {
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        struct slice known = slice_str(resources[i].path);
        bool is_below = known.len > 1 && known.base[known.len - 1] == '/';

        if (is_below ? slice_starts(path, known) : slice_equal(path, known))
            return &resources[i];
    }
    return NULL;
}

static void index_open(struct visit *v) {
    struct buffer out = {0};

    buffer_append(&out, SLICE("The demo engine of weir. What it answers, and how to ask:\n"));
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        struct slice help = slice_str(resources[i].help);

        buffer_printf(&out, "\n%s\n", resources[i].path);
        while (help.len > 0) {
            const char *end = memchr(help.base, '\n', help.len);
            size_t len = end ? (size_t)(end - help.base) : help.len;

            buffer_printf(&out, "    %.*s\n", (int)len, help.base);
            help = slice_skip(help, end ? len + 1 : len);
        }
        append_curl(&out, resources[i].curl, v->x.request_head.authority);
    }
    visit_reply(v, 200, "text/plain; charset=utf-8", buffer_slice(&out));
    buffer_deinit(&out);
}

/* Such that it works from where the reader is: with the authority that was asked for. */
static void append_curl(struct buffer *out, const char *curl, struct slice authority) {
    buffer_append(out, SLICE("    $ "));
    for (; *curl; curl++) {
        if (*curl == '@')
            buffer_printf(out, "http://%.*s", SLICE_ARG(authority));
        else
            buffer_append_char(out, *curl);
    }
    buffer_append_char(out, '\n');
}

static void healthz_open(struct visit *v) {
    visit_say(v, 200, "ok");
}
