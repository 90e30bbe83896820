/* UTF-8, by the table of RFC 3629 section 4. */
#include "base/utf8.h"

#include <stdint.h>

bool utf8_is_valid(struct slice text) {
    const uint8_t *at = (const uint8_t *)text.base, *end;

    if (text.len == 0)
        return true;
    end = at + text.len;
    while (at < end) {
        uint8_t first = *at++, low = 0x80, high = 0xbf;
        unsigned more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;

        if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || (size_t)(end - at) < more)
            return false;
        if (first == 0xe0)
            low = 0xa0;
        else if (first == 0xed)
            high = 0x9f;
        else if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4)
            high = 0x8f;
        for (; more > 0; more--, low = 0x80, high = 0xbf)
            if (*at < low || *at++ > high)
                return false;
    }
    return true;
}
