/* The errors of one file: an array kept sorted as they come. */
#include "config/errors.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_before(struct tomlc_position a, struct tomlc_position b);

void errors_add(struct errors *errors, struct tomlc_position at, const char *format, ...) {
    size_t place = errors->kept;
    va_list args;
    char *text;

    errors->count++;
    while (place > 0 && is_before(at, errors->list[place - 1].at))
        place--;
    if (place == ERRORS_MAX)
        return;
    if (errors->kept == ERRORS_MAX)
        free(errors->list[--errors->kept].text);
    memmove(&errors->list[place + 1], &errors->list[place],
            (errors->kept - place) * sizeof errors->list[0]);
    errors->kept++;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort(); /* out of memory */
    va_end(args);
    errors->list[place] = (struct error_entry){at, text};
}

void errors_finish(struct errors *errors, struct config_errors *to) {
    struct buffer all = {0};

    for (size_t i = 0; i < errors->kept; i++) {
        const struct error_entry *entry = &errors->list[i];

        buffer_printf(&all, "%s:", errors->name);
        if (entry->at.line > 0)
            buffer_printf(&all, "%u:%u:", entry->at.line, entry->at.column);
        buffer_printf(&all, " %s\n", entry->text);
        free(entry->text);
    }
    if (errors->count > errors->kept)
        buffer_printf(&all, "%s: and %zu more\n", errors->name, errors->count - errors->kept);
    if (errors->count > 0)
        buffer_append_char(&all, '\0');
    *to = (struct config_errors){.text = all.base, .count = errors->count};
    errors->count = errors->kept = 0;
}

void errors_quote(struct buffer *to, struct slice text) {
    size_t len = text.len;

    if (len > ERRORS_QUOTED_MAX) {
        len = ERRORS_QUOTED_MAX;
        while (((unsigned char)text.base[len] & 0xC0) == 0x80)
            len--; /* to the border of a character */
    }
    buffer_append_char(to, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.base[i];

        if (c < 0x20 || c == 0x7F)
            buffer_printf(to, "\\x%02x", c);
        else if (c == '"' || c == '\\')
            buffer_printf(to, "\\%c", c);
        else
            buffer_append_char(to, (char)c);
    }
    buffer_append(to, len < text.len ? SLICE("...\"") : SLICE("\""));
}

static bool is_before(struct tomlc_position a, struct tomlc_position b) {
    return a.line != b.line ? a.line < b.line : a.column < b.column;
}
