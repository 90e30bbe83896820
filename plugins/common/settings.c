#include "settings.h"

#include "text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* Where a value is read to say what is wrong with it. */
struct place {
    const char *where, *name;
    char *why;
    size_t why_size;
};

static int read_one(const json_t *value, const struct setting *setting, char *to,
                    const struct place *place);
static int read_text(const json_t *value, const struct setting *setting, struct weir_text *to,
                     const struct place *place);
static int read_list(json_t *value, const struct setting *setting, json_t **to,
                     const struct place *place);
static bool parse_duration(struct weir_text text, int64_t *ns);
static int refuse(const struct place *place, const json_t *found, const char *expected);
static int check_known(const json_t *object, const char *where, const struct setting *settings,
                       size_t count, char *why, size_t why_size);

json_t *settings_parse(struct weir_text config, char *why, size_t why_size) {
    json_error_t error;
    json_t *root = json_loadb(config.base, config.len, JSON_REJECT_DUPLICATES, &error);

    if (json_is_object(root))
        return root;
    settings_fail(why, why_size, "the configuration is no table: %s",
                  root ? "found something else" : error.text);
    json_decref(root);
    return NULL;
}

int settings_read(const json_t *object, const char *where, const struct setting *settings,
                  size_t count, void *to, char *why, size_t why_size) {
    if (check_known(object, where, settings, count, why, why_size) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct setting *setting = &settings[i];
        const json_t *value = json_object_get(object, setting->name);
        const struct place place = {where, setting->name, why, why_size};

        if (value && read_one(value, setting, (char *)to + setting->offset, &place) != 0)
            return -1;
        if (!value && setting->is_required)
            return settings_fail(why, why_size, "%s%s: is missing", where, setting->name);
    }
    return 0;
}

bool settings_list_has(const json_t *list, struct weir_text text, bool has_prefixes) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct weir_text element = settings_text(json_array_get(list, i));

        if (text_equal(element, text))
            return true;
        if (has_prefixes && element.len > 0 && element.base[element.len - 1] == '*' &&
            text_starts(text, text_part(element, 0, element.len - 1)))
            return true;
    }
    return false;
}

int settings_fail(char *why, size_t why_size, const char *format, ...) {
    va_list args;

    va_start(args, format);
    /* clang-tidy 14 follows only some of the callers into here, without their va_start().
     * NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return -1;
}

static int read_one(const json_t *value, const struct setting *setting, char *to,
                    const struct place *place) {
    char expected[96];
    int64_t number;

    switch (setting->kind) {
    case SETTING_TEXT:
    case SETTING_TOKEN:
    case SETTING_VARIABLE:
        return read_text(value, setting, (struct weir_text *)(void *)to, place);
    case SETTING_BOOL:
        if (!json_is_boolean(value))
            return refuse(place, value, "true or false");
        *(bool *)to = json_is_true(value);
        return 0;
    case SETTING_INTEGER:
        number = json_integer_value(value);
        snprintf(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, setting->min,
                 setting->max);
        if (!json_is_integer(value) || number < setting->min || number > setting->max)
            return refuse(place, value, expected);
        *(int64_t *)(void *)to = number;
        return 0;
    case SETTING_DURATION:
        snprintf(expected, sizeof expected,
                 "a duration such as \"30s\", from %" PRId64 "ms to %" PRId64 "s",
                 setting->min / 1000000, setting->max / 1000000000);
        if (!json_is_string(value) || !parse_duration(settings_text(value), &number) ||
            number < setting->min || number > setting->max)
            return refuse(place, value, expected);
        *(int64_t *)(void *)to = number;
        return 0;
    case SETTING_LIST:
        return read_list((json_t *)value, setting, (json_t **)(void *)to, place);
    case SETTING_TABLE:
        if (!json_is_object(value))
            return refuse(place, value, "a table");
        *(json_t **)(void *)to = (json_t *)value;
        return 0;
    }
    return -1;
}

static int read_text(const json_t *value, const struct setting *setting, struct weir_text *to,
                     const struct place *place) {
    struct weir_text text = settings_text(value);
    char expected[96];

    if (setting->kind == SETTING_TOKEN) {
        if (!json_is_string(value) || (text.len > 0 && !text_is_token(text)))
            return refuse(place, value, "the name of a field");
    } else if (setting->kind == SETTING_VARIABLE) {
        if (!json_is_string(value) || !text_is_variable(text))
            return refuse(place, value, "at most 32 of a-z, 0-9 and _");
    } else {
        snprintf(expected, sizeof expected, "a text of %" PRId64 " to %" PRId64 " bytes",
                 setting->min, setting->max);
        if (!json_is_string(value) || (setting->max > 0 && (text.len < (uint64_t)setting->min ||
                                                            text.len > (uint64_t)setting->max)))
            return refuse(place, value, setting->max > 0 ? expected : "a text");
    }
    *to = text;
    return 0;
}

static int read_list(json_t *value, const struct setting *setting, json_t **to,
                     const struct place *place) {
    char expected[96];

    snprintf(expected, sizeof expected, "a list of %" PRId64 " to %" PRId64 " texts", setting->min,
             setting->max);
    if (!json_is_array(value) || json_array_size(value) < (uint64_t)setting->min ||
        json_array_size(value) > (uint64_t)setting->max)
        return refuse(place, value, expected);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (json_string_length(json_array_get(value, i)) == 0)
            return refuse(place, value, "a list of texts that are not empty");
    *to = value;
    return 0;
}

static bool parse_duration(struct weir_text text, int64_t *ns) {
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"ms", 1000000},
                 {"s", 1000000000},
                 {"m", INT64_C(60) * 1000000000},
                 {"h", INT64_C(3600) * 1000000000},
                 {"d", INT64_C(86400) * 1000000000}};
    size_t digits = 0;
    int64_t number = 0;

    while (digits < text.len && digits < 9 && text.base[digits] >= '0' && text.base[digits] <= '9')
        number = number * 10 + (text.base[digits++] - '0');
    if (digits == 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (text_equal(text_part(text, digits, text.len), text_of(units[i].unit)))
            return !__builtin_mul_overflow(number, units[i].ns, ns);
    return false;
}

/* What was found is shown as it would stand in the file, shortened. */
static int refuse(const struct place *place, const json_t *found, const char *expected) {
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);

    settings_fail(place->why, place->why_size, "%s%s: found %.60s, expected %s", place->where,
                  place->name, text ? text : "?", expected);
    free(text);
    return -1;
}

static int check_known(const json_t *object, const char *where, const struct setting *settings,
                       size_t count, char *why, size_t why_size) {
    char names[400];
    size_t len = 0;

    for (void *at = json_object_iter((json_t *)object); at;
         at = json_object_iter_next((json_t *)object, at)) {
        const char *name = json_object_iter_key(at);
        bool is_known = false;

        for (size_t i = 0; i < count && !is_known; i++)
            is_known = strcmp(settings[i].name, name) == 0;
        if (is_known)
            continue;
        names[0] = '\0';
        for (size_t i = 0; i < count && len < sizeof names; i++)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", i > 0 ? ", " : "",
                                    settings[i].name);
        return settings_fail(why, why_size, "%s%.60s: is not a setting; there are %s", where, name,
                             names);
    }
    return 0;
}
