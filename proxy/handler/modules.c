/* Modules: a table of mappings in the order of their addresses. */
#include "handler/modules.h"

#include "base/alloc.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>

struct mapping {
    uintptr_t from, to, base;
    uintptr_t all_from, all_to; /* of the whole file */
    enum module_kind kind;
    char name[48];
};

static struct mapping *mappings; /* owned; sorted */
static unsigned mapping_count;
static uintptr_t process_from, process_to; /* all of the process's lie in here */

static int add(struct dl_phdr_info *info, size_t size, void *kind);
static void find_extent(const struct dl_phdr_info *info, struct mapping *mapping);
static const struct mapping *find(uintptr_t pc);
static int compare(const void *a, const void *b);

void modules_note_process(void) {
    enum module_kind kind = MODULE_PROCESS;

    free(mappings);
    mappings = NULL;
    mapping_count = 0;
    dl_iterate_phdr(add, &kind);
    modules_note_guests();
}

void modules_note_guests(void) {
    enum module_kind kind = MODULE_GUEST;

    dl_iterate_phdr(add, &kind);
    if (mapping_count > 0)
        qsort(mappings, mapping_count, sizeof *mappings, compare);
    process_from = UINTPTR_MAX;
    process_to = 0;
    for (unsigned i = 0; i < mapping_count; i++) {
        if (mappings[i].kind != MODULE_PROCESS)
            continue;
        if (mappings[i].from < process_from)
            process_from = mappings[i].from;
        if (mappings[i].to > process_to)
            process_to = mappings[i].to;
    }
}

enum module_kind module_of(uintptr_t pc) {
    const struct mapping *mapping = find(pc);

    return mapping ? mapping->kind : MODULE_UNKNOWN;
}

const char *module_name(uintptr_t pc, uintptr_t *offset) {
    const struct mapping *mapping = find(pc);

    if (!mapping)
        return NULL;
    *offset = pc - mapping->base;
    return mapping->name;
}

bool modules_have(uintptr_t address) {
    for (unsigned i = 0; i < mapping_count; i++)
        if (address >= mappings[i].all_from && address < mappings[i].all_to)
            return true;
    return false;
}

bool module_is_process(uintptr_t pc) {
    return pc >= process_from && pc < process_to && module_of(pc) == MODULE_PROCESS;
}

/* Only what is not in the table yet. */
static int add(struct dl_phdr_info *info, size_t size, void *kind) {
    /* They keep nothing between calls that another thread could need. */
    static const char *const stateless[] = {"libm.so", "libjansson.so", "linux-vdso"};
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;

    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        struct mapping mapping = {.base = info->dlpi_addr, .kind = *(enum module_kind *)kind};

        mapping.from = info->dlpi_addr + part->p_vaddr;
        mapping.to = mapping.from + part->p_memsz;
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
            continue;
        find_extent(info, &mapping);
        for (unsigned j = 0; j < mapping_count; j++)
            if (mappings[j].from == mapping.from)
                return 0;
        if (!*name && mapping.kind == MODULE_PROCESS)
            mapping.kind = MODULE_WEIR;
        for (size_t j = 0; j < sizeof stateless / sizeof *stateless; j++)
            if (strncmp(name, stateless[j], strlen(stateless[j])) == 0)
                mapping.kind = MODULE_GUEST;
        strncpy(mapping.name, *name ? name : "weir", sizeof mapping.name - 1);
        mappings = xrealloc(mappings, (mapping_count + 1) * sizeof *mappings);
        mappings[mapping_count++] = mapping;
    }
    return 0;
}

static void find_extent(const struct dl_phdr_info *info, struct mapping *mapping) {
    mapping->all_from = UINTPTR_MAX;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + part->p_vaddr;

        if (part->p_type != PT_LOAD)
            continue;
        if (from < mapping->all_from)
            mapping->all_from = from;
        if (from + part->p_memsz > mapping->all_to)
            mapping->all_to = from + part->p_memsz;
    }
}

static const struct mapping *find(uintptr_t pc) {
    unsigned low = 0, high = mapping_count;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (pc >= mappings[mid].to)
            low = mid + 1;
        else
            high = mid;
    }
    return low < mapping_count && pc >= mappings[low].from ? &mappings[low] : NULL;
}

static int compare(const void *a, const void *b) {
    const struct mapping *x = a, *y = b;

    return x->from < y->from ? -1 : x->from > y->from;
}
