/* The host functions of what instances share: tables of cells, watched files, signatures. */
#include "handler/host.h"

#include "handler/cells.h"
#include "handler/signatures.h"
#include "handler/watched.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_MIN 4096

struct weir_table *host_table(const struct weir_host *host, struct weir_text name, unsigned cells) {
    struct guest *guest = host_enter(NULL);
    struct weir_table *table = NULL;

    if (!guest)
        return NULL;
    host_touch(name);
    guest->in_lock = 1;
    if (guest->handler->cells)
        table = cells_table(guest->handler->cells, slice_str(guest->handler->name),
                            frame_slice(name), cells);
    guest->in_lock = 0;
    host_leave(guest);
    return table;
}

/* Without in_lock: cells never need more than what one instruction does. */
bool host_cell_get(struct weir_table *table, struct weir_text key, struct weir_cell *cell) {
    struct guest *guest = host_enter(NULL);
    bool is_done;

    if (!guest)
        return false;
    is_done = cells_get(table, key, cell);
    host_leave(guest);
    return is_done;
}

bool host_cell_swap(struct weir_table *table, struct weir_text key, struct weir_cell *from,
                    struct weir_cell to) {
    struct guest *guest = host_enter(NULL);
    bool is_done;

    if (!guest)
        return false;
    is_done = cells_swap(table, key, from, to);
    host_leave(guest);
    return is_done;
}

struct weir_file *host_watch(const struct weir_host *host, struct weir_text path) {
    struct guest *guest = host_enter(NULL);
    struct guest_files *files;
    struct weir_file *file = NULL;
    char *why = NULL;

    if (!guest)
        return NULL;
    files = guest->files;
    host_touch(path);
    guest->in_lock = 1;
    if (!guest->handler->watched || !files || files->count == GUEST_FILES_MAX)
        log_limited(guest->handler->lines, LOG_WARN,
                    "handler '%s' cannot watch '%.*s': no more than %d files", guest->handler->name,
                    (int)path.len, path.base, GUEST_FILES_MAX);
    else if (watched_view_open(&file, guest->handler->watched, frame_slice(path), &why) == 0)
        files->list[files->count++] = file;
    else
        log_limited(guest->handler->lines, LOG_WARN, "handler '%s' cannot watch '%.*s': %s",
                    guest->handler->name, (int)path.len, path.base, why);
    free(why);
    guest->in_lock = 0;
    host_leave(guest);
    return file;
}

struct weir_text host_content(struct weir_file *file, uint64_t *version) {
    struct guest *guest = host_enter(NULL);
    struct weir_text content = {"", 0};
    uint64_t is = 0;

    if (!guest)
        return content;
    for (unsigned i = 0; guest->files && i < guest->files->count; i++) {
        if (guest->files->list[i] != file)
            continue;
        guest->in_lock = 1;
        content = watched_view_content(file, atomic_load(&guest->run), &is);
        guest->in_lock = 0;
    }
    if (version)
        *version = is;
    host_leave(guest);
    return content;
}

void host_reject(struct weir_file *file, uint64_t version) {
    struct guest *guest = host_enter(NULL);

    if (!guest)
        return;
    for (unsigned i = 0; guest->files && i < guest->files->count; i++) {
        if (guest->files->list[i] != file)
            continue;
        guest->in_lock = 1;
        watched_view_reject(file, version);
        guest->in_lock = 0;
    }
    host_leave(guest);
}

bool host_verify(enum weir_signature kind, struct weir_text key, struct weir_text data,
                 struct weir_text signature) {
    struct guest *guest = host_enter(NULL);
    bool is_good;

    if (!guest)
        return false;
    host_touch(key);
    host_touch(data);
    host_touch(signature);
    guest->in_lock = 1;
    is_good = signatures_verify(kind, key, data, signature);
    guest->in_lock = 0;
    host_leave(guest);
    return is_good;
}

void host_sha256(struct weir_text data, unsigned char digest[32]) {
    struct guest *guest = host_enter(NULL);
    unsigned char made[32] = {0};

    if (!guest)
        return;
    host_touch(data);
    guest->in_lock = 1;
    signatures_sha256(data, made);
    guest->in_lock = 0;
    memcpy(digest, made, sizeof made);
    host_leave(guest);
}

bool host_equal(struct weir_text a, struct weir_text b) {
    host_touch(a);
    host_touch(b);
    return signatures_equal(a, b);
}

void host_touch(struct weir_text text) {
    for (size_t at = 0; at < text.len; at += PAGE_MIN)
        (void)*(const volatile char *)(text.base + at);
    if (text.len > 0)
        (void)*(const volatile char *)(text.base + text.len - 1);
}
