/* Fields (RFC 9110 section 5): one line of a head or a trailer section, and the names that weir
 * itself reads or writes, interned so that looking one up is an integer comparison. */
#pragma once

#include "base/arena.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_id {
    FIELD_OTHER, /* any name that weir has no interest in */
#define X(id, name) FIELD_##id,
#include "exchange/field.def"
#undef X
    FIELD_IDS
};

struct field {
    struct slice name;  /* as received, any case */
    struct slice value; /* without surrounding OWS */
    enum field_id id;
    bool is_secret; /* HPACK's never-indexed (RFC 7541 section 7.1.3): passed on as that */
};

/* Fields in order of arrival. The array grows in the arena, up to the codec's max_fields. */
struct fields {
    struct field *list; /* borrowed: arena */
    uint32_t count;
    uint32_t cap;
    uint64_t ids; /* a bit per enum field_id: 0 where none of the list has it */
};

_Static_assert(FIELD_IDS <= 64, "a bit for each id");

#define FIELDS_CAP_MIN 8 /* of a list that grows by itself */

extern const struct slice field_names[FIELD_IDS];

/* The lower-case name of a known id; "" for FIELD_OTHER. */
static inline struct slice field_name(enum field_id id) {
    return field_names[id];
}

/* @name is a token in any case (RFC 9110 section 5.6.2). */
enum field_id field_id_of(struct slice name);

/* The bit of @id in struct fields. */
#define FIELD_BIT(id) (UINT64_C(1) << (id))

/* Might one of those whose bits are in @ids be there? That it is not costs nothing to tell. */
static inline bool fields_may_have(const struct fields *fields, uint64_t ids) {
    return (fields->ids & ids) != 0;
}

/* Makes room for @count fields in all. */
void fields_reserve(struct fields *fields, struct arena *arena, uint32_t count);
/* Appends; the slices must live as long as the arena. */
static inline void fields_add(struct fields *fields, struct arena *arena, enum field_id id,
                              struct slice name, struct slice value) {
    if (fields->count == fields->cap)
        fields_reserve(fields, arena, fields->cap ? fields->cap * 2 : FIELDS_CAP_MIN);
    fields->list[fields->count++] = (struct field){name, value, id, false};
    fields->ids |= FIELD_BIT(id);
}
/* The same under the name of @id, which is not FIELD_OTHER. */
static inline void fields_add_known(struct fields *fields, struct arena *arena, enum field_id id,
                                    struct slice value) {
    fields_add(fields, arena, id, field_name(id), value);
}
/* The first field with that id, or NULL. */
const struct field *fields_seek(const struct fields *fields, enum field_id id);
static inline const struct field *fields_find(const struct fields *fields, enum field_id id) {
    return fields_may_have(fields, FIELD_BIT(id)) ? fields_seek(fields, id) : NULL;
}
/* The next one behind @after. */
const struct field *fields_find_next(const struct fields *fields, const struct field *after);
/* The first field of that name, case ignored, or NULL. */
const struct field *fields_find_name(const struct fields *fields, struct slice name);
/* Is @token in any of the comma-separated lists of that field? */
bool fields_list_seek(const struct fields *fields, enum field_id id, struct slice token);
static inline bool fields_list_has(const struct fields *fields, enum field_id id,
                                   struct slice token) {
    return fields_may_have(fields, FIELD_BIT(id)) && fields_list_seek(fields, id, token);
}
