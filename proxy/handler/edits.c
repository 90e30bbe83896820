/* The checks: tables of bytes and of names. */
#include "handler/edits.h"

static bool is_token_char(unsigned char c);
static bool is_text_char(unsigned char c);

bool edit_may_name(struct slice name) {
    if (name.len == 0)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!is_token_char((unsigned char)name.base[i]))
            return false;
    switch (field_id_of(name)) {
    case FIELD_TE:
    case FIELD_HOST:
    case FIELD_EXPECT:
    case FIELD_TRAILER:
    case FIELD_UPGRADE:
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_GRPC_TIMEOUT:
    case FIELD_CONTENT_LENGTH:
    case FIELD_HTTP2_SETTINGS:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_SEC_WEBSOCKET_KEY:
    case FIELD_SEC_WEBSOCKET_ACCEPT:
        return false;
    default:
        return true;
    }
}

bool edit_is_value(struct slice value) {
    for (size_t i = 0; i < value.len; i++)
        if (!is_text_char((unsigned char)value.base[i]))
            return false;
    return slice_trim(value).len == value.len;
}

bool edit_is_path(struct slice path) {
    if (path.len == 0 || path.len > EDIT_PATH_MAX || path.base[0] != '/')
        return false;
    for (size_t i = 0; i < path.len; i++) {
        unsigned char c = (unsigned char)path.base[i];

        if (c <= ' ' || c == 0x7f || c == '#')
            return false;
    }
    return true;
}

bool edit_is_variable(struct slice name, struct slice value) {
    if (name.len == 0 || name.len > CALL_VARIABLE_NAME_MAX || value.len > CALL_VARIABLE_VALUE_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    for (size_t i = 0; i < value.len; i++)
        if (!is_text_char((unsigned char)value.base[i]))
            return false;
    return true;
}

bool edit_is_status(unsigned status) {
    return status >= 200 && status <= 599;
}

static bool is_token_char(unsigned char c) {
    static const char others[] = "!#$%&'*+-.^_`|~";

    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && memchr(others, c, sizeof others - 1));
}

/* VCHAR, obs-text, SP, HTAB. */
static bool is_text_char(unsigned char c) {
    return (c >= ' ' && c != 0x7f) || c == '\t';
}
