/* What the fuzz targets of HTTP/1 heads share: what is true of every head that is accepted. */
#pragma once

#include "codec/h1_parse.h"
#include "codec/h1_parts.h"

#include <assert.h>

static const struct h1_limits h1_fuzz_limits = {.head_bytes = 512, .target_bytes = 64, .fields = 8};
static const struct h1_limits h1_fuzz_wide = {
    .head_bytes = 4096, .target_bytes = 4096, .fields = 16};

/* Fields but the framing ones, which are always made anew, are equal. */
static inline void h1_fuzz_same_fields(const struct fields *a, const struct fields *b) {
    uint32_t i = 0, j = 0;

    for (;; i++, j++) {
        while (i < a->count &&
               (a->list[i].id == FIELD_CONTENT_LENGTH || a->list[i].id == FIELD_TRANSFER_ENCODING))
            i++;
        while (j < b->count &&
               (b->list[j].id == FIELD_CONTENT_LENGTH || b->list[j].id == FIELD_TRANSFER_ENCODING))
            j++;
        if (i == a->count || j == b->count)
            break;
        assert(slice_equal(a->list[i].name, b->list[j].name));
        assert(slice_equal(a->list[i].value, b->list[j].value));
        assert(a->list[i].id == b->list[j].id);
    }
    assert(i == a->count && j == b->count);
}

/* No bare CR or LF, no control characters; and the strict check of lines says so too. */
static inline void h1_fuzz_check_lines(struct slice head, size_t from, enum h1_start start) {
    const char *why;

    for (size_t i = 0; i < head.len; i++)
        if (head.base[i] == '\n')
            assert(i > 0 && head.base[i - 1] == '\r');
        else if (head.base[i] == '\r')
            assert(i + 1 < head.len && head.base[i + 1] == '\n');
        else
            assert((uint8_t)head.base[i] >= ' ' || head.base[i] == '\t');
    assert(h1_check_lines(slice_skip(head, from), 0, &h1_fuzz_limits, start, &why) == H1_DONE);
}
