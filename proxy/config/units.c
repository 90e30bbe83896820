/* Units: two small tables, one reader for both. */
#include "config/units.h"

#include "base/clock.h"

#include <ctype.h>
#include <errno.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* From the largest to the smallest. */
static const struct unit durations[] = {
    {"h", 3600 * NS_PER_S}, {"m", 60 * NS_PER_S}, {"s", NS_PER_S}, {"ms", NS_PER_MS}, {0},
};
static const struct unit sizes[] = {
    {"GiB", INT64_C(1) << 30}, {"MiB", INT64_C(1) << 20}, {"KiB", INT64_C(1) << 10}, {"", 1}, {0},
};

static int parse(struct slice text, const struct unit *units, int64_t *value);
static int parse_digits(struct slice *text, int64_t *value);
static void append(struct buffer *to, int64_t value, const struct unit *units);

int units_parse_duration(struct slice text, int64_t *ns) {
    if (slice_equal(text, SLICE("0"))) {
        *ns = 0;
        return 0;
    }
    return parse(text, durations, ns);
}

int units_parse_size(struct slice text, int64_t *bytes) {
    return parse(text, sizes, bytes);
}

void units_append_duration(struct buffer *to, int64_t ns) {
    if (ns == 0)
        buffer_append(to, SLICE("off"));
    else
        append(to, ns, durations);
}

void units_append_size(struct buffer *to, int64_t bytes) {
    append(to, bytes, sizes);
}

bool units_guess_duration(struct slice text, struct buffer *to) {
    int64_t value;
    const char *unit = "s";

    if (parse_digits(&text, &value))
        return false;
    text = slice_trim(text);
    if (text.len > 0) {
        switch (tolower((unsigned char)text.base[0])) {
        case 'h':
            unit = "h";
            break;
        case 'm':
            unit = text.len > 1 && strchr("sS", text.base[1]) ? "ms"
                   : slice_starts(text, SLICE("mil"))         ? "ms"
                                                              : "m";
            break;
        case 's':
            break;
        default:
            return false;
        }
    }
    buffer_printf(to, "%lld%s", (long long)value, unit);
    return true;
}

bool units_guess_size(struct slice text, struct buffer *to) {
    int64_t value;
    char unit;

    if (parse_digits(&text, &value))
        return false;
    text = slice_trim(text);
    unit = text.len > 0 ? (char)toupper((unsigned char)text.base[0]) : '\0';
    if (!unit || !strchr("KMGB", unit))
        return false;
    buffer_printf(to, "%lld", (long long)value);
    if (unit != 'B')
        buffer_printf(to, "%ciB", unit);
    return true;
}

static int parse(struct slice text, const struct unit *units, int64_t *value) {
    int64_t number;
    int err = parse_digits(&text, &number);

    if (err)
        return err;
    for (; units->name; units++) {
        if (!slice_equal(text, slice_str(units->name)))
            continue;
        if (number > INT64_MAX / units->factor)
            return -ERANGE;
        *value = number * units->factor;
        return 0;
    }
    return -EINVAL;
}

/* Takes the digits off the front of @text. */
static int parse_digits(struct slice *text, int64_t *value) {
    size_t used = 0;
    int64_t number = 0;

    for (; used < text->len && isdigit((unsigned char)text->base[used]); used++) {
        int digit = text->base[used] - '0';

        if (number > (INT64_MAX - digit) / 10)
            return -ERANGE;
        number = number * 10 + digit;
    }
    if (used == 0)
        return -EINVAL;
    *text = slice_skip(*text, used);
    *value = number;
    return 0;
}

static void append(struct buffer *to, int64_t value, const struct unit *units) {
    while (units[1].name && value % units->factor != 0)
        units++;
    buffer_printf(to, "%lld%s", (long long)(value / units->factor), units->name);
}
