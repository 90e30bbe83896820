#include "cors.h"

#include "../common/settings.h"
#include "../common/text.h"

#include <inttypes.h>
#include <stdio.h>

#define S INT64_C(1000000000)
#define LIST_MAX 4096 /* bytes of a list in a field */

#define ORIGIN WEIR_TEXT("origin")
#define ALLOW_ORIGIN WEIR_TEXT("access-control-allow-origin")
#define ALLOW_CREDENTIALS WEIR_TEXT("access-control-allow-credentials")
#define EXPOSE_HEADERS WEIR_TEXT("access-control-expose-headers")
#define REQUEST_METHOD WEIR_TEXT("access-control-request-method")
#define REQUEST_HEADERS WEIR_TEXT("access-control-request-headers")
#define VARY WEIR_TEXT("vary")

#define AT(member) offsetof(struct cors, member)
static const struct setting settings[] = {
    {"origins", SETTING_LIST, AT(origins), 1, 256, true},
    {"methods", SETTING_LIST, AT(methods), 1, 64},
    {"headers", SETTING_LIST, AT(headers), 1, 256},
    {"expose", SETTING_LIST, AT(expose), 1, 64},
    {"credentials", SETTING_BOOL, AT(has_credentials)},
    {"max_age", SETTING_DURATION, AT(max_age_ns), 0, 86400 * S},
};

/* A function of the host that puts a field somewhere. */
typedef bool field_fn(struct weir_call *call, struct weir_text name, struct weir_text value);

static void allow(const struct cors *cors, struct weir_call *call,
                  const struct weir_request *request, field_fn *add);
static int check_origin(struct weir_text origin, char *why, size_t why_size);
static int check_tokens(const json_t *list, const char *name, char *why, size_t why_size);
static bool get_one(const struct weir_request *request, struct weir_text name,
                    struct weir_text *value);
static bool is_allowed(const struct cors *cors, struct weir_text origin);
static bool is_method_allowed(const struct cors *cors, struct weir_text method);
static bool are_headers_allowed(const struct cors *cors, struct weir_text list);
static struct weir_text join(const json_t *list, char to[LIST_MAX]);
static bool varies_by_origin(const struct weir_response *response);
static enum weir_verdict refuse(const struct weir_host *host, struct weir_call *call,
                                struct weir_text title);

int cors_read(struct cors *cors, const json_t *table, char *why, size_t why_size) {
    char joined[LIST_MAX];

    cors->max_age_ns = 600 * S;
    if (settings_read(table, "cors.", settings, sizeof settings / sizeof *settings, cors, why,
                      why_size) != 0)
        return -1;
    for (size_t i = 0; i < json_array_size(cors->origins); i++) {
        struct weir_text origin = settings_text(json_array_get(cors->origins, i));

        if (text_equal(origin, WEIR_TEXT("*")))
            cors->is_for_all = true;
        else if (check_origin(origin, why, why_size) != 0)
            return -1;
    }
    if (cors->is_for_all && cors->has_credentials)
        return settings_fail(why, why_size,
                             "cors.credentials: expected false, for with "
                             "origins = [\"*\"] every page could act as its user");
    if (check_tokens(cors->methods, "methods", why, why_size) != 0 ||
        check_tokens(cors->headers, "headers", why, why_size) != 0 ||
        check_tokens(cors->expose, "expose", why, why_size) != 0)
        return -1;
    if (join(cors->methods, joined).len == LIST_MAX || join(cors->expose, joined).len == LIST_MAX)
        return settings_fail(why, why_size,
                             "cors.methods, cors.expose: expected less than %d "
                             "bytes each",
                             LIST_MAX);
    return 0;
}

bool cors_is_preflight(const struct weir_request *request) {
    struct weir_text value;

    return text_equal(request->method, WEIR_TEXT("OPTIONS")) && get_one(request, ORIGIN, &value) &&
           get_one(request, REQUEST_METHOD, &value);
}

enum weir_verdict cors_answer(const struct cors *cors, const struct weir_host *host,
                              struct weir_call *call, const struct weir_request *request) {
    struct weir_text origin = {0}, method = {0}, headers = {0};
    const struct weir_field *field =
        text_find_field(request->fields, request->field_count, REQUEST_HEADERS, NULL);
    char methods[LIST_MAX], age[24];

    get_one(request, ORIGIN, &origin);
    get_one(request, REQUEST_METHOD, &method);
    if (!is_allowed(cors, origin))
        return refuse(host, call, WEIR_TEXT("this origin may not use this server"));
    if (!is_method_allowed(cors, method))
        return refuse(host, call, WEIR_TEXT("this method may not be used from other origins"));
    if (field &&
        (!get_one(request, REQUEST_HEADERS, &headers) || !are_headers_allowed(cors, headers)))
        return refuse(host, call, WEIR_TEXT("a field may not be sent from other origins"));
    host->respond(call, 204, WEIR_TEXT(""));
    host->respond_field(call, ALLOW_ORIGIN, cors->is_for_all ? WEIR_TEXT("*") : origin);
    host->respond_field(call, WEIR_TEXT("access-control-allow-methods"),
                        cors->methods ? join(cors->methods, methods)
                                      : WEIR_TEXT("GET, HEAD, POST"));
    if (headers.len > 0)
        host->respond_field(call, WEIR_TEXT("access-control-allow-headers"), headers);
    if (cors->has_credentials)
        host->respond_field(call, ALLOW_CREDENTIALS, WEIR_TEXT("true"));
    snprintf(age, sizeof age, "%" PRId64, cors->max_age_ns / S);
    host->respond_field(call, WEIR_TEXT("access-control-max-age"), text_of(age));
    host->respond_field(call, VARY,
                        WEIR_TEXT("Origin, Access-Control-Request-Method, "
                                  "Access-Control-Request-Headers"));
    return WEIR_RESPOND;
}

/* That an answer depends on the origin is said also to those who sent none: caches keep it. */
void cors_edit(const struct cors *cors, const struct weir_host *host, struct weir_call *call,
               const struct weir_request *request, const struct weir_response *response) {
    host->remove_field(call, ALLOW_ORIGIN);
    host->remove_field(call, ALLOW_CREDENTIALS);
    host->remove_field(call, EXPOSE_HEADERS);
    if (!cors->is_for_all && !varies_by_origin(response))
        host->add_field(call, VARY, WEIR_TEXT("Origin"));
    allow(cors, call, request, host->add_field);
}

void cors_prepare(const struct cors *cors, const struct weir_host *host, struct weir_call *call,
                  const struct weir_request *request) {
    if (!cors->is_for_all)
        host->respond_field(call, VARY, WEIR_TEXT("Origin"));
    allow(cors, call, request, host->respond_field);
}

/* Says that its page may read what @add adds to, if it may. */
static void allow(const struct cors *cors, struct weir_call *call,
                  const struct weir_request *request, field_fn *add) {
    struct weir_text origin;
    char exposed[LIST_MAX];

    if (!get_one(request, ORIGIN, &origin) || !is_allowed(cors, origin))
        return;
    add(call, ALLOW_ORIGIN, cors->is_for_all ? WEIR_TEXT("*") : origin);
    if (cors->has_credentials)
        add(call, ALLOW_CREDENTIALS, WEIR_TEXT("true"));
    if (cors->expose)
        add(call, EXPOSE_HEADERS, join(cors->expose, exposed));
}

/* "https://host[:port]", the same with "*." in front of the host, or "null". */
static int check_origin(struct weir_text origin, char *why, size_t why_size) {
    struct weir_text host = {0};
    size_t colon = text_find(origin, ':');
    bool is_good = colon > 0 && origin.len > colon + 3 &&
                   text_starts(text_part(origin, colon, origin.len), WEIR_TEXT("://"));

    if (is_good) {
        host = text_part(origin, colon + 3, origin.len);
        if (text_starts(host, WEIR_TEXT("*.")))
            host = text_part(host, 2, host.len);
        is_good = host.len > 0 && text_is_value(origin);
        for (size_t i = 0; i < host.len; i++)
            is_good = is_good && !strchr("*/?#@ \t", host.base[i]);
    }
    if (is_good || text_equal(origin, WEIR_TEXT("null")))
        return 0;
    return settings_fail(why, why_size,
                         "cors.origins: found \"%.*s\", expected such as \"https://example.org\" "
                         "(no path), \"https://*.example.org\", \"null\" or \"*\"",
                         TEXT_ARG(origin));
}

static int check_tokens(const json_t *list, const char *name, char *why, size_t why_size) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!text_is_token(settings_text(json_array_get(list, i))))
            return settings_fail(why, why_size, "cors.%s: found \"%.60s\", expected a name", name,
                                 json_string_value(json_array_get(list, i)));
    return 0;
}

/* The value of a field that is there once. */
static bool get_one(const struct weir_request *request, struct weir_text name,
                    struct weir_text *value) {
    const struct weir_field *field =
        text_find_field(request->fields, request->field_count, name, NULL);

    if (!field || text_find_field(request->fields, request->field_count, name, field))
        return false;
    *value = field->value;
    return true;
}

/* "*." is one label or more, never none. */
static bool is_allowed(const struct cors *cors, struct weir_text origin) {
    for (size_t i = 0; i < json_array_size(cors->origins); i++) {
        struct weir_text wanted = settings_text(json_array_get(cors->origins, i)), tail;
        size_t star = text_find(wanted, '*');

        if (star == wanted.len) {
            if (text_equal_case(origin, wanted))
                return true;
            continue;
        }
        if (wanted.len == 1)
            return true;
        tail = text_part(wanted, star + 1, wanted.len);
        if (origin.len > wanted.len - 1 &&
            text_equal_case(text_part(origin, 0, star), text_part(wanted, 0, star)) &&
            text_equal_case(text_part(origin, origin.len - tail.len, origin.len), tail) &&
            !memchr(origin.base + star, '/', origin.len - star) &&
            !memchr(origin.base + star, ':', origin.len - tail.len - star))
            return true;
    }
    return false;
}

/* The first three need no leave (Fetch, CORS-safelisted methods). */
static bool is_method_allowed(const struct cors *cors, struct weir_text method) {
    return text_equal(method, WEIR_TEXT("GET")) || text_equal(method, WEIR_TEXT("HEAD")) ||
           text_equal(method, WEIR_TEXT("POST")) || settings_list_has(cors->methods, method, true);
}

static bool are_headers_allowed(const struct cors *cors, struct weir_text list) {
    while (list.len > 0) {
        size_t comma = text_find(list, ',');
        struct weir_text name = text_trim(text_part(list, 0, comma));
        bool is_listed = name.len == 0;

        for (size_t i = 0; i < json_array_size(cors->headers) && !is_listed; i++) {
            struct weir_text wanted = settings_text(json_array_get(cors->headers, i));

            is_listed = text_equal_case(wanted, name) ||
                        (text_equal(wanted, WEIR_TEXT("*")) && text_is_token(name));
        }
        if (!is_listed)
            return false;
        list = text_part(list, comma < list.len ? comma + 1 : comma, list.len);
    }
    return true;
}

/* With ", " between; LIST_MAX bytes: it is longer. */
static struct weir_text join(const json_t *list, char to[LIST_MAX]) {
    size_t len = 0;

    for (size_t i = 0; i < json_array_size(list); i++) {
        struct weir_text text = settings_text(json_array_get(list, i));

        if (len + 2 + text.len >= LIST_MAX)
            return (struct weir_text){to, LIST_MAX};
        if (i > 0) {
            to[len++] = ',';
            to[len++] = ' ';
        }
        memcpy(to + len, text.base, text.len);
        len += text.len;
    }
    return (struct weir_text){to, len};
}

static bool varies_by_origin(const struct weir_response *response) {
    const struct weir_field *field = NULL;

    while ((field = text_find_field(response->fields, response->field_count, VARY, field))) {
        struct weir_text list = field->value;

        while (list.len > 0) {
            size_t comma = text_find(list, ',');
            struct weir_text name = text_trim(text_part(list, 0, comma));

            if (text_equal_case(name, ORIGIN) || text_equal(name, WEIR_TEXT("*")))
                return true;
            list = text_part(list, comma < list.len ? comma + 1 : comma, list.len);
        }
    }
    return false;
}

static enum weir_verdict refuse(const struct weir_host *host, struct weir_call *call,
                                struct weir_text title) {
    host->refuse(call, 403, title, WEIR_TEXT("see cors in the configuration of this server"));
    host->respond_field(call, VARY, WEIR_TEXT("Origin"));
    return WEIR_RESPOND;
}
