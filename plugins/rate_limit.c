/* rate_limit: so many requests in so much time, for each client, field value, variable or route.
 *
 * A token bucket, kept as GCRA keeps it: one number per key, the time at which the bucket will be
 * full again. It is in a table of cells, so one rate holds over all workers, gateways and reloads;
 * the table is bounded, and who was not seen for longest is forgotten first. Responses tell what is
 * left (draft-ietf-httpapi-ratelimit-headers-10). */
#include "common/settings.h"
#include "common/text.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define S INT64_C(1000000000)
#define TRIES_MAX 1000 /* to change a cell that others change */
#define FIELD_SIZE 96  /* of a RateLimit field's value */
#define POLICY_MAX 24

enum key_source { KEY_CLIENT, KEY_ROUTE, KEY_FIELD, KEY_VARIABLE };

struct rate_limit {
    const struct weir_host *host;
    json_t *config; /* owned */
    struct weir_text policy, key_text;
    int64_t limit, burst, window_ns, max_keys, ipv4_bits, ipv6_bits;
    bool has_fields, is_forwarded;
    enum key_source source;
    struct weir_text key_name; /* of a field or variable; in config */
    int64_t interval_ns;       /* from one token to the next */
    struct weir_table *table;  /* borrowed: host */
    char variable[40];         /* what response() is to say */
    char policy_field[FIELD_SIZE];
};

/* What a request was told. */
struct verdict {
    bool is_allowed;
    int64_t left;     /* tokens */
    int64_t full_ns;  /* until the bucket is full */
    int64_t retry_ns; /* until there is a token */
};

enum { EVENT_ALLOWED, EVENT_LIMITED, EVENT_UNCOUNTED };
static const char *const events[] = {"allowed", "limited", "uncounted", NULL};

#define AT(member) offsetof(struct rate_limit, member)
static const struct setting settings[] = {
    {"limit", SETTING_INTEGER, AT(limit), 1, 1000000000, true},
    {"window", SETTING_DURATION, AT(window_ns), S / 1000, 366 * 86400 * S},
    {"burst", SETTING_INTEGER, AT(burst), 1, 1000000000},
    {"key", SETTING_TEXT, AT(key_text), 1, 256},
    {"name", SETTING_VARIABLE, AT(policy)},
    {"forwarded", SETTING_BOOL, AT(is_forwarded)},
    {"fields", SETTING_BOOL, AT(has_fields)},
    {"max_keys", SETTING_INTEGER, AT(max_keys), 1, 262144},
    {"ipv4_bits", SETTING_INTEGER, AT(ipv4_bits), 1, 32},
    {"ipv6_bits", SETTING_INTEGER, AT(ipv6_bits), 1, 128},
};

static void end(void *state);
static int complete(struct rate_limit *plugin, char *why, size_t why_size);
static size_t make_key(struct rate_limit *plugin, struct weir_call *call,
                       const struct weir_request *request, char to[WEIR_KEY_MAX]);
static struct weir_text client_of(const struct rate_limit *plugin,
                                  const struct weir_request *request);
static size_t key_of_address(const struct rate_limit *plugin, struct weir_text address,
                             char to[WEIR_KEY_MAX]);
static size_t key_of_text(const struct rate_limit *plugin, char kind, struct weir_text text,
                          char to[WEIR_KEY_MAX]);
static bool take(struct rate_limit *plugin, struct weir_text key, struct verdict *verdict);
static struct weir_text describe(const struct rate_limit *plugin, const struct verdict *verdict,
                                 char to[FIELD_SIZE]);

static inline int64_t seconds_up(int64_t ns) {
    return (ns + S - 1) / S;
}

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct rate_limit *plugin = calloc(1, sizeof *plugin);

    if (!plugin)
        return settings_fail(why, why_size, "there is no memory");
    *plugin = (struct rate_limit){.host = host,
                                  .policy = WEIR_TEXT("default"),
                                  .key_text = WEIR_TEXT("client"),
                                  .window_ns = 60 * S,
                                  .max_keys = 16384,
                                  .ipv4_bits = 32,
                                  .ipv6_bits = 64,
                                  .is_forwarded = true,
                                  .has_fields = true};
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
    struct rate_limit *plugin = state;

    json_decref(plugin->config);
    free(plugin);
}

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    struct rate_limit *plugin = state;
    const struct weir_host *host = plugin->host;
    char key[WEIR_KEY_MAX], text[FIELD_SIZE], retry[24];
    size_t key_len = make_key(plugin, call, request, key);
    struct verdict verdict;

    if (!take(plugin, (struct weir_text){key, key_len}, &verdict)) {
        host->count(call, EVENT_UNCOUNTED, 1);
        return WEIR_CONTINUE;
    }
    if (verdict.is_allowed) {
        host->count(call, EVENT_ALLOWED, 1);
        if (plugin->has_fields) {
            host->set_variable(call, text_of(plugin->variable), describe(plugin, &verdict, text));
            if (WEIR_HAS(host, want_response))
                host->want_response(call);
        }
        return WEIR_CONTINUE;
    }
    host->count(call, EVENT_LIMITED, 1);
    host->refuse(call, 429, WEIR_TEXT("too many requests"), WEIR_TEXT("wait, then try again"));
    snprintf(retry, sizeof retry, "%" PRId64, seconds_up(verdict.retry_ns));
    host->respond_field(call, WEIR_TEXT("retry-after"), text_of(retry));
    if (plugin->has_fields) {
        host->respond_field(call, WEIR_TEXT("ratelimit-policy"), text_of(plugin->policy_field));
        host->respond_field(call, WEIR_TEXT("ratelimit"), describe(plugin, &verdict, text));
    }
    return WEIR_RESPOND;
}

static enum weir_verdict on_response(void *state, struct weir_call *call,
                                     const struct weir_request *request,
                                     const struct weir_response *response) {
    struct rate_limit *plugin = state;
    struct weir_text said = plugin->host->variable(call, text_of(plugin->variable));

    if (plugin->has_fields && said.len > 0) {
        plugin->host->add_field(call, WEIR_TEXT("ratelimit-policy"), text_of(plugin->policy_field));
        plugin->host->add_field(call, WEIR_TEXT("ratelimit"), said);
    }
    return WEIR_CONTINUE;
}

static int complete(struct rate_limit *plugin, char *why, size_t why_size) {
    struct weir_text key = plugin->key_text;
    char table[64];

    if (plugin->burst == 0)
        plugin->burst = plugin->limit;
    plugin->interval_ns = plugin->window_ns / plugin->limit;
    if (plugin->interval_ns < 1000 || plugin->interval_ns > INT64_MAX / 4 / plugin->burst)
        return settings_fail(why, why_size,
                             "limit, window, burst: are too far apart; expected at "
                             "most 1000 a millisecond, and a burst that is refilled "
                             "within 70 years");
    if (plugin->policy.len == 0 || plugin->policy.len > POLICY_MAX)
        return settings_fail(why, why_size, "name: expected 1 to %d of a-z, 0-9 and _", POLICY_MAX);
    if (text_equal(key, WEIR_TEXT("client"))) {
        plugin->source = KEY_CLIENT;
    } else if (text_equal(key, WEIR_TEXT("route"))) {
        plugin->source = KEY_ROUTE;
    } else if (text_starts(key, WEIR_TEXT("field:")) && text_is_token(text_part(key, 6, key.len))) {
        plugin->source = KEY_FIELD;
        plugin->key_name = text_part(key, 6, key.len);
    } else if (text_starts(key, WEIR_TEXT("variable:")) && key.len > 9 &&
               text_is_variable(text_part(key, 9, key.len))) {
        plugin->source = KEY_VARIABLE;
        plugin->key_name = text_part(key, 9, key.len);
    } else {
        return settings_fail(why, why_size,
                             "key: found \"%.*s\", expected \"client\", \"route\", \"field:NAME\" "
                             "or \"variable:NAME\"",
                             TEXT_ARG(key));
    }
    snprintf(plugin->variable, sizeof plugin->variable, "rate_%.*s", TEXT_ARG(plugin->policy));
    snprintf(plugin->policy_field, sizeof plugin->policy_field, "\"%.*s\";q=%" PRId64 ";w=%" PRId64,
             TEXT_ARG(plugin->policy), plugin->limit, seconds_up(plugin->window_ns));
    snprintf(table, sizeof table, "rate_%.*s", TEXT_ARG(plugin->policy));
    plugin->table = plugin->host->table(plugin->host, text_of(table), (unsigned)plugin->max_keys);
    if (!plugin->table)
        return settings_fail(why, why_size,
                             "max_keys: there is no room for a table of %" PRId64
                             " keys; ask for fewer",
                             plugin->max_keys);
    return 0;
}

/* A request without the field or variable is its client's. */
static size_t make_key(struct rate_limit *plugin, struct weir_call *call,
                       const struct weir_request *request, char to[WEIR_KEY_MAX]) {
    const struct weir_field *field;
    struct weir_text text;

    switch (plugin->source) {
    case KEY_ROUTE:
        return key_of_text(plugin, 'r', request->route, to);
    case KEY_FIELD:
        field = text_find_field(request->fields, request->field_count, plugin->key_name, NULL);
        if (field && field->value.len > 0)
            return key_of_text(plugin, 'f', field->value, to);
        break;
    case KEY_VARIABLE:
        text = plugin->host->variable(call, plugin->key_name);
        if (text.len > 0)
            return key_of_text(plugin, 'v', text, to);
        break;
    case KEY_CLIENT:
        break;
    }
    return key_of_address(plugin, client_of(plugin, request), to);
}

/* Who connects, or whom that one names last in X-Forwarded-For, if it is trusted to. */
static struct weir_text client_of(const struct rate_limit *plugin,
                                  const struct weir_request *request) {
    const struct weir_field *field = NULL, *last = NULL;
    struct weir_text address;

    while (plugin->is_forwarded && request->is_trusted &&
           (field = text_find_field(request->fields, request->field_count,
                                    WEIR_TEXT("x-forwarded-for"), field)))
        last = field;
    if (!last)
        return request->client_address;
    address = last->value;
    while (text_find(address, ',') < address.len)
        address = text_part(address, text_find(address, ',') + 1, address.len);
    address = text_trim(address);
    return address.len > 0 ? address : request->client_address;
}

/* The address's network: who has one IPv6 address has 2^64 of them. */
static size_t key_of_address(const struct rate_limit *plugin, struct weir_text address,
                             char to[WEIR_KEY_MAX]) {
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    unsigned char bytes[16];
    char text[INET6_ADDRSTRLEN];
    size_t len = 16, bits = (size_t)plugin->ipv6_bits;

    if (address.len >= sizeof text)
        return key_of_text(plugin, 'u', address, to);
    memcpy(text, address.base, address.len);
    text[address.len] = '\0';
    if (inet_pton(AF_INET, text, bytes) == 1) {
        len = 4;
    } else if (inet_pton(AF_INET6, text, bytes) != 1) {
        return key_of_text(plugin, 'u', address, to);
    } else if (memcmp(bytes, mapped, sizeof mapped) == 0) {
        memmove(bytes, bytes + sizeof mapped, 4);
        len = 4;
    }
    if (len == 4)
        bits = (size_t)plugin->ipv4_bits;
    for (size_t i = 0; i < len; i++) {
        size_t kept = bits > i * 8 ? bits - i * 8 : 0;

        if (kept < 8)
            bytes[i] &= (unsigned char)(0xff00 >> kept);
    }
    to[0] = len == 4 ? '4' : '6';
    memcpy(to + 1, bytes, len);
    return 1 + len;
}

static size_t key_of_text(const struct rate_limit *plugin, char kind, struct weir_text text,
                          char to[WEIR_KEY_MAX]) {
    to[0] = kind;
    if (text.len < WEIR_KEY_MAX) {
        memcpy(to + 1, text.base, text.len);
        return 1 + text.len;
    }
    to[0] = (char)(kind - 'a' + 'A'); /* a digest is no text of another */
    plugin->host->sha256(text, (unsigned char *)to + 1);
    return 1 + 32;
}

/* False: others changed the cell all the while. */
static bool take(struct rate_limit *plugin, struct weir_text key, struct verdict *verdict) {
    const struct weir_host *host = plugin->host;
    int64_t depth_ns = plugin->interval_ns * plugin->burst;
    struct weir_cell cell;

    if (!host->cell_get(plugin->table, key, &cell))
        return false;
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        int64_t now_ns = host->now_ns(), full_ns = cell.a;
        /* It was written under other settings: from now on these hold. */
        bool is_foreign = full_ns > now_ns + depth_ns;

        if (full_ns < now_ns)
            full_ns = now_ns;
        if (is_foreign)
            full_ns = now_ns + depth_ns;
        verdict->is_allowed = full_ns + plugin->interval_ns <= now_ns + depth_ns;
        if (verdict->is_allowed)
            full_ns += plugin->interval_ns;
        verdict->retry_ns = full_ns + plugin->interval_ns - depth_ns - now_ns;
        verdict->full_ns = full_ns - now_ns;
        verdict->left = (depth_ns - verdict->full_ns) / plugin->interval_ns;
        if ((!verdict->is_allowed && !is_foreign) ||
            host->cell_swap(plugin->table, key, &cell, (struct weir_cell){full_ns, 0}))
            return true;
    }
    return false;
}

static struct weir_text describe(const struct rate_limit *plugin, const struct verdict *verdict,
                                 char to[FIELD_SIZE]) {
    int len = snprintf(to, FIELD_SIZE, "\"%.*s\";r=%" PRId64 ";t=%" PRId64,
                       TEXT_ARG(plugin->policy), verdict->left,
                       seconds_up(verdict->left > 0 ? verdict->full_ns : verdict->retry_ns));

    return (struct weir_text){to, (size_t)len};
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .flags = WEIR_SKIPPABLE | WEIR_RESPONSE_IF_WANTED,
    .name = "rate_limit",
    .version = WEIR_VERSION,
    .events = events,
    .init = init,
    .request = on_request,
    .response = on_response,
    .end = end,
};
