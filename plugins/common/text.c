#include "text.h"

static int hex_value(char c);
static bool is_parameter(struct weir_text pair, struct weir_text name, struct weir_text *value);
static bool decode(struct weir_text encoded, char *to, size_t *len);

bool text_is_token(struct weir_text text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c != '\0' && strchr("!#$%&'*+-.^_`|~", c))))
            return false;
    }
    return text.len > 0;
}

bool text_is_variable(struct weir_text text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '_'))
            return false;
    }
    return text.len <= 32;
}

bool text_is_value(struct weir_text text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

const struct weir_field *text_find_field(const struct weir_field *fields, size_t count,
                                         struct weir_text name, const struct weir_field *after) {
    for (size_t i = after ? (size_t)(after - fields) + 1 : 0; i < count; i++)
        if (text_equal_case(fields[i].name, name))
            return &fields[i];
    return NULL;
}

enum text_credential text_field_credential(const struct weir_request *request,
                                           struct weir_text name, struct weir_text scheme,
                                           struct weir_text *value) {
    enum text_credential found = CREDENTIAL_NONE;
    const struct weir_field *field = NULL;

    while ((field = text_find_field(request->fields, request->field_count, name, field))) {
        struct weir_text text = field->value;

        if (scheme.len > 0) {
            if (text.len <= scheme.len || text.base[scheme.len] != ' ' ||
                !text_equal_case(text_part(text, 0, scheme.len), scheme))
                continue;
            text = text_trim(text_part(text, scheme.len, text.len));
        }
        if (found != CREDENTIAL_NONE)
            return CREDENTIAL_MANY;
        found = CREDENTIAL_ONE;
        *value = text;
    }
    return found;
}

enum text_credential text_query_credential(const struct weir_host *host, struct weir_call *call,
                                           struct weir_text path, struct weir_text name,
                                           struct weir_text *value, struct weir_text *rest) {
    size_t at = text_find(path, '?'), len = at;
    enum text_credential found = CREDENTIAL_NONE;
    struct weir_text encoded = {0};
    char *kept, *decoded;

    if (at == path.len)
        return CREDENTIAL_NONE;
    kept = host->alloc(call, path.len);
    decoded = host->alloc(call, path.len);
    if (!kept || !decoded)
        return CREDENTIAL_MANY;
    memcpy(kept, path.base, at);
    while (at < path.len) {
        struct weir_text pair = text_part(path, at + 1, path.len);

        pair.len = text_find(pair, '&');
        if (is_parameter(pair, name, &encoded)) {
            found = found == CREDENTIAL_NONE ? CREDENTIAL_ONE : CREDENTIAL_MANY;
        } else {
            kept[len] = len == text_find((struct weir_text){path.base, len}, '?') ? '?' : '&';
            memcpy(kept + len + 1, pair.base, pair.len);
            len += 1 + pair.len;
        }
        at += 1 + pair.len;
    }
    if (found == CREDENTIAL_ONE && !decode(encoded, decoded, &value->len))
        return CREDENTIAL_MANY;
    value->base = decoded;
    *rest = (struct weir_text){kept, len};
    return found;
}

bool text_from_hex(struct weir_text text, unsigned char *to) {
    if (text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i += 2) {
        int high = hex_value(text.base[i]), low = hex_value(text.base[i + 1]);

        if (high < 0 || low < 0)
            return false;
        *to++ = (unsigned char)(high << 4 | low);
    }
    return true;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_parameter(struct weir_text pair, struct weir_text name, struct weir_text *value) {
    size_t equals = text_find(pair, '=');

    if (!text_equal(text_part(pair, 0, equals), name))
        return false;
    *value = equals < pair.len ? text_part(pair, equals + 1, pair.len) : (struct weir_text){"", 0};
    return true;
}

static bool decode(struct weir_text encoded, char *to, size_t *len) {
    *len = 0;
    for (size_t i = 0; i < encoded.len; i++) {
        unsigned char byte = (unsigned char)encoded.base[i];

        if (byte == '%') {
            if (encoded.len - i < 3 || !text_from_hex(text_part(encoded, i + 1, i + 3), &byte))
                return false;
            i += 2;
        }
        to[(*len)++] = (char)byte;
    }
    return true;
}
