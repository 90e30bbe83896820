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
};

/* @name is a token in any case (RFC 9110 section 5.6.2). */
enum field_id field_id_of(struct slice name);
/* The lower-case name of a known id; "" for FIELD_OTHER. */
struct slice field_name(enum field_id id);

/* Makes room for @count fields in all. */
void fields_reserve(struct fields *fields, struct arena *arena, uint32_t count);
/* Appends; the slices must live as long as the arena. */
void fields_add(struct fields *fields, struct arena *arena, enum field_id id, struct slice name,
                struct slice value);
/* The same under the name of @id, which is not FIELD_OTHER. */
void fields_add_known(struct fields *fields, struct arena *arena, enum field_id id,
                      struct slice value);
/* The first field with that id, or NULL. */
const struct field *fields_find(const struct fields *fields, enum field_id id);
/* The next one behind @after. */
const struct field *fields_find_next(const struct fields *fields, const struct field *after);
/* The first field of that name, case ignored, or NULL. */
const struct field *fields_find_name(const struct fields *fields, struct slice name);
/* Is @token in any of the comma-separated lists of that field? */
bool fields_list_has(const struct fields *fields, enum field_id id, struct slice token);
