#include "template.h"

#include "../common/text.h"

/* "$$" is a '$'; "${name}" one of these, "${field:NAME}" or "${variable:NAME}". */
static const struct {
    const char *name;
    size_t offset;
} members[] = {
    {"request_id", offsetof(struct weir_request, id)},
    {"method", offsetof(struct weir_request, method)},
    {"scheme", offsetof(struct weir_request, scheme)},
    {"authority", offsetof(struct weir_request, authority)},
    {"path", offsetof(struct weir_request, path)},
    {"listener", offsetof(struct weir_request, listener)},
    {"route", offsetof(struct weir_request, route)},
    {"client_address", offsetof(struct weir_request, client_address)},
    {"client_subject", offsetof(struct weir_request, client_subject)},
};

/* A piece of a template. */
struct piece {
    bool is_reference;
    struct weir_text text; /* as it is, or what the reference names */
};

static bool next_piece(struct weir_text *rest, struct piece *piece);
static bool is_known(struct weir_text name);
static struct weir_text value_of(const struct weir_host *host, struct weir_call *call,
                                 const struct weir_request *request, struct weir_text name);

const char *template_check(struct weir_text template) {
    struct piece piece;

    while (template.len > 0) {
        if (!next_piece(&template, &piece))
            return "expected ${name} or $$ behind a $";
        if (piece.is_reference && !is_known(piece.text))
            return "expected ${request_id}, method, scheme, authority, path, listener, route, "
                   "client_address, client_subject, field:NAME or variable:NAME";
        if (!piece.is_reference && !text_is_value(piece.text))
            return "expected no control characters";
    }
    return NULL;
}

bool template_expand(const struct weir_host *host, struct weir_call *call,
                     const struct weir_request *request, struct weir_text template,
                     struct weir_text *value) {
    struct piece piece;
    size_t len = 0;
    char *to;

    if (text_find(template, '$') == template.len) {
        *value = template;
        return true;
    }
    to = host->alloc(call, TEMPLATE_VALUE_MAX);
    while (to && template.len > 0 && next_piece(&template, &piece)) {
        struct weir_text text =
            piece.is_reference ? value_of(host, call, request, piece.text) : piece.text;

        if (text.len > TEMPLATE_VALUE_MAX - len)
            return false;
        if (text.len > 0)
            memcpy(to + len, text.base, text.len);
        len += text.len;
    }
    *value = text_trim((struct weir_text){to, len});
    return to;
}

/* False: there is a '$' that begins nothing. */
static bool next_piece(struct weir_text *rest, struct piece *piece) {
    size_t dollar = text_find(*rest, '$'), end;
    struct weir_text behind;

    *piece = (struct piece){false, text_part(*rest, 0, dollar)};
    if (dollar > 0) {
        *rest = text_part(*rest, dollar, rest->len);
        return true;
    }
    if (rest->len < 2)
        return false;
    behind = text_part(*rest, 2, rest->len);
    if (rest->base[1] == '$') {
        piece->text = text_part(*rest, 0, 1);
        *rest = behind;
        return true;
    }
    end = text_find(behind, '}');
    if (rest->base[1] != '{' || end == behind.len)
        return false;
    *piece = (struct piece){true, text_part(behind, 0, end)};
    *rest = text_part(behind, end + 1, behind.len);
    return true;
}

static bool is_known(struct weir_text name) {
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (text_equal(name, text_of(members[i].name)))
            return true;
    if (text_starts(name, WEIR_TEXT("field:")))
        return text_is_token(text_part(name, 6, name.len));
    return text_starts(name, WEIR_TEXT("variable:")) && name.len > 9 &&
           text_is_variable(text_part(name, 9, name.len));
}

static struct weir_text value_of(const struct weir_host *host, struct weir_call *call,
                                 const struct weir_request *request, struct weir_text name) {
    const struct weir_field *field;

    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (text_equal(name, text_of(members[i].name)))
            return *(const struct weir_text *)(const void *)((const char *)request +
                                                             members[i].offset);
    if (text_starts(name, WEIR_TEXT("variable:")))
        return host->variable(call, text_part(name, 9, name.len));
    field =
        text_find_field(request->fields, request->field_count, text_part(name, 6, name.len), NULL);
    return field ? field->value : (struct weir_text){"", 0};
}
