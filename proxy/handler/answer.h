/* What a plugin wants done, as flat memory without a pointer in it. The host functions write it
 * into the answer room of the worker that runs the plugin; when the call has ended its used part is
 * copied, packed, to where the loop reads it. The room also holds what the plugin gets from
 * host->alloc(), from its end downwards, so one budget bounds both.
 *
 * Nothing in it is believed: a plugin may have scribbled over it, and a worker process may be
 * anybody's. answer_read() checks it on the loop, from memory that nobody else writes any more. */
#pragma once

#include "base/arena.h"
#include "handler/frame.h"

enum answer_kind {
    ANSWER_SET_FIELD,
    ANSWER_ADD_FIELD,
    ANSWER_REMOVE_FIELD,
    ANSWER_RESPOND_FIELD,
    ANSWER_VARIABLE,
    ANSWER_PATH,   /* value */
    ANSWER_STATUS, /* value, three digits: of a response */
};

/* Followed by name and value; the next one begins at a multiple of 4. */
struct answer_record {
    uint32_t kind, name_len, value_len;
};

#define ANSWER_RECORDS_MAX 1024 /* in one call */

enum answer_reply { ANSWER_NO_REPLY, ANSWER_RESPOND, ANSWER_REFUSE };

struct answer_head {
    uint32_t verdict; /* what the plugin returned */
    uint32_t reply;   /* enum answer_reply */
    uint32_t status;  /* of it */
    uint32_t records; /* how many */
    uint32_t record_bytes;
    uint32_t content_len; /* content; or title, behind it */
    uint32_t remedy_len;  /* the remedy */
    uint32_t wants_response;
};

struct answer_room {
    struct answer_head head;
    uint32_t allocated; /* bytes at the end of records */
    _Alignas(16) char records[CALL_ALLOC_MAX];
    char content[CALL_CONTENT_MAX];
};

/* For a new call. */
void answer_clear(struct answer_room *room);

/* False: the budget of the call is used up, or it has ANSWER_RECORDS_MAX records. */
bool answer_add(struct answer_room *room, enum answer_kind kind, struct slice name,
                struct slice value);
bool answer_add_status(struct answer_room *room, unsigned status);
/* Replaces an earlier one. False: too large. */
bool answer_reply(struct answer_room *room, enum answer_reply reply, unsigned status,
                  struct slice content, struct slice remedy);
/* Aligned for any type; NULL: the budget is used up. */
void *answer_alloc(struct answer_room *room, size_t bytes);
/* The value that @name has now: in @room, or as it came with @frame. */
struct weir_text answer_variable(const struct answer_room *room, const struct frame *frame,
                                 struct slice name);

/* May @name be set, or are there CALL_VARIABLES_MAX others? */
bool answer_has_variable_room(const struct answer_room *room, const struct frame *frame,
                              struct slice name);

/* The packed form: head, records, content, remedy. */
size_t answer_packed_bytes(const struct answer_room *room);
void answer_pack(const struct answer_room *room, void *to);

/* Checks and takes apart @packed (@bytes of it, which stay where they are as long as @answer), for
 * the call of @frame. @arena is for the lists. False: it is no answer; nobody but a fault writes
 * such. */
bool answer_read(const void *packed, size_t bytes, const struct frame *frame, struct arena *arena,
                 struct call_answer *answer);
