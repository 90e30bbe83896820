/* JSON-RPC messages. Invariants: the parts of a message lie in it; with other ids in their places,
 * and written on one line, it is the same message with these; jansson takes for JSON whatever is
 * taken for a message (numbers beyond its range and halves of surrogate pairs excepted). */
#include "mcp/lines.h"
#include "mcp/message.h"

#include <assert.h>
#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(const struct message *m, struct slice part) {
    assert(!part.base ||
           (part.base >= m->text.base && part.base + part.len <= m->text.base + m->text.len));
}

static void check_with_jansson(struct slice text) {
    json_error_t error;
    json_t *all = json_loadb(text.base, text.len,
                             JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &error);

    assert(all || strstr(error.text, "too big") || strstr(error.text, "overflow") ||
           strstr(error.text, "Unicode"));
    json_decref(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = slice_of((const char *)data, size);
    struct buffer written = {0};
    struct id_finder finder = {0};
    struct message m, again;
    const char *why;

    if (message_read(&m, text, 32, &why)) {
        assert(why);
        return 0;
    }
    check_part(&m, m.id);
    check_part(&m, m.method);
    check_part(&m, m.meta_token);
    check_part(&m, m.request_id);
    check_with_jansson(m.text);
    message_write(&written, &m,
                  (const struct message_edit[]){{m.meta_token, SLICE("71")}, {m.id, SLICE("72")}},
                  2);
    assert(memchr(written.base, '\n', written.len) == written.base + written.len - 1);
    assert(!message_read(&again, buffer_slice(&written), 32, &why));
    assert(again.kind == m.kind);
    assert(!m.id.base || slice_equal(again.id, SLICE("72")));
    assert(!m.meta_token.base || slice_equal(again.meta_token, SLICE("71")));
    assert(slice_equal(again.method, m.method));
    assert(slice_equal(again.token, m.token));
    id_finder_see(&finder, buffer_slice(&written));
    buffer_deinit(&written);
    return 0;
}
