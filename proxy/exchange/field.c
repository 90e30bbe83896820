/* Fields: a growing array of lines, and the known names.
 *
 * A name is looked up among the few known ones of its length, eight bytes at a time. Setting the
 * bit that tells lower case from upper is enough to ignore case: of the bytes that a token may
 * have, only the two cases of a letter become the letter, and only '-' and digits become those. */
#include "exchange/field.h"

#include <string.h>

#define NAME_MAX_LEN 20
#define NAME_CASE UINT64_C(0x2020202020202020)

const struct slice field_names[FIELD_IDS] = {
    [FIELD_OTHER] = {"", 0},
#define X(id, text) [FIELD_##id] = {text, sizeof(text) - 1},
#include "exchange/field.def"
#undef X
};

/* The first id whose name has that length or more; ids are in the order of length. */
static const uint8_t first_of_length[NAME_MAX_LEN + 2] = {
    [0] = FIELD_TE,
    [1] = FIELD_TE,
    [2] = FIELD_TE,
    [3] = FIELD_AGE,
    [4] = FIELD_HOST,
    [5] = FIELD_ALLOW,
    [6] = FIELD_ACCEPT,
    [7] = FIELD_TRAILER,
    [8] = FIELD_FORWARDED,
    [9] = FIELD_FORWARDED,
    [10] = FIELD_USER_AGENT,
    [11] = FIELD_RETRY_AFTER,
    [12] = FIELD_CONTENT_TYPE,
    [13] = FIELD_AUTHORIZATION,
    [14] = FIELD_CONTENT_LENGTH,
    [15] = FIELD_X_FORWARDED_FOR,
    [16] = FIELD_CONTENT_ENCODING,
    [17] = FIELD_X_FORWARDED_PROTO,
    [18] = FIELD_PROXY_AUTHENTICATE,
    [19] = FIELD_PROXY_AUTHORIZATION,
    [20] = FIELD_SEC_WEBSOCKET_ACCEPT,
    [21] = FIELD_IDS,
};

static inline bool is_name(const char *text, const char *lower, size_t len);

enum field_id field_id_of(struct slice name) {
    if (name.len > NAME_MAX_LEN)
        return FIELD_OTHER;
    for (unsigned id = first_of_length[name.len]; id < first_of_length[name.len + 1]; id++)
        if (is_name(name.base, field_names[id].base, name.len))
            return (enum field_id)id;
    return FIELD_OTHER;
}

void fields_reserve(struct fields *fields, struct arena *arena, uint32_t count) {
    struct field *list;

    if (count <= fields->cap)
        return;
    list = arena_alloc(arena, count * sizeof *list);
    if (fields->count > 0)
        memcpy(list, fields->list, fields->count * sizeof *list);
    fields->list = list;
    fields->cap = count;
}

const struct field *fields_seek(const struct fields *fields, enum field_id id) {
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id == id)
            return &fields->list[i];
    return NULL;
}

const struct field *fields_find_next(const struct fields *fields, const struct field *after) {
    for (const struct field *at = after + 1; at < fields->list + fields->count; at++)
        if (after->id == FIELD_OTHER ? slice_equal_case(at->name, after->name)
                                     : at->id == after->id)
            return at;
    return NULL;
}

const struct field *fields_find_name(const struct fields *fields, struct slice name) {
    enum field_id id = field_id_of(name);

    if (id != FIELD_OTHER)
        return fields_find(fields, id);
    for (uint32_t i = 0; i < fields->count; i++)
        if (slice_equal_case(fields->list[i].name, name))
            return &fields->list[i];
    return NULL;
}

bool fields_list_seek(const struct fields *fields, enum field_id id, struct slice token) {
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->list[i].id == id && slice_list_has(fields->list[i].value, token))
            return true;
    return false;
}

static uint64_t load8(const char *from) {
    uint64_t word;

    memcpy(&word, from, 8);
    return word;
}

static uint32_t load4(const char *from) {
    uint32_t word;

    memcpy(&word, from, 4);
    return word;
}

/* Words at both ends overlap, so that there is no tail. */
static inline bool is_name(const char *text, const char *lower, size_t len) {
    if (len >= 8)
        return (load8(text) | NAME_CASE) == load8(lower) &&
               (len <= 16 || (load8(text + 8) | NAME_CASE) == load8(lower + 8)) &&
               (load8(text + len - 8) | NAME_CASE) == load8(lower + len - 8);
    if (len >= 4)
        return (load4(text) | (uint32_t)NAME_CASE) == load4(lower) &&
               (load4(text + len - 4) | (uint32_t)NAME_CASE) == load4(lower + len - 4);
    for (size_t i = 0; i < len; i++)
        if ((text[i] | 0x20) != lower[i])
            return false;
    return true;
}
