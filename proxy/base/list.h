/* An intrusive doubly linked ring. The head is a link too; a link that is in no list points to
 * itself after list_init() or list_remove(), so removing twice is harmless. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next; /* borrowed: neighbours */
};

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l) {
    l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l) {
    return l->next == l;
}

/* For a link: is it in some list? */
static inline bool list_is_linked(const struct list *link) {
    return link->next != link;
}

static inline void list_insert_before(struct list *at, struct list *link) {
    link->next = at;
    link->prev = at->prev;
    at->prev->next = link;
    at->prev = link;
}

static inline void list_push_back(struct list *head, struct list *link) {
    list_insert_before(head, link);
}

static inline void list_push_front(struct list *head, struct list *link) {
    list_insert_before(head->next, link);
}

static inline void list_remove(struct list *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* The first link, taken out; NULL when empty. */
static inline struct list *list_pop(struct list *head) {
    struct list *first = head->next;

    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

/* Moves all of @from, in order, to the end of @to; @from is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from) {
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
