/* The list of keys. */
#include "config/schema.h"

#include "expect.h"

#include <stdio.h>

static void every_key_is_shown_in_the_file_that_comes_with_weir(void **state) {
    static char text[65536];
    FILE *file = fopen(WEIR_CONFIG_DIR "/weir.toml", "r");

    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    for (size_t i = 0; schema_all[i]; i++) {
        const struct schema *schema = schema_all[i];

        for (size_t k = 0; k < schema->count; k++) {
            const char *dot = strchr(schema->keys[k].name, '.');
            char key[64];

            snprintf(key, sizeof key, "%s = ", dot ? dot + 1 : schema->keys[k].name);
            if (!strstr(text, key))
                fail_msg("%s.%s is missing", schema->name, schema->keys[k].name);
        }
    }
}

static void names_are_unique_and_groups_stand_together(void **state) {
    for (size_t i = 0; schema_all[i]; i++) {
        const struct schema *schema = schema_all[i];

        for (size_t a = 0; a < schema->count; a++)
            for (size_t b = a + 1; b < schema->count; b++) {
                const char *first = schema->keys[a].name;
                const char *second = schema->keys[b].name;
                size_t group = strcspn(first, ".") + 1;

                assert_string_not_equal(first, second);
                if (first[group - 1] && b > a + 1 && strncmp(first, second, group) == 0)
                    assert_int_equal(strncmp(schema->keys[b - 1].name, first, group), 0);
            }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_shown_in_the_file_that_comes_with_weir),
        cmocka_unit_test(names_are_unique_and_groups_stand_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
