#include "supervisor/kept.h"

#include "base/alloc.h"
#include "config/address.h"
#include "transport/listen.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int prepare_one(struct kept_list *list, const char *text, unsigned count, char **why);
static struct kept *find(struct kept_list *list, const struct config_address *address);
static bool is_ours(const struct kept_list *list, const struct config_address *address);
static bool parse(struct config_address *address, const char *text);
static void close_from(struct kept *kept, unsigned first);
static void drop(struct kept_list *list, size_t i);
static void remove_file(const struct kept *kept);

int kept_prepare(struct kept_list *list, const struct run_plan *plan, char **why) {
    int err = 0;

    for (size_t i = 0; i < list->count; i++)
        list->items[i].is_wanted = false;
    for (unsigned i = 0; !err && i < plan->listener_count; i++) {
        char *cause = NULL;

        err = prepare_one(list, plan->listeners[i].address, (unsigned)plan->threads, &cause);
        if (err)
            *why = xasprintf("listener '%s': %s", plan->listeners[i].name, cause);
        free(cause);
    }
    if (!err && plan->admin[0]) {
        char *cause = NULL;

        err = prepare_one(list, plan->admin, 1, &cause);
        if (err)
            *why = xasprintf("admin: %s", cause);
        free(cause);
    }
    if (err)
        kept_forget(list);
    return err;
}

void kept_commit(struct kept_list *list) {
    for (size_t i = list->count; i-- > 0;) {
        struct kept *kept = &list->items[i];

        kept->sure = kept->count;
        if (!kept->is_wanted) {
            remove_file(kept);
            drop(list, i);
        }
    }
}

void kept_forget(struct kept_list *list) {
    for (size_t i = list->count; i-- > 0;) {
        struct kept *kept = &list->items[i];

        if (kept->sure == 0) {
            remove_file(kept);
            drop(list, i);
        } else {
            close_from(kept, kept->sure);
        }
    }
}

const struct kept *kept_find(const struct kept_list *list, const char *address) {
    struct config_address parsed;
    const struct kept *found;

    if (!parse(&parsed, address))
        return NULL;
    found = find((struct kept_list *)list, &parsed);
    address_deinit(&parsed);
    return found;
}

void kept_close(struct kept_list *list) {
    for (size_t i = 0; i < list->count; i++)
        close_from(&list->items[i], 0);
}

void kept_remove_files(const struct kept_list *list) {
    for (size_t i = 0; i < list->count; i++)
        remove_file(&list->items[i]);
}

void kept_deinit(struct kept_list *list) {
    while (list->count > 0)
        drop(list, list->count - 1);
}

static int prepare_one(struct kept_list *list, const char *text, unsigned count, char **why) {
    struct config_address address;
    struct kept *kept;
    int err = 0;

    if (!parse(&address, text)) {
        *why = xasprintf("'%s' is no address to listen on", text);
        return -EINVAL;
    }
    kept = find(list, &address);
    if (!kept && list->count == KEPT_MAX) {
        *why = xasprintf("there are %d addresses already", KEPT_MAX);
        err = -ENOSPC;
    } else if (!kept) {
        kept = &list->items[list->count];
        *kept = (struct kept){.is_shared = address.kind == ADDRESS_UNIX};
        err = listen_bind(&address, kept->fds, kept->is_shared ? 1 : count, is_ours(list, &address),
                          why);
        if (!err) {
            kept->count = kept->is_shared ? 1 : count;
            kept->address = address;
            address = (struct config_address){0};
            list->count++;
        }
    } else if (!kept->is_shared && kept->count < count) {
        err = listen_bind(&address, kept->fds + kept->count, count - kept->count, true, why);
        if (!err)
            kept->count = count;
    }
    if (!err)
        kept->is_wanted = true;
    address_deinit(&address);
    return err;
}

static struct kept *find(struct kept_list *list, const struct config_address *address) {
    for (size_t i = 0; i < list->count; i++)
        if (address_is_same(&list->items[i].address, address))
            return &list->items[i];
    return NULL;
}

static bool is_ours(const struct kept_list *list, const struct config_address *address) {
    for (size_t i = 0; i < list->count; i++)
        if (address_is_in_the_way(&list->items[i].address, address))
            return true;
    return false;
}

/* The text comes from a configuration that was checked. */
static bool parse(struct config_address *address, const char *text) {
    struct buffer guess = {0};
    const char *fault = address_parse(address, slice_str(text), ADDRESS_TO_LISTEN, &guess);

    buffer_deinit(&guess);
    return !fault;
}

static void close_from(struct kept *kept, unsigned first) {
    while (kept->count > first)
        close(kept->fds[--kept->count]);
    if (kept->sure > kept->count)
        kept->sure = kept->count;
}

static void drop(struct kept_list *list, size_t i) {
    close_from(&list->items[i], 0);
    address_deinit(&list->items[i].address);
    list->items[i] = list->items[--list->count];
}

static void remove_file(const struct kept *kept) {
    if (kept->address.kind == ADDRESS_UNIX && !kept->is_inherited)
        unlink(((const struct sockaddr_un *)&kept->address.sockaddr)->sun_path);
}
