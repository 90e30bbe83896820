/* jwt: lets requests pass that bear a valid JSON Web Token (RFC 7519, RFC 6750).
 *
 * Signatures are RS256, ES256 or HS256, by the keys of a JWK Set file or by a secret; both are read
 * again when they change, and what is no better changes nothing. A token cannot choose how it is
 * verified: see keys.h. Claims go on in fields, which clients cannot forge, and in variables. */
#include "../common/load.h"
#include "../common/settings.h"
#include "../common/text.h"
#include "token.h"

#include <stdio.h>
#include <stdlib.h>

#define S INT64_C(1000000000)
#define DESCRIPTION_MAX 200 /* of why a token is not good */
#define PASSED_MAX 16       /* claims that go on in fields, and in variables */
#define VALUE_MAX 4096      /* bytes of one that goes on */

struct jwt {
    const struct weir_host *host;
    json_t *config; /* owned */
    struct weir_text set_path, secret_path, field, scheme, query;
    int64_t leeway_ns;
    bool is_optional, is_removed, needs_exp;
    json_t *issuers, *audiences, *required; /* in config; NULL: not asked for */
    json_t *require, *fields, *variables;
    struct weir_file *file; /* borrowed: host */
    uint64_t version;       /* of the keys */
    struct jwt_keys keys;
};

enum { EVENT_ACCEPTED, EVENT_MISSING, EVENT_INVALID, EVENT_FORBIDDEN };
static const char *const events[] = {"accepted", "missing", "invalid", "forbidden", NULL};

#define AT(member) offsetof(struct jwt, member)
static const struct setting settings[] = {
    {"jwks", SETTING_TEXT, AT(set_path), 1, 1000},
    {"secret", SETTING_TEXT, AT(secret_path), 1, 1000},
    {"field", SETTING_TOKEN, AT(field)},
    {"scheme", SETTING_TOKEN, AT(scheme)},
    {"query", SETTING_TEXT, AT(query)},
    {"issuers", SETTING_LIST, AT(issuers), 1, 64},
    {"audiences", SETTING_LIST, AT(audiences), 1, 64},
    {"required", SETTING_LIST, AT(required), 1, 64},
    {"require", SETTING_TABLE, AT(require)},
    {"require_exp", SETTING_BOOL, AT(needs_exp)},
    {"leeway", SETTING_DURATION, AT(leeway_ns), 0, 3600 * S},
    {"optional", SETTING_BOOL, AT(is_optional)},
    {"remove", SETTING_BOOL, AT(is_removed)},
    {"fields", SETTING_TABLE, AT(fields)},
    {"variables", SETTING_TABLE, AT(variables)},
};

static void end(void *state);
static int complete(struct jwt *plugin, char *why, size_t why_size);
static int check_claim_table(const json_t *table, const char *name, bool are_fields, char *why,
                             size_t why_size);
static int check_require(const json_t *table, char *why, size_t why_size);
static load_parse_fn take;
static enum weir_verdict judge(struct jwt *plugin, struct weir_call *call, const json_t *claims);
static const char *check_times(const struct jwt *plugin, const json_t *claims);
static const char *check_parties(const struct jwt *plugin, const json_t *claims);
static bool has_audience(const struct jwt *plugin, const json_t *aud);
static bool is_one_of(const json_t *claim, const json_t *wanted);
static bool remove_forged(const struct jwt *plugin, struct weir_call *call);
static const char *pass_on(const struct jwt *plugin, struct weir_call *call, const json_t *claims);
static bool to_text(const struct jwt *plugin, struct weir_call *call, const json_t *claim,
                    struct weir_text *out);
static enum weir_verdict refuse(struct jwt *plugin, struct weir_call *call, unsigned event,
                                const char *description);
static enum weir_verdict refuse_edits(struct jwt *plugin, struct weir_call *call);

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct jwt *plugin = calloc(1, sizeof *plugin);

    if (!plugin)
        return settings_fail(why, why_size, "there is no memory");
    plugin->host = host;
    plugin->field = WEIR_TEXT("authorization");
    plugin->scheme = WEIR_TEXT("Bearer");
    plugin->leeway_ns = 30 * S;
    plugin->needs_exp = true;
    plugin->config = settings_parse(config, why, why_size);
    if (!plugin->config ||
        settings_read(plugin->config, "", settings, sizeof settings / sizeof *settings, plugin, why,
                      why_size) != 0 ||
        complete(plugin, why, why_size) != 0) {
        end(plugin);
        return -1;
    }
    *state = plugin;
    return 0;
}

static void end(void *state) {
    struct jwt *plugin = state;

    jwt_keys_free(&plugin->keys);
    json_decref(plugin->config);
    free(plugin);
}

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    struct jwt *plugin = state;
    enum text_credential in_field = CREDENTIAL_NONE, in_query = CREDENTIAL_NONE;
    struct weir_text token = {0}, query_token = {0}, rest = {0};
    const char *wrong = NULL;
    enum weir_verdict verdict;
    json_t *claims;
    char why[256];

    if (load_file(plugin->host, plugin->file, &plugin->version, take, plugin, why, sizeof why))
        plugin->host->log(call, WEIR_LOG_ERROR, text_of(why));
    if (!remove_forged(plugin, call))
        return refuse_edits(plugin, call);
    if (plugin->field.len > 0)
        in_field = text_field_credential(request, plugin->field, plugin->scheme, &token);
    if (plugin->query.len > 0)
        in_query = text_query_credential(plugin->host, call, request->path, plugin->query,
                                         &query_token, &rest);
    if (in_field + in_query == 0 && plugin->is_optional)
        return WEIR_CONTINUE;
    if (in_field + in_query == 0)
        return refuse(plugin, call, EVENT_MISSING, "no token");
    if (in_field + in_query > 1)
        return refuse(plugin, call, EVENT_INVALID, "there is more than one token");
    claims =
        jwt_token_verify(plugin->host, call, &plugin->keys, in_query ? query_token : token, &wrong);
    if (!claims)
        return refuse(plugin, call, EVENT_INVALID, wrong);
    verdict = judge(plugin, call, claims);
    json_decref(claims);
    if (verdict == WEIR_CONTINUE && plugin->is_removed &&
        !(in_query ? plugin->host->set_path(call, rest)
                   : plugin->host->remove_field(call, plugin->field)))
        return refuse_edits(plugin, call);
    return verdict;
}

static int complete(struct jwt *plugin, char *why, size_t why_size) {
    bool has_set = plugin->set_path.len > 0;
    struct weir_text path = has_set ? plugin->set_path : plugin->secret_path;
    enum load_result loaded;

    if (has_set == (plugin->secret_path.len > 0))
        return settings_fail(why, why_size, "jwks, secret: expected one of the two");
    if (plugin->field.len == 0 && plugin->query.len == 0)
        return settings_fail(why, why_size,
                             "field, query: both are \"\"; expected where the token is");
    if (check_claim_table(plugin->fields, "fields", true, why, why_size) != 0 ||
        check_claim_table(plugin->variables, "variables", false, why, why_size) != 0 ||
        check_require(plugin->require, why, why_size) != 0)
        return -1;
    plugin->file = plugin->host->watch(plugin->host, path);
    if (!plugin->file)
        return settings_fail(why, why_size, "%s: '%.*s' cannot be read, or is larger than 1 MiB",
                             has_set ? "jwks" : "secret", TEXT_ARG(path));
    loaded = load_file(plugin->host, plugin->file, &plugin->version, take, plugin, why, why_size);
    if (loaded == LOAD_OLD)
        plugin->host->log(NULL, WEIR_LOG_ERROR, text_of(why));
    return loaded == LOAD_FAILED ? -1 : 0;
}

/* Of names, each with the name of a claim. */
static int check_claim_table(const json_t *table, const char *name, bool are_fields, char *why,
                             size_t why_size) {
    const char *key;
    json_t *claim;

    if (json_object_size(table) > PASSED_MAX)
        return settings_fail(why, why_size, "%s: found %zu, expected at most %d", name,
                             json_object_size(table), PASSED_MAX);
    json_object_foreach((json_t *)table, key, claim) {
        if (are_fields ? !text_is_token(text_of(key)) : !key[0] || !text_is_variable(text_of(key)))
            return settings_fail(why, why_size, "%s: found \"%.60s\", expected the name of a %s",
                                 name, key, are_fields ? "field" : "variable ([a-z0-9_])");
        if (json_string_length(claim) == 0)
            return settings_fail(why, why_size, "%s.%.60s: expected the name of a claim", name,
                                 key);
    }
    return 0;
}

/* Of claims, each with a list of texts. */
static int check_require(const json_t *table, char *why, size_t why_size) {
    const char *key;
    json_t *wanted;

    json_object_foreach((json_t *)table, key, wanted) {
        bool is_good = json_array_size(wanted) > 0;

        for (size_t i = 0; i < json_array_size(wanted); i++)
            is_good = is_good && json_is_string(json_array_get(wanted, i));
        if (!is_good)
            return settings_fail(why, why_size, "require.%.60s: expected a list of texts", key);
    }
    return 0;
}

static int take(void *state, struct weir_text text, char *why, size_t why_size) {
    struct jwt *plugin = state;
    bool has_set = plugin->set_path.len > 0;
    struct jwt_keys keys = {.count = 0};
    char what[200];
    int err = has_set ? jwt_keys_from_set(&keys, text, what, sizeof what)
                      : jwt_keys_from_secret(&keys, text, what, sizeof what);

    if (err) {
        jwt_keys_free(&keys);
        return settings_fail(why, why_size, "%s: '%.*s' is not used: %s",
                             has_set ? "jwks" : "secret",
                             TEXT_ARG(has_set ? plugin->set_path : plugin->secret_path), what);
    }
    jwt_keys_free(&plugin->keys);
    plugin->keys = keys;
    return 0;
}

/* Of a token that is signed. */
static enum weir_verdict judge(struct jwt *plugin, struct weir_call *call, const json_t *claims) {
    const char *wrong = check_times(plugin, claims), *name;
    json_t *wanted;

    if (!wrong)
        wrong = check_parties(plugin, claims);
    if (wrong)
        return refuse(plugin, call, EVENT_INVALID, wrong);
    json_object_foreach(plugin->require, name, wanted) {
        if (!is_one_of(json_object_get(claims, name), wanted))
            return refuse(plugin, call, EVENT_FORBIDDEN, "the token does not allow this");
    }
    wrong = pass_on(plugin, call, claims);
    if (wrong)
        return refuse(plugin, call, EVENT_INVALID, wrong);
    plugin->host->count(call, EVENT_ACCEPTED, 1);
    return WEIR_CONTINUE;
}

/* RFC 7519 sections 4.1.4 and 4.1.5. */
static const char *check_times(const struct jwt *plugin, const json_t *claims) {
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    double now = (double)plugin->host->unix_ns() / (double)S;
    double leeway = (double)plugin->leeway_ns / (double)S;

    if (!exp && plugin->needs_exp)
        return "it has no exp";
    if ((exp && !json_is_number(exp)) || (nbf && !json_is_number(nbf)))
        return "its exp or nbf is no number";
    if (exp && now >= json_number_value(exp) + leeway)
        return "it has expired";
    if (nbf && now + leeway < json_number_value(nbf))
        return "it is not valid yet";
    return NULL;
}

static const char *check_parties(const struct jwt *plugin, const json_t *claims) {
    const json_t *iss = json_object_get(claims, "iss");

    if (plugin->issuers &&
        !(json_is_string(iss) && settings_list_has(plugin->issuers, settings_text(iss), false)))
        return "its issuer is not accepted";
    if (!has_audience(plugin, json_object_get(claims, "aud")))
        return "it is for another audience";
    for (size_t i = 0; i < json_array_size(plugin->required); i++)
        if (!json_object_get(claims, json_string_value(json_array_get(plugin->required, i))))
            return "it lacks a required claim";
    return NULL;
}

/* RFC 7519 section 4.1.3: who does not find itself in aud must reject the token; so a token for
 * somebody is none for those who were not told who they are. */
static bool has_audience(const struct jwt *plugin, const json_t *aud) {
    if (!aud || json_is_string(aud))
        return aud ? settings_list_has(plugin->audiences, settings_text(aud), true)
                   : !plugin->audiences ||
                         settings_list_has(plugin->audiences, WEIR_TEXT(""), true);
    for (size_t i = 0; i < json_array_size(aud); i++) {
        const json_t *one = json_array_get(aud, i);

        if (json_is_string(one) && settings_list_has(plugin->audiences, settings_text(one), true))
            return true;
    }
    return false;
}

/* A text, one of its words (scope is such a list: RFC 8693 section 4.2), or one of an array. */
static bool is_one_of(const json_t *claim, const json_t *wanted) {
    struct weir_text words = settings_text(claim);

    for (size_t i = 0; i < json_array_size(claim); i++)
        if (json_is_string(json_array_get(claim, i)) &&
            settings_list_has(wanted, settings_text(json_array_get(claim, i)), false))
            return true;
    if (!json_is_string(claim))
        return false;
    if (settings_list_has(wanted, words, false))
        return true;
    while (words.len > 0) {
        size_t end = text_find(words, ' ');

        if (end > 0 && settings_list_has(wanted, text_part(words, 0, end), false))
            return true;
        words = text_part(words, end < words.len ? end + 1 : end, words.len);
    }
    return false;
}

/* What clients send under names that stand for claims. */
static bool remove_forged(const struct jwt *plugin, struct weir_call *call) {
    const char *name;
    json_t *claim;
    bool is_done = true;

    json_object_foreach(plugin->fields, name, claim) {
        is_done = plugin->host->remove_field(call, text_of(name)) && is_done;
    }
    return is_done;
}

/* NULL, or what is wrong. */
static const char *pass_on(const struct jwt *plugin, struct weir_call *call, const json_t *claims) {
    struct weir_text value;
    const char *name;
    json_t *from;

    json_object_foreach(plugin->fields, name, from) {
        const json_t *claim = json_object_get(claims, json_string_value(from));

        if (claim && (!to_text(plugin, call, claim, &value) ||
                      !plugin->host->set_field(call, text_of(name), value)))
            return "a claim of it cannot go on in a field";
    }
    json_object_foreach(plugin->variables, name, from) {
        const json_t *claim = json_object_get(claims, json_string_value(from));

        if (claim && (!to_text(plugin, call, claim, &value) ||
                      !plugin->host->set_variable(call, text_of(name), value)))
            return "a claim of it cannot go on in a variable";
    }
    return NULL;
}

/* Texts as they are, numbers and truths as JSON writes them, arrays of texts with commas. */
static bool to_text(const struct jwt *plugin, struct weir_call *call, const json_t *claim,
                    struct weir_text *out) {
    size_t count = json_is_array(claim) ? json_array_size(claim) : 1, len = 0;
    char *to = plugin->host->alloc(call, VALUE_MAX);

    if (!to)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(claim) ? json_array_get(claim, i) : claim;
        struct weir_text text = settings_text(one);

        if (i > 0 && len < VALUE_MAX)
            to[len++] = ',';
        if (json_is_string(one)) {
            /* A comma in one of many would make two of it. */
            if (!text_is_value(text) || text.len > VALUE_MAX - len ||
                (json_is_array(claim) && text_find(text, ',') < text.len))
                return false;
            if (text.len > 0)
                memcpy(to + len, text.base, text.len);
            len += text.len;
        } else {
            size_t size = json_is_number(one) || json_is_boolean(one)
                              ? json_dumpb(one, to + len, VALUE_MAX - len, JSON_ENCODE_ANY)
                              : 0;

            if (size == 0 || size > VALUE_MAX - len)
                return false;
            len += size;
        }
    }
    *out = text_trim((struct weir_text){to, len});
    return true;
}

/* RFC 6750 section 3. */
static enum weir_verdict refuse(struct jwt *plugin, struct weir_call *call, unsigned event,
                                const char *description) {
    static const char *const errors[] = {
        [EVENT_INVALID] = "invalid_token", [EVENT_FORBIDDEN] = "insufficient_scope"};
    const struct weir_host *host = plugin->host;
    char challenge[DESCRIPTION_MAX] = "Bearer";

    host->count(call, event, 1);
    host->refuse(call, event == EVENT_FORBIDDEN ? 403 : 401, text_of(description),
                 event == EVENT_FORBIDDEN ? WEIR_TEXT("ask for a token that does")
                                          : WEIR_TEXT("send a valid token"));
    if (event != EVENT_MISSING)
        snprintf(challenge, sizeof challenge, "Bearer error=\"%s\", error_description=\"%s\"",
                 errors[event], description);
    host->respond_field(call, WEIR_TEXT("www-authenticate"), text_of(challenge));
    return WEIR_RESPOND;
}

static enum weir_verdict refuse_edits(struct jwt *plugin, struct weir_call *call) {
    plugin->host->log(call, WEIR_LOG_ERROR,
                      WEIR_TEXT("cannot edit the request: weir allows no edit of a field in "
                                "`fields`, or of `field`"));
    plugin->host->refuse(call, 500, WEIR_TEXT("the request cannot be edited"),
                         WEIR_TEXT("tell the operator"));
    return WEIR_RESPOND;
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .name = "jwt",
    .version = WEIR_VERSION,
    .events = events,
    .init = init,
    .request = on_request,
    .end = end,
};
