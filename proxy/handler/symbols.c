/* Symbols: the functions of .symtab, or of .dynsym, in the order of their addresses. */
#include "handler/symbols.h"

#include "base/alloc.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#define SYMBOLS_MAX 65536

struct symbol {
    uint64_t from, size;
    uint32_t name; /* in names */
};

struct symbols {
    struct symbol *list; /* owned; sorted */
    size_t count;
    char *names; /* owned; terminated */
};

static bool section_at(struct slice file, size_t index, Elf64_Shdr *section);
static bool section_fits(struct slice file, const Elf64_Shdr *section);
static void take(struct symbols *symbols, struct slice file, const Elf64_Shdr *table);
static int compare(const void *a, const void *b);

struct symbols *symbols_new(struct slice file) {
    struct symbols *symbols = xcalloc(1, sizeof *symbols);
    Elf64_Shdr section, best = {.sh_type = SHT_NULL};
    Elf64_Ehdr head;

    if (file.len < sizeof head || memcmp(file.base, ELFMAG, SELFMAG) != 0 ||
        file.base[EI_CLASS] != ELFCLASS64)
        return symbols;
    memcpy(&head, file.base, sizeof head);
    for (size_t i = 0; i < head.e_shnum && section_at(file, i, &section); i++)
        if (section.sh_type == SHT_SYMTAB ||
            (section.sh_type == SHT_DYNSYM && best.sh_type == SHT_NULL))
            best = section;
    if (best.sh_type != SHT_NULL)
        take(symbols, file, &best);
    return symbols;
}

void symbols_free(struct symbols *symbols) {
    if (!symbols)
        return;
    free(symbols->list);
    free(symbols->names);
    free(symbols);
}

const char *symbols_find(const struct symbols *symbols, uintptr_t offset, uintptr_t *inside) {
    size_t low = 0, high = symbols->count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        const struct symbol *symbol = &symbols->list[mid];

        if (offset >= symbol->from + symbol->size) {
            low = mid + 1;
        } else if (offset < symbol->from) {
            high = mid;
        } else {
            *inside = offset - symbol->from;
            return symbols->names + symbol->name;
        }
    }
    return NULL;
}

static bool section_at(struct slice file, size_t index, Elf64_Shdr *section) {
    Elf64_Ehdr head;
    uint64_t at;

    memcpy(&head, file.base, sizeof head);
    if (head.e_shentsize != sizeof *section || head.e_shoff > file.len)
        return false;
    at = head.e_shoff + index * sizeof *section;
    if (at > file.len || file.len - at < sizeof *section)
        return false;
    memcpy(section, file.base + at, sizeof *section);
    return true;
}

static bool section_fits(struct slice file, const Elf64_Shdr *section) {
    return section->sh_offset <= file.len && section->sh_size <= file.len - section->sh_offset;
}

static void take(struct symbols *symbols, struct slice file, const Elf64_Shdr *table) {
    Elf64_Shdr names;
    size_t count = table->sh_size / sizeof(Elf64_Sym);
    Elf64_Sym symbol;

    if (!section_fits(file, table) || !section_at(file, table->sh_link, &names) ||
        !section_fits(file, &names) || count > SYMBOLS_MAX)
        return;
    symbols->names = xstrndup(file.base + names.sh_offset, names.sh_size);
    symbols->list = xcalloc(count, sizeof *symbols->list);
    for (size_t i = 0; i < count; i++) {
        memcpy(&symbol, file.base + table->sh_offset + i * sizeof symbol, sizeof symbol);
        if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_size > 0 &&
            symbol.st_name < names.sh_size)
            symbols->list[symbols->count++] =
                (struct symbol){symbol.st_value, symbol.st_size, symbol.st_name};
    }
    qsort(symbols->list, symbols->count, sizeof *symbols->list, compare);
}

static int compare(const void *a, const void *b) {
    const struct symbol *x = a, *y = b;

    return x->from < y->from ? -1 : x->from > y->from;
}
