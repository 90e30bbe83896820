/* What changes in a head on its way through: hop-by-hop fields go (RFC 9110 section 7.6.1), Via and
 * the forwarding fields come (RFC 7239 and its predecessors). Everything else passes as it is. */
#include "gateway/crossing.h"

#include "base/random.h"
#include "gateway/rewrite.h"

#include <netinet/in.h>

#define REQUEST_ID_MAX 128
#define FIELDS_ADDED 8 /* to a request, usually no more */
#define EACH_BYTE UINT64_C(0x0101010101010101)
#define NIBBLES (15 * EACH_BYTE)

/* RFC 9110 section 7.6.1, and what earlier specifications counted among them. */
#define HOP_BY_HOP                                                                      \
    (FIELD_BIT(FIELD_CONNECTION) | FIELD_BIT(FIELD_KEEP_ALIVE) |                        \
     FIELD_BIT(FIELD_PROXY_CONNECTION) | FIELD_BIT(FIELD_TRANSFER_ENCODING) |           \
     FIELD_BIT(FIELD_TE) | FIELD_BIT(FIELD_UPGRADE) | FIELD_BIT(FIELD_HTTP2_SETTINGS) | \
     FIELD_BIT(FIELD_PROXY_AUTHORIZATION) | FIELD_BIT(FIELD_PROXY_AUTHENTICATE))

/* Of a request: the forwarding fields, and what only weir may say. */
#define MADE_ANEW                                                                          \
    (FIELD_BIT(FIELD_X_FORWARDED_FOR) | FIELD_BIT(FIELD_X_FORWARDED_HOST) |                \
     FIELD_BIT(FIELD_X_FORWARDED_PROTO) | FIELD_BIT(FIELD_FORWARDED) |                     \
     FIELD_BIT(FIELD_X_REQUEST_ID) | FIELD_BIT(FIELD_VIA) | FIELD_BIT(FIELD_CLIENT_CERT) | \
     FIELD_BIT(FIELD_CLIENT_CERT_CHAIN))

/* What says less on each hop. */
#define COUNTED_DOWN (FIELD_BIT(FIELD_MAX_FORWARDS) | FIELD_BIT(FIELD_GRPC_TIMEOUT))

static void add_fields(struct crossing *c, struct fields *out);
static bool max_forwards(const struct request_head *head, unsigned *hops);
static struct slice via(enum http_version version);
static bool is_named_by_connection(const struct fields *fields, struct slice name);
static bool has_connection_names(const struct fields *fields);
static void add_forwarding(struct crossing *c, struct request_head *out);
static struct slice forwarded_text(struct crossing *c, struct slice node, struct slice scheme);
static struct slice join_list(struct crossing *c, enum field_id id, struct slice last);
static void add_request_id(struct crossing *c, struct request_head *out);
static void add_upgrade(struct crossing *c, struct request_head *out);
static void put_hex(char *to, uint64_t nibbles);
static struct slice forwarded_node(struct arena *arena, const struct sockaddr *address,
                                   struct slice text);

void forward_request(struct crossing *c, struct request_head *out) {
    struct exchange *x = &c->x;
    const struct fields *in = &x->request_head.fields;
    const struct config_pipeline *config = c->part->shared->config;

    *out = x->request_head;
    out->scheme = config->tls.is_on ? SLICE("https") : SLICE("http");
    out->fields = (struct fields){0};
    fields_reserve(&out->fields, &x->arena, in->count + FIELDS_ADDED);
    if (fields_may_have(in, HOP_BY_HOP | MADE_ANEW | COUNTED_DOWN)) {
        add_fields(c, &out->fields);
    } else if (in->count > 0) {
        memcpy(out->fields.list, in->list, in->count * sizeof *in->list);
        out->fields.count = in->count;
    }
    out->fields.ids = in->ids;
    if (config->host)
        out->authority = slice_str(config->host);
    else if (out->authority.len == 0)
        out->authority = slice_str(!c->endpoint || c->endpoint->address.ss_family == AF_UNIX
                                       ? "localhost"
                                       : c->endpoint->text);
    add_upgrade(c, out);
    add_forwarding(c, out);
    add_request_id(c, out);
    if (c->rewrite)
        rewrite_request(c, out);
}

/* Those of the client that are sent on; there is room for all. */
static void add_fields(struct crossing *c, struct fields *out) {
    struct exchange *x = &c->x;
    const struct fields *in = &x->request_head.fields;
    bool has_names = has_connection_names(in);
    unsigned hops;

    for (uint32_t i = 0; i < in->count; i++) {
        const struct field *field = &in->list[i];

        if ((FIELD_BIT(field->id) & (HOP_BY_HOP | MADE_ANEW)) ||
            (has_names && is_named_by_connection(in, field->name)))
            continue;
        if (field->id == FIELD_MAX_FORWARDS && max_forwards(&x->request_head, &hops) && hops > 0) {
            fields_add_known(out, &x->arena, FIELD_MAX_FORWARDS,
                             arena_printf(&x->arena, "%u", hops - 1));
            continue;
        }
        if (field->id == FIELD_GRPC_TIMEOUT && c->grpc_deadline_ns) {
            fields_add_known(out, &x->arena, FIELD_GRPC_TIMEOUT,
                             grpc_write_timeout(&x->arena, c->grpc_deadline_ns - x->loop->now_ns));
            continue;
        }
        out->list[out->count++] = *field;
    }
}

void forward_response(struct crossing *c) {
    struct exchange *x = &c->x;
    struct fields *fields = &x->response_head.fields;
    bool has_names = has_connection_names(fields);
    uint32_t kept = fields_may_have(fields, HOP_BY_HOP) ? 0 : fields->count;
    /* RFC 9110 section 15.5.22: it says what to upgrade to. The tunnel goes through us. */
    bool is_offer = x->response_head.status == 426 && fields_find(fields, FIELD_UPGRADE);

    for (uint32_t i = kept; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        bool is_kept = !(FIELD_BIT(field->id) & HOP_BY_HOP) &&
                       !(has_names && is_named_by_connection(fields, field->name));

        if (field->id == FIELD_UPGRADE && (is_offer || x->response_head.status == 101))
            is_kept = true;
        if (is_kept)
            fields->list[kept++] = *field;
    }
    fields->count = kept;
    if (is_offer)
        fields_add_known(fields, &x->arena, FIELD_CONNECTION, SLICE("upgrade"));
    if (!fields_find(fields, FIELD_DATE))
        fields_add_known(fields, &x->arena, FIELD_DATE,
                         arena_copy(&x->arena, gateway_date(c->listener->gl)));
    fields_add_known(fields, &x->arena, FIELD_VIA, via(x->response_head.version));
}

bool forward_is_stopped(const struct crossing *c) {
    unsigned hops;

    return max_forwards(&c->x.request_head, &hops) && hops == 0;
}

/* Max-Forwards of a TRACE or an OPTIONS, if there is a sound one; any other passes as it is. */
static bool max_forwards(const struct request_head *head, unsigned *hops) {
    const struct field *field = fields_find(&head->fields, FIELD_MAX_FORWARDS);
    unsigned n = 0;

    if (!field || (head->method != METHOD_TRACE && head->method != METHOD_OPTIONS) ||
        field->value.len == 0 || field->value.len > 9)
        return false;
    for (size_t i = 0; i < field->value.len; i++) {
        if (field->value.base[i] < '0' || field->value.base[i] > '9')
            return false;
        n = n * 10 + (unsigned)(field->value.base[i] - '0');
    }
    *hops = n;
    return true;
}

/* RFC 9110 section 7.6.3. */
static struct slice via(enum http_version version) {
    return version == HTTP_2     ? SLICE("2.0 weir")
           : version == HTTP_1_0 ? SLICE("1.0 weir")
                                 : SLICE("1.1 weir");
}

static bool is_named_by_connection(const struct fields *fields, struct slice name) {
    return fields_list_has(fields, FIELD_CONNECTION, name);
}

/* Does Connection name any field, beyond what every client sends? */
static bool has_connection_names(const struct fields *fields) {
    const struct field *field = fields_find(fields, FIELD_CONNECTION);

    for (; field; field = fields_find_next(fields, field)) {
        struct slice list = field->value, element;

        while (slice_next_element(&list, &element))
            if (!slice_equal_case(element, SLICE("close")) &&
                !slice_equal_case(element, SLICE("keep-alive")))
                return true;
    }
    return false;
}

/* RFC 9110 section 7.8: the upgrade that the client asks for is asked for again, on this
 * connection. Over HTTP/2 only WebSockets can be (RFC 8441); other upgrades are offers that a
 * server may pass over. */
static void add_upgrade(struct crossing *c, struct request_head *out) {
    struct exchange *x = &c->x;
    const struct fields *in = &x->request_head.fields;
    bool has_upgrade = fields_find(in, FIELD_UPGRADE) && x->request_head.version >= HTTP_1_1 &&
                       fields_list_has(in, FIELD_CONNECTION, SLICE("upgrade")) &&
                       (c->part->shared->config->protocol != PROTOCOL_HTTP2 ||
                        forward_is_websocket(&x->request_head));
    bool has_trailers = fields_list_has(in, FIELD_TE, SLICE("trailers"));

    if (!has_upgrade && !has_trailers)
        return;
    if (has_upgrade)
        for (const struct field *f = fields_find(in, FIELD_UPGRADE); f; f = fields_find_next(in, f))
            fields_add_known(&out->fields, &x->arena, FIELD_UPGRADE, f->value);
    if (has_trailers)
        fields_add_known(&out->fields, &x->arena, FIELD_TE, SLICE("trailers"));
    fields_add_known(&out->fields, &x->arena, FIELD_CONNECTION,
                     !has_trailers ? SLICE("upgrade")
                     : has_upgrade ? SLICE("upgrade, te")
                                   : SLICE("te"));
}

bool forward_is_websocket(const struct request_head *head) {
    const struct field *field = fields_find(&head->fields, FIELD_UPGRADE);

    return field && head->method == METHOD_GET &&
           slice_equal_case(field->value, SLICE("websocket"));
}

/* What a trusted client says, then what we see; of an untrusted one only what we see. */
static inline void add_list(struct crossing *c, struct fields *out, enum field_id id,
                            struct slice last) {
    if (c->is_trusted && fields_may_have(&c->x.request_head.fields, FIELD_BIT(id)))
        last = join_list(c, id, last);
    fields_add_known(out, &c->x.arena, id, last);
}

static void add_forwarding(struct crossing *c, struct request_head *out) {
    struct exchange *x = &c->x;
    struct arena *arena = &x->arena;
    const struct request_head *in = &x->request_head;
    struct slice text = conn_address_text((const union conn_address *)x->client_address,
                                          arena_alloc(arena, INET6_ADDRSTRLEN));
    struct slice node = forwarded_node(arena, x->client_address, text);
    struct slice scheme = x->is_secure ? SLICE("https") : SLICE("http");
    const struct field *field;

    add_list(c, &out->fields, FIELD_X_FORWARDED_FOR, text);
    field = c->is_trusted ? fields_find(&in->fields, FIELD_X_FORWARDED_PROTO) : NULL;
    fields_add_known(&out->fields, arena, FIELD_X_FORWARDED_PROTO, field ? field->value : scheme);
    field = c->is_trusted ? fields_find(&in->fields, FIELD_X_FORWARDED_HOST) : NULL;
    if (field || in->authority.len > 0)
        fields_add_known(&out->fields, arena, FIELD_X_FORWARDED_HOST,
                         field ? field->value : in->authority);
    add_list(c, &out->fields, FIELD_FORWARDED, forwarded_text(c, node, scheme));
    /* Only what we have verified ourselves, whoever is trusted (RFC 9440 section 4). */
    if (x->client_certificate.len > 0)
        fields_add_known(&out->fields, arena, FIELD_CLIENT_CERT, x->client_certificate);
    /* Via is no claim about the client: it is always kept and added to (RFC 9110 section 7.6.3). */
    for (field = fields_find(&in->fields, FIELD_VIA); field;
         field = fields_find_next(&in->fields, field))
        fields_add_known(&out->fields, arena, FIELD_VIA, field->value);
    fields_add_known(&out->fields, arena, FIELD_VIA, via(in->version));
}

/* RFC 7239 section 4. */
static struct slice forwarded_text(struct crossing *c, struct slice node, struct slice scheme) {
    struct slice host = c->x.request_head.authority;
    char *text =
        arena_alloc(&c->x.arena, sizeof "for=;host=\"\";proto=" + node.len + host.len + scheme.len);
    char *to = slice_write(text, SLICE("for="));

    to = slice_write(to, node);
    if (host.len > 0) {
        to = slice_write(to, SLICE(";host=\""));
        to = slice_write(to, host);
        *to++ = '"';
    }
    to = slice_write(to, SLICE(";proto="));
    to = slice_write(to, scheme);
    return slice_of(text, (size_t)(to - text));
}

static struct slice join_list(struct crossing *c, enum field_id id, struct slice last) {
    struct arena *arena = &c->x.arena;
    const struct fields *in = &c->x.request_head.fields;
    struct slice all = SLICE_NONE;

    for (const struct field *f = fields_find(in, id); f; f = fields_find_next(in, f)) {
        if (all.len > 0 && f->value.len > 0)
            all = ARENA_JOIN(arena, all, SLICE(", "), f->value);
        else if (f->value.len > 0)
            all = f->value;
    }
    return all.len > 0 ? ARENA_JOIN(arena, all, SLICE(", "), last) : last;
}

/* RFC 7239 section 6: IPv6 addresses in brackets and quotes. */
static struct slice forwarded_node(struct arena *arena, const struct sockaddr *address,
                                   struct slice text) {
    if (address->sa_family == AF_UNSPEC)
        return SLICE("unknown");
    if (address->sa_family == AF_INET6 && memchr(text.base, ':', text.len))
        return ARENA_JOIN(arena, SLICE("\"["), text, SLICE("]\""));
    return text;
}

static bool is_request_id(struct slice s) {
    if (s.len == 0 || s.len > REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.base[i] <= ' ' || s.base[i] > '~')
            return false;
    return true;
}

static void add_request_id(struct crossing *c, struct request_head *out) {
    fields_add_known(&out->fields, &c->x.arena, FIELD_X_REQUEST_ID, c->request_id);
}

struct slice forward_request_id(struct crossing *c) {
    const struct field *field =
        c->is_trusted ? fields_find(&c->x.request_head.fields, FIELD_X_REQUEST_ID) : NULL;

    if (field && is_request_id(field->value))
        return field->value;
    return forward_make_request_id(arena_alloc(&c->x.arena, REQUEST_ID_BYTES));
}

struct slice forward_make_request_id(char *to) {
    for (size_t i = 0; i < REQUEST_ID_BYTES; i += 16) {
        uint64_t bits = random_next();

        put_hex(to + i, bits & NIBBLES);
        put_hex(to + i + 8, bits >> 4 & NIBBLES);
    }
    return slice_of(to, REQUEST_ID_BYTES);
}

/* Eight hexadecimal digits, one of each byte's low half; all at once, in whatever order. */
static void put_hex(char *to, uint64_t nibbles) {
    uint64_t letters = (nibbles + 6 * EACH_BYTE) >> 4 & EACH_BYTE; /* 1 where above 9 */
    uint64_t text = nibbles + '0' * EACH_BYTE + letters * ('a' - '9' - 1);

    memcpy(to, &text, sizeof text);
}
