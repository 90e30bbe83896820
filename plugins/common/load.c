#include "load.h"

enum load_result load_file(const struct weir_host *host, struct weir_file *file, uint64_t *version,
                           load_parse_fn *parse, void *plugin, char *why, size_t why_size) {
    bool has_old = *version != 0;
    uint64_t newest, now;
    struct weir_text text = host->content(file, &newest);
    char ignored[64];

    if (newest == *version)
        return LOAD_DONE;
    *version = newest;
    if (parse(plugin, text, why, why_size) == 0)
        return LOAD_DONE;
    host->reject(file, newest);
    text = host->content(file, &now);
    if (now != newest && parse(plugin, text, ignored, sizeof ignored) == 0) {
        *version = now;
        has_old = true;
    }
    return has_old ? LOAD_OLD : LOAD_FAILED;
}
