/* What the admin plane answers, without its HTTP: from a path to a page. Home: admin. */
#pragma once

#include "admin/admin.h"
#include "base/slice.h"

struct page {
    int status; /* HTTP status */
    const char *reason;
    const char *type;      /* media type */
    struct buffer content; /* owned: the caller */
};

/* The page at @path (no query). Asks the sources of @options as needed. */
void page_make(struct page *page, const struct admin_options *options, int64_t uptime_ns,
               struct slice path);
