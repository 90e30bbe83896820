#include "token.h"

#include "../common/json_scan.h"
#include "../common/settings.h"
#include "../common/text.h"
#include "base64url.h"

/* A token's parts, decoded into the call's memory. */
struct token_parts {
    struct weir_text header, payload, signature;
    struct weir_text input; /* what is signed: the encoded header and payload */
};

static bool split(const struct weir_host *host, struct weir_call *call, struct weir_text token,
                  struct token_parts *parts);
static bool decode(const struct weir_host *host, struct weir_call *call, struct weir_text encoded,
                   struct weir_text *decoded);
static json_t *parse(struct weir_text json);
static enum weir_signature algorithm_of(const json_t *header);
static bool is_signed(const struct weir_host *host, const struct jwt_keys *keys,
                      const struct token_parts *parts, const json_t *header, const char **why);

json_t *jwt_token_verify(const struct weir_host *host, struct weir_call *call,
                         const struct jwt_keys *keys, struct weir_text token, const char **why) {
    struct token_parts parts;
    json_t *header, *claims = NULL;

    *why = "it is no token";
    if (token.len > JWT_TOKEN_MAX || !split(host, call, token, &parts))
        return NULL;
    header = parse(parts.header);
    if (header && is_signed(host, keys, &parts, header, why)) {
        *why = "its payload is no JSON object";
        claims = parse(parts.payload);
    }
    json_decref(header);
    return claims;
}

static bool split(const struct weir_host *host, struct weir_call *call, struct weir_text token,
                  struct token_parts *parts) {
    size_t first = text_find(token, '.'), second;

    if (first == token.len)
        return false;
    second = first + 1 + text_find(text_part(token, first + 1, token.len), '.');
    if (second == token.len)
        return false;
    parts->input = text_part(token, 0, second);
    return decode(host, call, text_part(token, 0, first), &parts->header) &&
           decode(host, call, text_part(token, first + 1, second), &parts->payload) &&
           decode(host, call, text_part(token, second + 1, token.len), &parts->signature);
}

static bool decode(const struct weir_host *host, struct weir_call *call, struct weir_text encoded,
                   struct weir_text *decoded) {
    unsigned char *to = host->alloc(call, BASE64URL_DECODED_MAX(encoded.len));

    decoded->base = (const char *)to;
    return to && base64url_decode(encoded, to, &decoded->len);
}

/* An object; NULL: it is none, or larger than claims need to be. */
static json_t *parse(struct weir_text json) {
    static const struct json_scan_limits limits = {16, 256, 4096, JWT_TOKEN_MAX};
    json_t *root;

    if (json_scan(json, &limits) != JSON_SCAN_FITS)
        return NULL;
    root = json_loadb(json.base, json.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

/* 0: another one, and "none". */
static enum weir_signature algorithm_of(const json_t *header) {
    struct weir_text name = settings_text(json_object_get(header, "alg"));

    if (text_equal(name, WEIR_TEXT("RS256")))
        return WEIR_RS256;
    if (text_equal(name, WEIR_TEXT("ES256")))
        return WEIR_ES256;
    return text_equal(name, WEIR_TEXT("HS256")) ? WEIR_HS256 : (enum weir_signature)0;
}

/* A key is tried if it is for the token's algorithm and has its kid, or one of the two has none. */
static bool is_signed(const struct weir_host *host, const struct jwt_keys *keys,
                      const struct token_parts *parts, const json_t *header, const char **why) {
    enum weir_signature kind = algorithm_of(header);
    const json_t *kid = json_object_get(header, "kid");
    struct weir_text id = settings_text(kid);
    unsigned tried = 0;

    *why = "its algorithm is not accepted";
    if (kind == 0)
        return false;
    *why = "its header asks for more than is understood";
    if (json_object_get(header, "crit") || (kid && !json_is_string(kid)))
        return false;
    for (size_t i = 0; i < keys->count && tried < JWT_KEYS_TRIED_MAX; i++) {
        const struct jwt_key *key = &keys->list[i];

        if (key->kind != kind || (id.len > 0 && key->id.len > 0 && !text_equal(key->id, id)))
            continue;
        tried++;
        if (host->verify(kind, key->material, parts->input, parts->signature))
            return true;
    }
    *why = tried > 0 ? "its signature is wrong" : "no key of its algorithm and kid is known";
    return false;
}
