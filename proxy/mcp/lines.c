#include "mcp/lines.h"

#include <ctype.h>

static void see(struct id_finder *finder, char c);
static void see_in_string(struct id_finder *finder, char c);

bool lines_next(struct lines *lines, struct slice *in, struct lines_item *line) {
    const char *end = in->len > 0 ? memchr(in->base, '\n', in->len) : NULL;
    struct slice part = slice_of(in->base, end ? (size_t)(end - in->base) : in->len);

    if (lines->is_given)
        lines->held.len = 0;
    lines->is_given = false;
    *in = slice_skip(*in, part.len + (end != NULL));
    *line = (struct lines_item){0};
    if (!lines->is_lost && lines->held.len + part.len > lines->max) {
        lines->is_lost = true;
        lines->finder = (struct id_finder){0};
        id_finder_see(&lines->finder, buffer_slice(&lines->held));
        lines->lost = lines->held.len;
        buffer_deinit(&lines->held);
        lines->held = (struct buffer){0};
    }
    if (lines->is_lost) {
        id_finder_see(&lines->finder, part);
        lines->lost += part.len;
        if (!end)
            return false;
        *line = (struct lines_item){.is_lost = true,
                                    .bytes = lines->lost,
                                    .has_id = lines->finder.is_found,
                                    .id = lines->finder.id};
        lines->is_lost = false;
        return true;
    }
    if (end && lines->held.len == 0) {
        line->text = part;
        return true;
    }
    buffer_append(&lines->held, part);
    if (!end)
        return false;
    line->text = buffer_slice(&lines->held);
    lines->is_given = true;
    return true;
}

void lines_deinit(struct lines *lines) {
    buffer_deinit(&lines->held);
}

void id_finder_see(struct id_finder *finder, struct slice bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        if (finder->is_in_string)
            see_in_string(finder, bytes.base[i]);
        else
            see(finder, bytes.base[i]);
    }
}

static void see_in_string(struct id_finder *finder, char c) {
    if (finder->is_escaped) {
        finder->is_escaped = false;
    } else if (c == '\\') {
        finder->is_escaped = true;
    } else if (c == '"') {
        finder->is_in_string = false;
        return;
    }
    if (finder->depth != 1)
        return;
    if (finder->len < sizeof finder->text)
        finder->text[finder->len] = c;
    finder->len++;
}

static void see(struct id_finder *finder, char c) {
    switch (c) {
    case '"':
        finder->is_in_string = true;
        finder->is_id_next = false; /* ours are numbers */
        if (finder->depth == 1)
            finder->len = 0;
        break;
    case '{':
    case '[':
        finder->depth++;
        break;
    case '}':
    case ']':
        finder->depth -= finder->depth > 0;
        break;
    case ':':
        finder->is_id_next = finder->depth == 1 && finder->len == 2 &&
                             memcmp(finder->text, "id", 2) == 0 && !finder->is_found;
        break;
    default:
        if (finder->is_id_next && isdigit((unsigned char)c)) {
            finder->id = finder->id * 10 + (uint64_t)(c - '0');
            finder->is_found = true;
        } else if (!isspace((unsigned char)c)) {
            finder->is_id_next = false;
        }
    }
}
