/* Slices: the few operations on borrowed bytes that are too long for a header. */
#include "base/slice.h"

struct slice slice_trim(struct slice s) {
    while (s.len > 0 && (s.base[0] == ' ' || s.base[0] == '\t'))
        s = slice_skip(s, 1);
    while (s.len > 0 && (s.base[s.len - 1] == ' ' || s.base[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool slice_next_element(struct slice *list, struct slice *element) {
    while (list->len > 0) {
        size_t end = 0;
        bool is_quoted = false;
        struct slice found;

        for (; end < list->len && (is_quoted || list->base[end] != ','); end++) {
            if (list->base[end] == '"')
                is_quoted = !is_quoted;
            else if (is_quoted && list->base[end] == '\\' && end + 1 < list->len)
                end++;
        }
        found = slice_trim(slice_of(list->base, end));
        *list = slice_skip(*list, end < list->len ? end + 1 : end);
        if (found.len > 0) {
            *element = found;
            return true;
        }
    }
    return false;
}

bool slice_list_has(struct slice list, struct slice token) {
    struct slice element;

    while (slice_next_element(&list, &element))
        if (slice_equal_case(element, token))
            return true;
    return false;
}
