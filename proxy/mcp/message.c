/* See message.h. Three levels of objects are looked into (the message, params, _meta), everything
 * else is stepped over by one loop with a stack of brackets. */
#include "mcp/message.h"

#include "base/utf8.h"

#include <ctype.h>
#include <stdlib.h>

struct scan {
    const char *at, *end;
    unsigned depth; /* containers that are open around `at`, those of scan_value() excepted */
    unsigned depth_max;
    const char *why; /* static; NULL: nothing is wrong so far */
    bool is_json;    /* what is wrong is what it says, not how it is written */
};

static void read_other(struct scan *s);
static bool read_top(struct scan *s, struct message *m, bool *is_error);
static bool read_params(struct scan *s, struct message *m);
static bool read_meta(struct scan *s, struct message *m);
static bool open_object(struct scan *s);
static bool next_member(struct scan *s, bool *is_first, struct slice *key);
static bool take(struct scan *s, struct slice *value, const char *twice);
static bool take_text(struct scan *s, struct slice *text);
static bool scan_value(struct scan *s);
static bool scan_scalar(struct scan *s);
static bool scan_string(struct scan *s);
static bool scan_escape(struct scan *s);
static bool scan_number(struct scan *s);
static bool scan_digits(struct scan *s);
static bool scan_key(struct scan *s);
static bool next_is(struct scan *s, char c);
static void skip_space(struct scan *s);
static bool fail(struct scan *s, const char *why);
static bool refuse(struct scan *s, const char *why);
static bool is_id(struct slice value);
static const char *judge(struct message *m, bool has_error);

static const char too_deep[] = "it is nested too deeply";

enum message_fault message_read(struct message *message, struct slice text, unsigned depth_max,
                                const char **why) {
    struct scan s = {.depth_max = depth_max};
    bool has_error = false;

    if (text.len == 0)
        text = SLICE("");
    s.at = text.base;
    s.end = text.base + text.len;
    *message = (struct message){0};
    skip_space(&s);
    text = slice_of(s.at, (size_t)(s.end - s.at));
    while (text.len > 0 && isspace((unsigned char)text.base[text.len - 1]))
        text.len--;
    message->text = text;
    s.end = s.at + text.len;
    if (s.at < s.end && *s.at == '[') {
        *why = "a batch, which is not taken: send each message alone";
        return MESSAGE_INVALID_REQUEST;
    }
    if (!utf8_is_valid(text))
        fail(&s, "it is not UTF-8");
    else if (s.at == s.end || *s.at != '{')
        read_other(&s);
    else if (read_top(&s, message, &has_error) && s.at != s.end)
        fail(&s, "something is behind the message");
    if (s.why) {
        *why = s.why;
        return s.is_json ? MESSAGE_INVALID_REQUEST : MESSAGE_PARSE_ERROR;
    }
    *why = judge(message, has_error);
    return *why ? MESSAGE_INVALID_REQUEST : MESSAGE_SOUND;
}

void message_write(struct buffer *to, const struct message *message,
                   const struct message_edit *edits, size_t count) {
    const char *at = message->text.base, *end = at + message->text.len;
    size_t begin = to->len;

    for (size_t done = 0; done < count; done++) {
        const struct message_edit *next = NULL;

        for (size_t i = 0; i < count; i++)
            if (edits[i].part.base >= at && (!next || edits[i].part.base < next->part.base))
                next = &edits[i];
        if (!next)
            break;
        buffer_append(to, slice_of(at, (size_t)(next->part.base - at)));
        buffer_append(to, next->instead);
        at = next->part.base + next->part.len;
    }
    buffer_append(to, slice_of(at, (size_t)(end - at)));
    /* Inside strings there are none. */
    for (size_t i = begin; i < to->len; i++)
        if (to->base[i] == '\n' || to->base[i] == '\r')
            to->base[i] = ' ';
    buffer_append_char(to, '\n');
}

bool message_text_is(struct slice text, const char *plain) {
    size_t at = 0;

    for (; *plain; plain++) {
        char c = at < text.len ? text.base[at] : '\0';

        if (c == '\\' && at + 5 < text.len && text.base[at + 1] == 'u') {
            char digits[5] = {text.base[at + 2], text.base[at + 3], text.base[at + 4],
                              text.base[at + 5], '\0'};

            c = strtol(digits, NULL, 16) == *plain ? *plain : '\0';
            at += 5;
        } else if (c == '\\' && at + 1 < text.len) {
            c = text.base[++at];
            if (c != '/')
                return false; /* the others are in no name */
        }
        if (c != *plain || at >= text.len)
            return false;
        at++;
    }
    return at == text.len;
}

void message_write_error(struct buffer *to, struct slice id, enum message_fault fault,
                         const char *words, struct slice detail) {
    struct buffer text = {0};

    buffer_append(&text, slice_str(words));
    buffer_append(&text, detail);
    buffer_printf(to, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":%d,\"message\":",
                  id.base ? (int)id.len : 4, id.base ? id.base : "null", (int)fault);
    buffer_append_json(to, buffer_slice(&text));
    buffer_append(to, SLICE("}}"));
    buffer_deinit(&text);
}

static const char *judge(struct message *m, bool has_error) {
    bool has_id = m->id.base != NULL;

    if (has_id && m->id.len > MESSAGE_ID_MAX) {
        m->id = SLICE_NONE;
        return "its id is too long";
    }
    if (m->meta_token.len > MESSAGE_ID_MAX || m->token.len > MESSAGE_ID_MAX)
        return "its progress token is too long";
    if (!is_id(m->meta_token))
        m->meta_token = SLICE_NONE; /* null, most likely: no progress is wanted */
    if (m->method.base) {
        m->kind = has_id ? MESSAGE_REQUEST : MESSAGE_NOTIFICATION;
        if (m->result.base || has_error)
            return "it has a method, and a result or an error too";
        if (has_id && !is_id(m->id)) {
            m->id = SLICE_NONE;
            return "its id is neither a string nor a number";
        }
        return NULL;
    }
    m->kind = MESSAGE_RESPONSE;
    if (!has_id)
        return "it has no id, and no method";
    if ((m->result.base != NULL) == has_error)
        return "it has no method, and not one of result and error";
    return NULL;
}

static bool is_id(struct slice value) {
    return value.len > 0 &&
           (value.base[0] == '"' || value.base[0] == '-' || isdigit((unsigned char)value.base[0]));
}

/* No message: JSON, or not even that. */
static void read_other(struct scan *s) {
    s->is_json = scan_value(s) && s->at == s->end;
    s->why = "it is not a JSON object";
}

static bool read_top(struct scan *s, struct message *m, bool *is_error) {
    struct slice key, version = SLICE_NONE, error = SLICE_NONE, params = SLICE_NONE;
    bool is_first = true, is_good = open_object(s);

    while (is_good && next_member(s, &is_first, &key)) {
        if (message_text_is(key, "id")) {
            is_good = take(s, &m->id, "it has two ids");
        } else if (message_text_is(key, "method")) {
            is_good = !m->method.base ? take_text(s, &m->method) : refuse(s, "it has two methods");
            if (is_good && !m->method.base)
                is_good = refuse(s, "its method is no string");
        } else if (message_text_is(key, "params")) {
            is_good = params.base ? refuse(s, "it has params twice") : true;
            params = slice_of(s->at, 1);
            is_good = is_good && read_params(s, m);
        } else if (message_text_is(key, "result")) {
            is_good = take(s, &m->result, "it has two results");
        } else if (message_text_is(key, "error")) {
            is_good = take(s, &error, "it has two errors");
        } else if (message_text_is(key, "jsonrpc")) {
            is_good = take(s, &version, "it has jsonrpc twice");
        } else {
            is_good = scan_value(s);
        }
    }
    /* Some say what they have not. */
    *is_error = error.base && !slice_equal(error, SLICE("null"));
    if (*is_error && slice_equal(m->result, SLICE("null")))
        m->result = SLICE_NONE;
    if (!s->why && !slice_equal(version, SLICE("\"2.0\"")))
        refuse(s, "it has no \"jsonrpc\": \"2.0\"");
    return !s->why;
}

static bool read_params(struct scan *s, struct message *m) {
    struct slice key, meta = SLICE_NONE;
    bool is_first = true, is_good;

    if (s->at == s->end || *s->at != '{')
        return scan_value(s);
    is_good = open_object(s);
    while (is_good && next_member(s, &is_first, &key)) {
        if (message_text_is(key, "_meta")) {
            is_good = meta.base ? refuse(s, "it has _meta twice") : true;
            meta = slice_of(s->at, 1);
            is_good = is_good && read_meta(s, m);
        } else if (message_text_is(key, "progressToken")) {
            is_good = take(s, &m->token, "it has two progress tokens");
        } else if (message_text_is(key, "requestId")) {
            is_good = take(s, &m->request_id, "it has two request ids");
        } else if (message_text_is(key, "uri")) {
            is_good = take_text(s, &m->uri);
        } else if (message_text_is(key, "level")) {
            is_good = take_text(s, &m->level);
        } else {
            is_good = scan_value(s);
        }
    }
    return !s->why;
}

static bool read_meta(struct scan *s, struct message *m) {
    struct slice key;
    bool is_first = true, is_good;

    if (s->at == s->end || *s->at != '{')
        return scan_value(s);
    is_good = open_object(s);
    while (is_good && next_member(s, &is_first, &key))
        is_good = message_text_is(key, "progressToken")
                      ? take(s, &m->meta_token, "it has two progress tokens")
                      : scan_value(s);
    return !s->why;
}

static bool open_object(struct scan *s) {
    s->at++;
    return ++s->depth <= s->depth_max || fail(s, too_deep);
}

/* To the value of the next member; or behind the object. @key without its quotes. */
static bool next_member(struct scan *s, bool *is_first, struct slice *key) {
    const char *from;

    if (next_is(s, '}')) {
        s->depth--;
        return false;
    }
    if (!*is_first && !next_is(s, ','))
        return fail(s, "a comma or a closing bracket is missing");
    *is_first = false;
    skip_space(s);
    from = s->at + 1;
    if (!scan_key(s))
        return false;
    *key = slice_of(from, 0);
    /* Back over the colon and what is around it, to the closing quote. */
    for (const char *to = s->at; to > from; to--) {
        if (to[-1] != '"')
            continue;
        key->len = (size_t)(to - 1 - from);
        break;
    }
    return true;
}

static bool take(struct scan *s, struct slice *value, const char *twice) {
    const char *from = s->at;

    if (value->base)
        return refuse(s, twice);
    if (!scan_value(s))
        return false;
    *value = slice_of(from, (size_t)(s->at - from));
    return true;
}

/* A value that is no string leaves @text as it is. */
static bool take_text(struct scan *s, struct slice *text) {
    const char *from = s->at;

    if (!scan_value(s))
        return false;
    if (*from == '"')
        *text = slice_of(from + 1, (size_t)(s->at - from) - 2);
    return true;
}

/* Steps over a value, white space in front of it included. */
static bool scan_value(struct scan *s) {
    char open[MESSAGE_DEPTH_MAX];
    unsigned depth = 0;

    do {
        bool is_empty = false;

        skip_space(s);
        if (s->at < s->end && (*s->at == '{' || *s->at == '[')) {
            if (s->depth + depth >= s->depth_max || depth == MESSAGE_DEPTH_MAX)
                return fail(s, too_deep);
            open[depth++] = *s->at++ == '{' ? '}' : ']';
            is_empty = next_is(s, open[depth - 1]);
            if (!is_empty) {
                if (open[depth - 1] == '}' && !scan_key(s))
                    return false;
                continue;
            }
            depth--;
        } else if (!scan_scalar(s)) {
            return false;
        }
        while (depth > 0 && next_is(s, open[depth - 1]))
            depth--;
        if (depth > 0 && !next_is(s, ','))
            return fail(s, "a comma or a closing bracket is missing");
        if (depth > 0 && open[depth - 1] == '}' && !scan_key(s))
            return false;
    } while (depth > 0);
    return true;
}

static bool scan_scalar(struct scan *s) {
    static const struct slice words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    struct slice rest = slice_of(s->at, (size_t)(s->end - s->at));

    if (rest.len > 0 && rest.base[0] == '"')
        return scan_string(s);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!slice_starts(rest, words[i]))
            continue;
        s->at += words[i].len;
        return true;
    }
    return scan_number(s);
}

static bool scan_string(struct scan *s) {
    for (s->at++; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            s->at++;
            return true;
        }
        if ((unsigned char)*s->at < 0x20)
            return fail(s, "a control character is in a string");
        if (*s->at == '\\' && !scan_escape(s))
            return false;
    }
    return fail(s, "a string has no end");
}

static bool scan_escape(struct scan *s) {
    s->at++;
    if (s->at == s->end || !memchr("\"\\/bfnrtu", *s->at, 9))
        return fail(s, "an escape is none");
    for (int i = 0; *s->at == 'u' && i < 4; i++)
        if (s->at + i + 1 >= s->end || !isxdigit((unsigned char)s->at[i + 1]))
            return fail(s, "an escape is none");
    if (*s->at == 'u')
        s->at += 4;
    return true;
}

static bool scan_number(struct scan *s) {
    bool is_zero;

    if (s->at < s->end && *s->at == '-')
        s->at++;
    is_zero = s->at < s->end && *s->at == '0';
    if (is_zero)
        s->at++;
    else if (!scan_digits(s))
        return false;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!scan_digits(s))
            return false;
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        return scan_digits(s);
    }
    return true;
}

static bool scan_digits(struct scan *s) {
    const char *from = s->at;

    while (s->at < s->end && isdigit((unsigned char)*s->at))
        s->at++;
    return s->at > from || fail(s, "a value is missing or none");
}

/* A key, the colon behind it, and white space around all. */
static bool scan_key(struct scan *s) {
    skip_space(s);
    if (s->at == s->end || *s->at != '"')
        return fail(s, "a key is missing");
    if (!scan_string(s))
        return false;
    if (!next_is(s, ':'))
        return fail(s, "a colon is missing");
    skip_space(s);
    return true;
}

/* Steps over @c and what white space is before it, if it comes next. */
static bool next_is(struct scan *s, char c) {
    skip_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static void skip_space(struct scan *s) {
    while (s->at < s->end && memchr(" \t\r\n", *s->at, 4))
        s->at++;
}

static bool fail(struct scan *s, const char *why) {
    if (!s->why)
        s->why = why;
    return false;
}

/* It is JSON as far as it was read, but no message. */
static bool refuse(struct scan *s, const char *why) {
    s->is_json = !s->why || s->is_json;
    return fail(s, why);
}
