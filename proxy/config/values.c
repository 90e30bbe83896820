/* Readers of single values. */
#include "config/values.h"

#include "base/alloc.h"
#include "config/cidr.h"
#include "config/suggest.h"
#include "config/units.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES_MAX 64
#define TOKEN_BYTES_MIN 8
#define TOKEN_BYTES_MAX 256

static const char expected_path[] = "a path with a slash such as \"/var/log/weir.log\"";

static bool is_word(const struct tomlc_node *node, const char *word);
static void refuse_choice(struct reader *reader, const struct schema_key *key,
                          const struct tomlc_node *node);
static bool is_name(struct slice text);
static bool is_path(struct slice text);
static bool is_name_server(struct slice text);
static bool is_host(struct slice text);

void value_duration(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    struct buffer guess = {0};
    struct buffer range = {0};
    int64_t ns = -1;

    if (node->kind == TOMLC_INTEGER && node->integer == 0) {
        ns = 0;
    } else if (node->kind == TOMLC_STRING) {
        if (units_parse_duration(reader_text(node), &ns) == -EINVAL)
            units_guess_duration(reader_text(node), &guess);
    } else if (node->kind == TOMLC_INTEGER && node->integer > 0) {
        buffer_printf(&guess, "%llds", (long long)node->integer);
    }
    if ((ns == 0 && !key->is_never_off) || (ns >= key->min && ns <= key->max)) {
        *(int64_t *)to = ns;
    } else {
        units_append_duration(&range, key->min);
        buffer_append(&range, SLICE(" to "));
        units_append_duration(&range, key->max);
        buffer_append_char(&guess, '\0');
        reader_refuse(reader, node, guess.base, "a duration from %.*s%s", SLICE_ARG(range),
                      key->is_never_off ? "" : ", or 0 for off");
    }
    buffer_deinit(&guess);
    buffer_deinit(&range);
}

void value_size(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    struct buffer guess = {0};
    struct buffer range = {0};
    int64_t bytes = -1;

    if (key->may_be_auto && slice_equal(reader_text(node), SLICE("auto"))) {
        *(size_t *)to = 0;
        return;
    }
    if (node->kind == TOMLC_INTEGER) {
        bytes = node->integer;
    } else if (node->kind == TOMLC_STRING) {
        if (units_parse_size(reader_text(node), &bytes) == -EINVAL)
            units_guess_size(reader_text(node), &guess);
    }
    if (bytes >= key->min && bytes <= key->max) {
        *(size_t *)to = (size_t)bytes;
    } else {
        units_append_size(&range, key->min);
        buffer_append(&range, SLICE(" to "));
        units_append_size(&range, key->max);
        buffer_append_char(&guess, '\0');
        reader_refuse(reader, node, guess.base, "%sa size from %.*s",
                      key->may_be_auto ? "\"auto\" or " : "", SLICE_ARG(range));
    }
    buffer_deinit(&guess);
    buffer_deinit(&range);
}

void value_count(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    if (key->may_be_auto && slice_equal(reader_text(node), SLICE("auto")))
        *(unsigned *)to = 0;
    else if (node->kind == TOMLC_INTEGER && node->integer >= key->min && node->integer <= key->max)
        *(unsigned *)to = (unsigned)node->integer;
    else
        reader_refuse(reader, node, NULL, "%san integer from %lld to %lld",
                      key->may_be_auto ? "\"auto\" or " : "", (long long)key->min,
                      (long long)key->max);
}

void value_share(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    double share = node->kind == TOMLC_FLOAT     ? node->floating
                   : node->kind == TOMLC_INTEGER ? (double)node->integer
                                                 : -1;

    /* Written so that not-a-number fails. */
    if (share == 0 || (share * 100 >= (double)key->min && share * 100 <= (double)key->max))
        *(double *)to = share;
    else
        reader_refuse(reader, node, NULL, "a share from %.2f to %.2f, or 0 for off",
                      (double)key->min / 100, (double)key->max / 100);
}

void value_boolean(struct reader *reader, const struct schema_key *key,
                   const struct tomlc_node *node, void *to) {
    if (node->kind == TOMLC_BOOLEAN)
        *(bool *)to = node->boolean;
    else
        reader_refuse(reader, node, NULL, "true or false");
}

void value_choice(struct reader *reader, const struct schema_key *key,
                  const struct tomlc_node *node, void *to) {
    const struct choice *choice = value_find_choice(reader, key, node);

    if (choice)
        *(int *)to = choice->value;
}

const struct choice *value_find_choice(struct reader *reader, const struct schema_key *key,
                                       const struct tomlc_node *node) {
    for (const struct choice *c = key->choices; c->word; c++)
        if (is_word(node, c->word))
            return c;
    refuse_choice(reader, key, node);
    return NULL;
}

void value_name(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    if (is_name(reader_text(node)))
        value_replace(to, reader_text(node));
    else
        reader_refuse(reader, node, NULL, "a name of 1 to %d letters, digits, '.', '_' and '-'",
                      NAME_BYTES_MAX);
}

void value_reference(struct reader *reader, const struct schema_key *key,
                     const struct tomlc_node *node, void *to) {
    if (node->kind != TOMLC_STRING)
        reader_refuse(reader, node, NULL, "the name of a %s", key->name);
}

void value_log_file(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    if (is_word(node, "stderr") || is_path(reader_text(node)))
        value_replace(to, reader_text(node));
    else
        reader_refuse(reader, node, NULL, "\"stderr\" or %s", expected_path);
}

void value_log_access(struct reader *reader, const struct schema_key *key,
                      const struct tomlc_node *node, void *to) {
    if (is_word(node, "off")) {
        free(*(char **)to);
        *(char **)to = NULL;
    } else if (is_word(node, "stderr") || is_path(reader_text(node))) {
        value_replace(to, reader_text(node));
    } else {
        reader_refuse(reader, node, NULL, "\"stderr\", \"off\" or %s", expected_path);
    }
}

void value_state_file(struct reader *reader, const struct schema_key *key,
                      const struct tomlc_node *node, void *to) {
    if (is_path(reader_text(node)))
        value_replace(to, reader_text(node));
    else
        reader_refuse(reader, node, NULL,
                      "a path with a slash such as \"/var/lib/weir/state.json\"");
}

void value_listen(struct reader *reader, const struct schema_key *key,
                  const struct tomlc_node *node, void *to) {
    value_address(reader, node, ADDRESS_TO_LISTEN, to);
}

void value_admin(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    struct config_admin *admin = to;

    admin->is_on = !is_word(node, "off");
    if (admin->is_on)
        value_address(reader, node, ADDRESS_TO_LISTEN, &admin->listen);
    else
        address_deinit(&admin->listen);
}

bool value_address(struct reader *reader, const struct tomlc_node *node, enum address_use use,
                   struct config_address *to) {
    struct config_address address;
    struct buffer guess = {0};
    const char *fault = address_parse(&address, reader_text(node), use, &guess);

    if (fault) {
        buffer_append_char(&guess, '\0');
        reader_refuse(reader, node, guess.base, "%s", fault);
    } else {
        address_deinit(to);
        *to = address;
    }
    buffer_deinit(&guess);
    return !fault;
}

void value_token(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    struct slice text = reader_text(node);
    bool is_good = text.len >= TOKEN_BYTES_MIN && text.len <= TOKEN_BYTES_MAX;

    for (size_t i = 0; i < text.len; i++)
        is_good &= isgraph((unsigned char)text.base[i]) != 0;
    if (is_good)
        value_replace(to, text);
    else
        reader_refuse(reader, node, NULL, "%d to %d printable characters without blanks",
                      TOKEN_BYTES_MIN, TOKEN_BYTES_MAX);
}

void value_resolver(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    struct slice rest = reader_text(node);
    struct slice server;
    struct buffer list = {0};
    bool is_good = rest.len > 0;

    while (is_good && slice_next_element(&rest, &server)) {
        is_good = is_name_server(server);
        buffer_printf(&list, "%s%.*s", list.len ? "," : "", SLICE_ARG(server));
    }
    if (is_good && list.len > 0)
        value_replace(to, buffer_slice(&list));
    else
        reader_refuse(reader, node, NULL,
                      "name servers by address such as \"127.0.0.1:53, [::1]:53\"");
    buffer_deinit(&list);
}

void value_host(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    if (is_host(reader_text(node)))
        value_replace(to, reader_text(node));
    else
        reader_refuse(reader, node, NULL, "a host such as \"example.com\" or \"example.com:8080\"");
}

void value_file(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    struct slice text;

    if (reader_take_string(reader, node, "the path of a file", &text))
        value_replace(to, text);
}

void value_server_name(struct reader *reader, const struct schema_key *key,
                       const struct tomlc_node *node, void *to) {
    struct slice text = reader_text(node);
    struct config_cidr cidr;

    if (address_is_name(text) ||
        (text.len > 0 && !memchr(text.base, '/', text.len) && cidr_parse(&cidr, text) == 0))
        value_replace(to, text);
    else
        reader_refuse(reader, node, NULL,
                      "the name that a certificate is for such as \"example.com\"");
}

void value_replace(void *to, struct slice text) {
    char **owned = to;

    free(*owned);
    *owned = xstrndup(text.base, text.len);
}

/* Written as a string, or as a number where the word is one. */
static bool is_word(const struct tomlc_node *node, const char *word) {
    char number[24];

    if (node->kind == TOMLC_INTEGER) {
        snprintf(number, sizeof number, "%lld", (long long)node->integer);
        return strcmp(number, word) == 0;
    }
    return slice_equal(reader_text(node), slice_str(word));
}

static void refuse_choice(struct reader *reader, const struct schema_key *key,
                          const struct tomlc_node *node) {
    struct suggest suggest = {.word = reader_text(node)};
    struct buffer expected = {0};
    struct buffer guess = {0};
    bool is_list = false;

    for (const struct choice *c = key->choices; c->word; c++) {
        is_list = expected.len > 0;
        buffer_printf(&expected, "%s\"%s\"", is_list ? ", " : "", c->word);
        suggest_offer(&suggest, slice_str(c->word));
    }
    buffer_append(&guess, suggest.best);
    buffer_append_char(&guess, '\0');
    reader_refuse(reader, node, guess.base, "%s%.*s", is_list ? "one of " : "",
                  SLICE_ARG(expected));
    buffer_deinit(&expected);
    buffer_deinit(&guess);
}

static bool is_name(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum((unsigned char)text.base[i]) && !strchr("._-", text.base[i]))
            return false;
    return text.len > 0 && text.len <= NAME_BYTES_MAX;
}

/* A slash, so that "stdout" does not become a file of that name. */
static bool is_path(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.base[i] < 0x20 || text.base[i] == 0x7F)
            return false;
    return text.len < PATH_MAX && text.len > 0 && memchr(text.base, '/', text.len) &&
           text.base[text.len - 1] != '/';
}

static bool is_name_server(struct slice text) {
    struct config_address address;
    struct config_cidr cidr;
    struct buffer guess = {0};
    bool is_good = !memchr(text.base, '/', text.len) && cidr_parse(&cidr, text) == 0;

    if (!is_good && !address_parse(&address, text, ADDRESS_TO_DIAL, &guess)) {
        is_good = address.kind == ADDRESS_INET;
        address_deinit(&address);
    }
    buffer_deinit(&guess);
    return is_good;
}

/* RFC 9110 section 7.2: uri-host [ ":" port ]. */
static bool is_host(struct slice text) {
    struct buffer with_port = {0};
    struct buffer guess = {0};
    struct config_address address;
    bool is_good;

    if (address_is_name(text))
        return true;
    buffer_append(&with_port, text);
    if (text.len > 0 && (!memchr(text.base, ':', text.len) || text.base[text.len - 1] == ']'))
        buffer_append(&with_port, SLICE(":80"));
    is_good = !address_parse(&address, buffer_slice(&with_port), ADDRESS_TO_DIAL, &guess);
    if (is_good) {
        is_good = address.kind != ADDRESS_UNIX;
        address_deinit(&address);
    }
    buffer_deinit(&with_port);
    buffer_deinit(&guess);
    return is_good;
}
