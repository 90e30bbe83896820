/* api_key: lets requests pass that show a known key.
 *
 * Keys are in a file, hashed: a line is the SHA-256 of a key in hexadecimal, spaces, and the name
 * of whom it belongs to; lines that are empty or begin with '#' are passed over. The file is read
 * again when it changes; one with a mistake changes nothing.
 *
 * The key that a request shows is hashed and compared with all of the file, each time with every
 * bit of every line, so the time that it takes tells nothing. Its holder's name goes on in a field,
 * which clients cannot forge, and in a variable; the key itself does not go on. */
#include "common/load.h"
#include "common/settings.h"
#include "common/text.h"

#include <inttypes.h>
#include <stdlib.h>

#define DIGEST_WORDS 4
#define NAME_MAX_BYTES 128
#define REMEDY WEIR_TEXT("send a valid API key")

struct holder {
    uint64_t digest[DIGEST_WORDS];
    char name[NAME_MAX_BYTES + 1];
};

struct key_list {
    struct holder *holders; /* owned */
    size_t count;
};

struct api_key {
    const struct weir_host *host;
    json_t *config; /* owned */
    struct weir_text path, field, scheme, query, name_field, variable;
    json_t *allow; /* in config; NULL: every holder */
    bool is_removed;
    struct weir_file *file; /* borrowed: host */
    uint64_t version;       /* of the list */
    struct key_list keys;
};

enum { EVENT_ACCEPTED, EVENT_MISSING, EVENT_UNKNOWN, EVENT_FORBIDDEN };
static const char *const events[] = {"accepted", "missing", "unknown", "forbidden", NULL};

#define AT(member) offsetof(struct api_key, member)
static const struct setting settings[] = {
    {"file", SETTING_TEXT, AT(path), 1, 1000, true}, {"field", SETTING_TOKEN, AT(field)},
    {"scheme", SETTING_TOKEN, AT(scheme)},           {"query", SETTING_TEXT, AT(query)},
    {"allow", SETTING_LIST, AT(allow), 1, 1000},     {"name_field", SETTING_TOKEN, AT(name_field)},
    {"variable", SETTING_VARIABLE, AT(variable)},    {"remove", SETTING_BOOL, AT(is_removed)},
};

static void end(void *state);
static load_parse_fn take;
static int parse(struct weir_text text, struct key_list *out, char *why, size_t why_size);
static int parse_line(struct weir_text line, struct holder *holder);
static int by_digest(const void *a, const void *b);
static const struct holder *find(const struct key_list *keys, const unsigned char *digest);
static enum weir_verdict refuse(struct api_key *plugin, struct weir_call *call, unsigned event,
                                struct weir_text title);
static enum weir_verdict pass(struct api_key *plugin, struct weir_call *call,
                              const struct holder *holder, bool is_query, struct weir_text rest);

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct api_key *plugin = calloc(1, sizeof *plugin);
    enum load_result loaded;

    if (!plugin)
        return settings_fail(why, why_size, "there is no memory");
    *plugin = (struct api_key){.host = host,
                               .field = WEIR_TEXT("x-api-key"),
                               .name_field = WEIR_TEXT("x-api-key-name"),
                               .variable = WEIR_TEXT("api_key"),
                               .is_removed = true};
    plugin->config = settings_parse(config, why, why_size);
    if (!plugin->config || settings_read(plugin->config, "", settings,
                                         sizeof settings / sizeof *settings, plugin, why, why_size))
        goto fail;
    if (plugin->field.len == 0 && plugin->query.len == 0) {
        settings_fail(why, why_size, "field, query: both are \"\"; expected where the key is");
        goto fail;
    }
    plugin->file = host->watch(host, plugin->path);
    if (!plugin->file) {
        settings_fail(why, why_size, "file: '%.*s' cannot be read, or is larger than 1 MiB",
                      TEXT_ARG(plugin->path));
        goto fail;
    }
    loaded = load_file(host, plugin->file, &plugin->version, take, plugin, why, why_size);
    if (loaded == LOAD_FAILED)
        goto fail;
    if (loaded == LOAD_OLD)
        host->log(NULL, WEIR_LOG_ERROR, text_of(why));
    *state = plugin;
    return 0;
fail:
    end(plugin);
    return -1;
}

static void end(void *state) {
    struct api_key *plugin = state;

    free(plugin->keys.holders);
    json_decref(plugin->config);
    free(plugin);
}

static enum weir_verdict request(void *state, struct weir_call *call,
                                 const struct weir_request *request) {
    struct api_key *plugin = state;
    enum text_credential in_field = CREDENTIAL_NONE, in_query = CREDENTIAL_NONE;
    struct weir_text key = {0}, query_key = {0}, rest = {0};
    const struct holder *holder;
    unsigned char digest[32];
    char why[256];

    if (load_file(plugin->host, plugin->file, &plugin->version, take, plugin, why, sizeof why))
        plugin->host->log(call, WEIR_LOG_ERROR, text_of(why));
    if (plugin->field.len > 0)
        in_field = text_field_credential(request, plugin->field, plugin->scheme, &key);
    if (plugin->query.len > 0)
        in_query = text_query_credential(plugin->host, call, request->path, plugin->query,
                                         &query_key, &rest);
    if (in_field + in_query > 1)
        return refuse(plugin, call, EVENT_UNKNOWN, WEIR_TEXT("more than one API key"));
    if (in_field + in_query == 0)
        return refuse(plugin, call, EVENT_MISSING, WEIR_TEXT("no API key"));
    plugin->host->sha256(in_query ? query_key : key, digest);
    holder = find(&plugin->keys, digest);
    if (!holder)
        return refuse(plugin, call, EVENT_UNKNOWN, WEIR_TEXT("unknown API key"));
    if (plugin->allow && !settings_list_has(plugin->allow, text_of(holder->name), false)) {
        plugin->host->count(call, EVENT_FORBIDDEN, 1);
        plugin->host->refuse(call, 403, WEIR_TEXT("this API key may not be used here"),
                             WEIR_TEXT("use another key"));
        return WEIR_RESPOND;
    }
    return pass(plugin, call, holder, in_query == CREDENTIAL_ONE, rest);
}

static int take(void *state, struct weir_text text, char *why, size_t why_size) {
    struct api_key *plugin = state;
    struct key_list keys = {0};
    char what[160];

    if (parse(text, &keys, what, sizeof what) != 0) {
        free(keys.holders);
        return settings_fail(why, why_size, "file: '%.*s' is not used: %s", TEXT_ARG(plugin->path),
                             what);
    }
    free(plugin->keys.holders);
    plugin->keys = keys;
    return 0;
}

static int parse(struct weir_text text, struct key_list *out, char *why, size_t why_size) {
    size_t lines = 1;

    for (size_t i = 0; i < text.len; i++)
        lines += text.base[i] == '\n';
    out->holders = calloc(lines, sizeof *out->holders);
    if (!out->holders)
        return settings_fail(why, why_size, "there is no memory for its %zu lines", lines);
    for (size_t number = 1, at = 0; at < text.len; number++) {
        struct weir_text line = text_part(text, at, text.len);

        line.len = text_find(line, '\n');
        at += line.len + 1;
        if (line.len > 0 && line.base[line.len - 1] == '\r')
            line.len--;
        line = text_trim(line);
        if (line.len == 0 || line.base[0] == '#')
            continue;
        if (parse_line(line, &out->holders[out->count]) != 0)
            return settings_fail(why, why_size,
                                 "line %zu: expected 64 hexadecimal digits and a name of at most "
                                 "%d visible characters",
                                 number, NAME_MAX_BYTES);
        out->count++;
    }
    qsort(out->holders, out->count, sizeof *out->holders, by_digest);
    for (size_t i = 1; i < out->count; i++)
        if (by_digest(&out->holders[i - 1], &out->holders[i]) == 0)
            return settings_fail(why, why_size, "'%s' and '%s' have the same key",
                                 out->holders[i - 1].name, out->holders[i].name);
    return 0;
}

static int parse_line(struct weir_text line, struct holder *holder) {
    unsigned char digest[32];
    struct weir_text name;

    if (line.len <= 64 || (line.base[64] != ' ' && line.base[64] != '\t') ||
        !text_from_hex(text_part(line, 0, 64), digest))
        return -1;
    name = text_trim(text_part(line, 64, line.len));
    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return -1;
    for (size_t i = 0; i < name.len; i++)
        if (name.base[i] <= ' ' || name.base[i] > '~')
            return -1;
    memcpy(holder->digest, digest, sizeof digest);
    memcpy(holder->name, name.base, name.len);
    return 0;
}

static int by_digest(const void *a, const void *b) {
    return memcmp(((const struct holder *)a)->digest, ((const struct holder *)b)->digest,
                  sizeof(uint64_t) * DIGEST_WORDS);
}

/* Looks at all of them, whether one was found or not. */
static const struct holder *find(const struct key_list *keys, const unsigned char *digest) {
    uint64_t words[DIGEST_WORDS];
    size_t found = 0;

    memcpy(words, digest, sizeof words);
    for (size_t i = 0; i < keys->count; i++) {
        uint64_t differ = 0;

        for (unsigned word = 0; word < DIGEST_WORDS; word++)
            differ |= keys->holders[i].digest[word] ^ words[word];
        /* All ones when nothing differs; no branch. */
        found |= (i + 1) & ((((differ | -differ) >> 63) & 1) - 1);
    }
    return found > 0 && found <= keys->count ? &keys->holders[found - 1] : NULL;
}

/* RFC 9110 section 15.5.2 wants a challenge. */
static enum weir_verdict refuse(struct api_key *plugin, struct weir_call *call, unsigned event,
                                struct weir_text title) {
    plugin->host->count(call, event, 1);
    plugin->host->refuse(call, 401, title, REMEDY);
    plugin->host->respond_field(call, WEIR_TEXT("www-authenticate"),
                                plugin->scheme.len > 0 ? plugin->scheme : WEIR_TEXT("ApiKey"));
    return WEIR_RESPOND;
}

static enum weir_verdict pass(struct api_key *plugin, struct weir_call *call,
                              const struct holder *holder, bool is_query, struct weir_text rest) {
    const struct weir_host *host = plugin->host;
    struct weir_text name = text_of(holder->name);
    bool is_done = true;

    if (plugin->is_removed && is_query)
        is_done = host->set_path(call, rest);
    else if (plugin->is_removed)
        is_done = host->remove_field(call, plugin->field);
    if (plugin->name_field.len > 0)
        is_done = host->set_field(call, plugin->name_field, name) && is_done;
    if (plugin->variable.len > 0)
        is_done = host->set_variable(call, plugin->variable, name) && is_done;
    if (!is_done) {
        host->log(call, WEIR_LOG_ERROR,
                  WEIR_TEXT("cannot edit the request: weir allows no edit of field or name_field, "
                            "or no such variable"));
        host->refuse(call, 500, WEIR_TEXT("the request cannot be edited"),
                     WEIR_TEXT("tell the operator"));
        return WEIR_RESPOND;
    }
    host->count(call, EVENT_ACCEPTED, 1);
    return WEIR_CONTINUE;
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .name = "api_key",
    .version = WEIR_VERSION,
    .events = events,
    .init = init,
    .request = request,
    .end = end,
};
