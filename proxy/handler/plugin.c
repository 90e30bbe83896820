/* Plugins: copying the file, loading it, checking it, and its static data. */
#include "handler/plugin.h"

#include "base/alloc.h"
#include "handler/trap.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static int copy_file(int from);
static int read_symbols(struct plugin *plugin);
static int check(struct plugin *plugin, const char *path, char **why);
static struct plugin_image *load(const char *path, int fd, char **why);
static int note_segments(struct dl_phdr_info *info, size_t size, void *arg);
static void free_image(struct plugin_image *image);

int plugin_open(struct plugin **out, const char *path, char **why) {
    struct plugin *plugin = xcalloc(1, sizeof *plugin);
    int from = open(path, O_RDONLY | O_CLOEXEC), err;

    plugin->path = xstrdup(path);
    plugin->fd = from < 0 ? -errno : copy_file(from);
    if (from >= 0)
        close(from);
    err = plugin->fd < 0 ? plugin->fd : read_symbols(plugin);
    if (err) {
        *why = xasprintf("cannot read plugin '%s': %s", path, strerror(-err));
    } else {
        plugin->images = load(path, plugin->fd, why);
        plugin->fd = -1; /* the image's */
        err = plugin->images ? check(plugin, path, why) : -ENOEXEC;
    }
    if (err) {
        plugin_close(plugin);
        return err;
    }
    *out = plugin;
    return 0;
}

void plugin_close(struct plugin *plugin) {
    struct plugin_image *image;

    if (!plugin)
        return;
    while ((image = plugin->images)) {
        plugin->images = image->next;
        free_image(image);
    }
    if (plugin->fd >= 0)
        close(plugin->fd);
    symbols_free(plugin->symbols);
    free(plugin->path);
    free(plugin);
}

const struct weir_plugin *plugin_functions(const struct plugin *plugin) {
    return plugin->images->functions;
}

struct plugin_image *plugin_add_image(struct plugin *plugin, char **why) {
    int fd = copy_file(plugin->images->fd);
    struct plugin_image *image;

    if (fd < 0) {
        *why = xasprintf("cannot copy plugin '%s': %s", plugin->path, strerror(-fd));
        return NULL;
    }
    image = load(plugin->path, fd, why);
    if (!image)
        return NULL;
    image->next = plugin->images->next; /* the first stays in front */
    plugin->images->next = image;
    return image;
}

void plugin_image_reset(struct plugin_image *image) {
    for (unsigned i = 0; i < image->segment_count; i++)
        if (image->segments[i].pristine)
            memcpy(image->segments[i].memory, image->segments[i].pristine,
                   image->segments[i].bytes);
}

const char *plugin_symbol(const struct plugin *plugin, uintptr_t pc, uintptr_t *inside) {
    for (const struct plugin_image *image = plugin->images; image; image = image->next) {
        const char *name =
            pc >= image->base ? symbols_find(plugin->symbols, pc - image->base, inside) : NULL;

        if (name)
            return name;
    }
    return NULL;
}

/* Returns the fd of a copy in memory, or -errno. */
static int copy_file(int from) {
    struct stat stat;
    off_t at = 0;
    int to, err;

    if (fstat(from, &stat) < 0)
        return -errno;
    if (!S_ISREG(stat.st_mode))
        return S_ISDIR(stat.st_mode) ? -EISDIR : -EINVAL;
    if (stat.st_size > PLUGIN_BYTES_MAX)
        return -EFBIG;
    to = memfd_create("weir-plugin", MFD_CLOEXEC | MFD_EXEC);
    if (to < 0 && errno == EINVAL)
        to = memfd_create("weir-plugin", MFD_CLOEXEC); /* before Linux 6.3 */
    if (to < 0)
        return -errno;
    while (at < stat.st_size) {
        ssize_t sent = sendfile(to, from, &at, (size_t)(stat.st_size - at));

        if (sent <= 0) {
            err = sent < 0 ? -errno : -EIO;
            close(to);
            return err;
        }
    }
    return to;
}

static int read_symbols(struct plugin *plugin) {
    off_t bytes = lseek(plugin->fd, 0, SEEK_END);
    void *file;

    if (bytes <= 0) {
        plugin->symbols = symbols_new(SLICE_NONE);
        return bytes < 0 ? -errno : 0;
    }
    file = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, plugin->fd, 0);
    if (file == MAP_FAILED)
        return -errno;
    plugin->symbols = symbols_new(slice_of(file, (size_t)bytes));
    munmap(file, (size_t)bytes);
    return 0;
}

static int check(struct plugin *plugin, const char *path, char **why) {
    const struct weir_plugin *functions = plugin_functions(plugin);

    if (functions->abi != WEIR_ABI || !WEIR_HAS(functions, end)) {
        *why = xasprintf("plugin '%s' was built for interface %u with %zu bytes, but this is "
                         "interface %d with %zu: build it with this weir's <weir/handler.h>",
                         path, functions->abi, functions->size, WEIR_ABI, sizeof *functions);
        return -EINVAL;
    }
    while (functions->events && functions->events[plugin->event_count]) {
        const char *name = functions->events[plugin->event_count];
        size_t len = strlen(name);

        if (len == 0 || len > PLUGIN_EVENT_NAME_MAX ||
            strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != len) {
            *why = xasprintf("plugin '%s' has an event '%s': expected 1 to %d of a-z, 0-9 and _",
                             path, name, PLUGIN_EVENT_NAME_MAX);
            return -EINVAL;
        }
        if (++plugin->event_count > PLUGIN_EVENTS_MAX) {
            *why = xasprintf("plugin '%s' has more than %d events", path, PLUGIN_EVENTS_MAX);
            return -EINVAL;
        }
    }
    return 0;
}

/* Takes @fd over. */
static struct plugin_image *load(const char *path, int fd, char **why) {
    struct plugin_image *image = xcalloc(1, sizeof *image);
    struct link_map *map = NULL;
    char name[32];

    image->fd = fd;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    image->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!image->library) {
        const char *said = dlerror();

        /* Its name for the file is none that anybody knows. */
        if (strncmp(said, name, strlen(name)) == 0)
            said += strlen(name) + strspn(said + strlen(name), ": ");
        *why = xasprintf("cannot load plugin '%s': %s", path, said);
        free_image(image);
        return NULL;
    }
    image->functions = dlsym(image->library, "weir_plugin");
    if (!image->functions) {
        *why = xasprintf("'%s' is no plugin: it has no symbol weir_plugin (see WEIR_PLUGIN in "
                         "<weir/handler.h>)",
                         path);
        free_image(image);
        return NULL;
    }
    dlinfo(image->library, RTLD_DI_LINKMAP, &map);
    image->base = map->l_addr;
    /* Sanitizers have a use for what lies between a library's data; nothing is lost under them. */
    if ((image->functions->flags & WEIR_HAS_STATICS) && !HANDLER_HAS_SANITIZER)
        dl_iterate_phdr(note_segments, image);
    return image;
}

/* What can be written, but for what the loader has made read-only since (RELRO). */
static int note_segments(struct dl_phdr_info *info, size_t size, void *arg) {
    struct plugin_image *image = arg;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), relro = 0;

    if (info->dlpi_addr != image->base)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO)
            relro = (image->base + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz) &
                    ~(page - 1);
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t from = image->base + part->p_vaddr, to = from + part->p_memsz;

        if (part->p_type != PT_LOAD || !(part->p_flags & PF_W) ||
            image->segment_count == PLUGIN_SEGMENTS_MAX)
            continue;
        if (relro > from && relro <= to)
            from = relro;
        if (from == to)
            continue;
        image->segments[image->segment_count].memory = (char *)from;
        image->segments[image->segment_count].bytes = to - from;
        if (!HANDLER_HAS_SANITIZER) { /* which has its own marks in between, and catches no faults
                                       */
            image->segments[image->segment_count].pristine = xmalloc(to - from);
            memcpy(image->segments[image->segment_count].pristine, (char *)from, to - from);
        }
        image->segment_count++;
    }
    return 1;
}

static void free_image(struct plugin_image *image) {
    if (image->library)
        dlclose(image->library);
    for (unsigned i = 0; i < image->segment_count; i++)
        free(image->segments[i].pristine);
    close(image->fd);
    free(image);
}
