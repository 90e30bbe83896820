/* Answers: adding to the room, packing, and the suspicious reader. */
#include "handler/answer.h"

#include "handler/edits.h"

#include <assert.h>
#include <string.h>

#define RECORD_ALIGN 4
#define ALLOC_ALIGN 16

struct unpacking {
    struct answer_head head;
    const char *records, *content;
    const struct frame *frame;
    struct call_answer *answer;
    struct call_edit *edits, *fields;
    struct call_variable *variables;
};

static bool next_variable(const struct answer_room *room, size_t *at, struct slice *name,
                          struct slice *value);
static size_t room_left(const struct answer_room *room);
static size_t record_bytes(size_t name_len, size_t value_len);
static bool take_record(struct unpacking *r, size_t *at);
static bool take_edit(struct unpacking *r, enum answer_kind kind, struct slice name,
                      struct slice value);
static bool take_variable(struct unpacking *r, struct slice name, struct slice value);
static bool take_reply(struct unpacking *r);

void answer_clear(struct answer_room *room) {
    room->head = (struct answer_head){0};
    room->allocated = 0;
}

bool answer_add(struct answer_room *room, enum answer_kind kind, struct slice name,
                struct slice value) {
    struct answer_record record = {kind, (uint32_t)name.len, (uint32_t)value.len};
    size_t left = room_left(room);
    char *to;

    /* Each by itself first: their sum could wrap. */
    if (name.len > left || value.len > left || record_bytes(name.len, value.len) > left ||
        room->head.records == ANSWER_RECORDS_MAX)
        return false;
    to = room->records + room->head.record_bytes;
    memcpy(to, &record, sizeof record);
    if (name.len > 0)
        memcpy(to + sizeof record, name.base, name.len);
    if (value.len > 0)
        memcpy(to + sizeof record + name.len, value.base, value.len);
    room->head.record_bytes += (uint32_t)record_bytes(name.len, value.len);
    room->head.records++;
    return true;
}

bool answer_add_status(struct answer_room *room, unsigned status) {
    char digits[4] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10),
                      (char)('0' + status % 10), '\0'};

    return answer_add(room, ANSWER_STATUS, SLICE_NONE, slice_of(digits, 3));
}

bool answer_reply(struct answer_room *room, enum answer_reply reply, unsigned status,
                  struct slice content, struct slice remedy) {
    if (content.len > CALL_CONTENT_MAX || remedy.len > CALL_CONTENT_MAX - content.len)
        return false;
    if (content.len > 0)
        memcpy(room->content, content.base, content.len);
    if (remedy.len > 0)
        memcpy(room->content + content.len, remedy.base, remedy.len);
    room->head.reply = reply;
    room->head.status = status;
    room->head.content_len = (uint32_t)content.len;
    room->head.remedy_len = (uint32_t)remedy.len;
    return true;
}

void *answer_alloc(struct answer_room *room, size_t bytes) {
    if (bytes > CALL_ALLOC_MAX)
        return NULL;
    bytes = (bytes + ALLOC_ALIGN - 1) & ~(size_t)(ALLOC_ALIGN - 1);
    if (bytes > room_left(room))
        return NULL;
    room->allocated += (uint32_t)bytes;
    return room->records + CALL_ALLOC_MAX - room->allocated;
}

struct weir_text answer_variable(const struct answer_room *room, const struct frame *frame,
                                 struct slice name) {
    struct weir_text found = {"", 0};
    struct slice set, value;
    size_t at = 0;

    for (uint32_t i = 0; i < frame->variable_count; i++)
        if (slice_equal(frame_slice(frame->variables[i].name), name))
            found = frame->variables[i].value;
    while (next_variable(room, &at, &set, &value))
        if (slice_equal(set, name))
            found = (struct weir_text){value.base, value.len};
    return found;
}

bool answer_has_variable_room(const struct answer_room *room, const struct frame *frame,
                              struct slice name) {
    struct slice names[CALL_VARIABLES_MAX], set, value;
    unsigned count = 0, seen;
    size_t at = 0;

    for (uint32_t i = 0; i < frame->variable_count && count < CALL_VARIABLES_MAX; i++)
        names[count++] = frame_slice(frame->variables[i].name);
    while (next_variable(room, &at, &set, &value)) {
        for (seen = 0; seen < count && !slice_equal(names[seen], set);)
            seen++;
        if (seen == count && count < CALL_VARIABLES_MAX)
            names[count++] = set;
    }
    for (seen = 0; seen < count && !slice_equal(names[seen], name);)
        seen++;
    return seen < CALL_VARIABLES_MAX;
}

size_t answer_packed_bytes(const struct answer_room *room) {
    const struct answer_head *head = &room->head;

    /* As it is written here it cannot be larger; as a plugin may have made it, it can. */
    if (head->record_bytes > CALL_ALLOC_MAX || head->content_len > CALL_CONTENT_MAX ||
        head->remedy_len > CALL_CONTENT_MAX - head->content_len)
        return sizeof *head;
    return sizeof *head + head->record_bytes + head->content_len + head->remedy_len;
}

void answer_pack(const struct answer_room *room, void *to) {
    const struct answer_head *head = &room->head;
    size_t bytes = answer_packed_bytes(room);
    char *at = to;

    memcpy(at, head, sizeof *head);
    if (bytes == sizeof *head)
        return;
    at += sizeof *head;
    memcpy(at, room->records, head->record_bytes);
    memcpy(at + head->record_bytes, room->content, bytes - sizeof *head - head->record_bytes);
}

bool answer_read(const void *packed, size_t bytes, const struct frame *frame, struct arena *arena,
                 struct call_answer *answer) {
    struct unpacking r = {.frame = frame, .answer = answer};
    size_t count, at = 0;

    *answer = (struct call_answer){.outcome = CALL_FAULT};
    if (bytes < sizeof r.head)
        return false;
    memcpy(&r.head, packed, sizeof r.head);
    bytes -= sizeof r.head;
    if (r.head.records > ANSWER_RECORDS_MAX || r.head.record_bytes > bytes ||
        r.head.content_len > bytes - r.head.record_bytes ||
        r.head.remedy_len != bytes - r.head.record_bytes - r.head.content_len)
        return false;
    r.records = (const char *)packed + sizeof r.head;
    r.content = r.records + r.head.record_bytes;
    count = r.head.records;
    if (count > 0) {
        r.edits = arena_alloc(arena, count * sizeof *r.edits);
        r.fields = arena_alloc(arena, count * sizeof *r.fields);
    }
    if (count + frame->variable_count > 0)
        r.variables = arena_alloc(arena, CALL_VARIABLES_MAX * sizeof *r.variables);
    for (uint32_t i = 0; i < frame->variable_count; i++)
        if (!take_variable(&r, frame_slice(frame->variables[i].name),
                           frame_slice(frame->variables[i].value)))
            return false;
    for (uint32_t i = 0; i < r.head.records; i++)
        if (!take_record(&r, &at))
            return false;
    answer->edits = r.edits;
    answer->fields = r.fields;
    answer->variables = r.variables;
    return take_reply(&r);
}

/* The room is the plugin's to damage, so no more is believed of it than that it is there. */
static bool next_variable(const struct answer_room *room, size_t *at, struct slice *name,
                          struct slice *value) {
    size_t end = room->head.record_bytes;
    struct answer_record record;

    while (end <= CALL_ALLOC_MAX && *at + sizeof record <= end) {
        const char *text = room->records + *at + sizeof record;

        memcpy(&record, room->records + *at, sizeof record);
        if (record.name_len > end || record.value_len > end)
            return false;
        *at += record_bytes(record.name_len, record.value_len);
        if (*at > end)
            return false;
        *name = slice_of(text, record.name_len);
        *value = slice_of(text + record.name_len, record.value_len);
        if (record.kind == ANSWER_VARIABLE)
            return true;
    }
    return false;
}

static size_t room_left(const struct answer_room *room) {
    size_t used = (size_t)room->head.record_bytes + room->allocated;

    return used < CALL_ALLOC_MAX ? CALL_ALLOC_MAX - used : 0;
}

static size_t record_bytes(size_t name_len, size_t value_len) {
    size_t bytes = sizeof(struct answer_record) + name_len + value_len;

    return (bytes + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

static bool take_record(struct unpacking *r, size_t *at) {
    size_t left = r->head.record_bytes - *at;
    struct answer_record record;
    struct slice name, value;

    if (left < sizeof record)
        return false;
    memcpy(&record, r->records + *at, sizeof record);
    if (record.name_len > left || record.value_len > left ||
        record_bytes(record.name_len, record.value_len) > left)
        return false;
    name = slice_of(r->records + *at + sizeof record, record.name_len);
    value = slice_of(name.base + name.len, record.value_len);
    *at += record_bytes(record.name_len, record.value_len);
    switch (record.kind) {
    case ANSWER_VARIABLE:
        return take_variable(r, name, value);
    case ANSWER_PATH:
        r->answer->path = value;
        return r->frame->phase == CALL_REQUEST && edit_is_path(value);
    case ANSWER_STATUS:
        if (value.len != 3 || r->frame->phase != CALL_RESPONSE)
            return false;
        r->answer->status = (unsigned)(value.base[0] - '0') * 100 +
                            (unsigned)(value.base[1] - '0') * 10 + (unsigned)(value.base[2] - '0');
        return edit_is_status(r->answer->status);
    default:
        return take_edit(r, (enum answer_kind)record.kind, name, value);
    }
}

static bool take_edit(struct unpacking *r, enum answer_kind kind, struct slice name,
                      struct slice value) {
    static const enum call_edit_kind kinds[] = {
        [ANSWER_SET_FIELD] = CALL_SET_FIELD,
        [ANSWER_ADD_FIELD] = CALL_ADD_FIELD,
        [ANSWER_REMOVE_FIELD] = CALL_REMOVE_FIELD,
        [ANSWER_RESPOND_FIELD] = CALL_ADD_FIELD,
    };

    assert(r->edits && r->fields); /* for there is a record */
    if ((unsigned)kind >= sizeof kinds / sizeof *kinds || !edit_may_name(name) ||
        !edit_is_value(value))
        return false;
    if (kind == ANSWER_RESPOND_FIELD)
        r->fields[r->answer->field_count++] = (struct call_edit){kinds[kind], name, value};
    else
        r->edits[r->answer->edit_count++] = (struct call_edit){kinds[kind], name, value};
    return true;
}

static bool take_variable(struct unpacking *r, struct slice name, struct slice value) {
    unsigned i = 0;

    assert(r->variables);
    if (!edit_is_variable(name, value))
        return false;
    while (i < r->answer->variable_count && !slice_equal(r->variables[i].name, name))
        i++;
    if (i == CALL_VARIABLES_MAX)
        return false;
    r->variables[i] = (struct call_variable){name, value};
    if (i == r->answer->variable_count)
        r->answer->variable_count++;
    return true;
}

static bool take_reply(struct unpacking *r) {
    struct call_answer *answer = r->answer;
    struct slice content = slice_of(r->content, r->head.content_len);

    if (r->head.verdict == WEIR_CONTINUE) {
        answer->outcome = CALL_CONTINUE;
        if (r->frame->phase == CALL_RESPONSE)
            answer->field_count = 0;
        return true;
    }
    if (r->head.verdict != WEIR_RESPOND || r->frame->phase != CALL_REQUEST ||
        !edit_is_status(r->head.status))
        return false;
    answer->status = r->head.status;
    if (r->head.reply == ANSWER_RESPOND) {
        answer->outcome = CALL_RESPOND;
        answer->content = content;
        return r->head.remedy_len == 0;
    }
    answer->outcome = CALL_REFUSE;
    answer->title = content;
    answer->remedy = slice_of(r->content + content.len, r->head.remedy_len);
    return r->head.reply == ANSWER_REFUSE && edit_is_value(answer->title) &&
           edit_is_value(answer->remedy);
}
