/* One pass over the text with just enough of TOML's lexical rules to know strings and comments from
 * keys. Where the text is broken the pass may lose its way, but toml++ ends at that place anyway.
 */
#include "scan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum scan_state { SCAN_PLAIN, SCAN_COMMENT, SCAN_STRING, SCAN_LONG_STRING };

struct scan {
    const char *next;
    const char *end;
    struct tomlc_position at;
    enum scan_state state;
    char quote;     /* that ends the string */
    unsigned parts; /* of the key that may be going on, less one */
};

static size_t utf8_length(const unsigned char *at, size_t left);
static size_t step(struct scan *scan);
static size_t step_plain(struct scan *scan);
static size_t step_string(struct scan *scan);
static bool is_tripled(const struct scan *scan);
static int refuse(struct tomlc_error *error, struct tomlc_position at, const char *text);

int tomlc_scan(const char *text, size_t len, struct tomlc_error *error) {
    struct scan scan = {.next = text, .end = text + len, .at = {1, 1}};

    if (len > TOMLC_SIZE_MAX)
        return refuse(error, scan.at, "more than 1 MiB of text");
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        scan.next += 3; /* a byte order mark; toml++ does not count it either */

    while (scan.next < scan.end) {
        size_t length = utf8_length((const unsigned char *)scan.next, scan.end - scan.next);
        size_t taken = length > 1 ? length : step(&scan);

        if (length == 0)
            return refuse(error, scan.at, "a byte that is not UTF-8");
        if (*scan.next == '\0')
            return refuse(error, scan.at, "a NUL byte");
        if (scan.parts >= TOMLC_KEY_PARTS_MAX)
            return refuse(error, scan.at, "a key of more than 32 parts");
        scan.at.column += length > 1 ? 1 : (uint32_t)taken;
        if (*scan.next == '\n')
            scan.at = (struct tomlc_position){scan.at.line + 1, 1};
        scan.next += taken;
    }
    return 0;
}

void tomlc_scan_back_to_key(const char *text, size_t len, struct tomlc_position *at) {
    struct tomlc_position now = {1, 1};
    struct tomlc_position key = now;
    bool is_start = true;

    for (size_t i = 0; i < len && (now.line < at->line || now.column < at->column); i++) {
        if (is_start && text[i] != ' ' && text[i] != '\t') {
            key = now;
            is_start = false;
        }
        if (text[i] == '\n' || text[i] == '{' || text[i] == ',')
            is_start = true;
        if (text[i] == '\n')
            now = (struct tomlc_position){now.line + 1, 1};
        else if (((unsigned char)text[i] & 0xC0) != 0x80)
            now.column++;
    }
    if (key.line == at->line)
        *at = key;
}

/* Bytes of the character at @at (RFC 3629), 0 when it is none. */
static size_t utf8_length(const unsigned char *at, size_t left) {
    unsigned char first = at[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;

    if (length == 0 || first > 0xF4 || length > left)
        return 0;
    if (first == 0xE0)
        low = 0xA0; /* overlong */
    else if (first == 0xED)
        high = 0x9F; /* surrogates */
    else if (first == 0xF0)
        low = 0x90; /* overlong */
    else if (first == 0xF4)
        high = 0x8F; /* above U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        if (at[i] < low || at[i] > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

/* Takes the ASCII character in front and answers how many bytes that used up: more only where
 * characters belong together. */
static size_t step(struct scan *scan) {
    if (scan->state == SCAN_PLAIN)
        return step_plain(scan);
    if (scan->state != SCAN_COMMENT)
        return step_string(scan);
    if (*scan->next == '\n')
        scan->state = SCAN_PLAIN;
    return 1;
}

static size_t step_plain(struct scan *scan) {
    char c = *scan->next;

    if (c == '"' || c == '\'') {
        scan->quote = c;
        scan->state = is_tripled(scan) ? SCAN_LONG_STRING : SCAN_STRING;
        return scan->state == SCAN_LONG_STRING ? 3 : 1;
    }
    if (c == '#')
        scan->state = SCAN_COMMENT;
    if (c == '.')
        scan->parts++;
    else if (strchr("\n#=,[]{}", c))
        scan->parts = 0;
    return 1;
}

static size_t step_string(struct scan *scan) {
    char c = *scan->next;
    size_t taken = 1;

    if (c == '\\' && scan->quote == '"' && scan->end - scan->next > 1 &&
        (scan->next[1] == '"' || scan->next[1] == '\\'))
        return 2;
    if (scan->state == SCAN_STRING && (c == scan->quote || c == '\n')) {
        scan->state = SCAN_PLAIN;
    } else if (scan->state == SCAN_LONG_STRING && c == scan->quote && is_tripled(scan)) {
        /* Up to two more quotes belong to the content. */
        for (taken = 3; taken < 5 && scan->next + taken < scan->end; taken++)
            if (scan->next[taken] != c)
                break;
        scan->state = SCAN_PLAIN;
    }
    return taken;
}

static bool is_tripled(const struct scan *scan) {
    return scan->end - scan->next >= 3 && scan->next[1] == *scan->next &&
           scan->next[2] == *scan->next;
}

static int refuse(struct tomlc_error *error, struct tomlc_position at, const char *text) {
    error->at = at;
    snprintf(error->text, sizeof error->text, "%s", text);
    return -EINVAL;
}
