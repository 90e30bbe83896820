/* The chunked decoder: a state machine over the bytes of size lines, runs of content in between,
 * and the trailer section, which is kept until it is whole and then parsed like a head.
 *
 *   SIZE        first digit of a size          EXT_NAME_0  behind ';' (BWS may come first)
 *   DIGITS      further digits                 EXT_NAME    in an extension's name
 *   BWS         before ';'                     EXT_EQUALS  behind name and BWS: '=' or ';'
 *   LF          LF of a size line              EXT_VALUE_0 behind '=' (BWS may come first)
 *   DATA        content                        EXT_TOKEN   in a value that is a token
 *   DATA_CR/LF  CRLF behind content            EXT_QUOTED  in a quoted string
 *   TRAILERS    trailer section                EXT_ESCAPED behind a backslash in one
 *                                              EXT_END     behind a quoted string
 * CR ends a size line in DIGITS, EXT_NAME, EXT_TOKEN and EXT_END; anywhere else it is malformed. */
#include "codec/h1_chunked.h"

#include "codec/h1_chars.h"
#include "codec/h1_parts.h"

#define DIGITS_MAX 16

enum state {
    SIZE,
    DIGITS,
    BWS,
    EXT_NAME_0,
    EXT_NAME,
    EXT_EQUALS,
    EXT_VALUE_0,
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_ESCAPED,
    EXT_END,
    LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILERS,
    BAD,
};

static const char *take_byte(struct h1_chunked *c, char byte);
static enum state next_state(enum state state, char byte);
static const char *take_digit(struct h1_chunked *c, char byte);
static struct slice take_content(struct h1_chunked *c, struct slice *in);
static enum h1_chunk_outcome take_trailers(struct h1_chunked *c, struct slice *in,
                                           const struct h1_limits *limits, struct arena *arena,
                                           struct fields *trailers, const char **why);

void h1_chunked_init(struct h1_chunked *c) {
    *c = (struct h1_chunked){.state = SIZE};
}

enum h1_chunk_outcome h1_chunked_next(struct h1_chunked *c, struct slice *in, struct slice *data,
                                      const struct h1_limits *limits, struct arena *arena,
                                      struct fields *trailers, const char **why) {
    while (in->len > 0) {
        const char *fault;

        if (c->state == DATA) {
            *data = take_content(c, in);
            return H1_CHUNK_DATA;
        }
        if (c->state == TRAILERS)
            return take_trailers(c, in, limits, arena, trailers, why);
        fault = take_byte(c, in->base[0]);
        if (fault) {
            *why = fault;
            return H1_CHUNK_BAD;
        }
        *in = slice_skip(*in, 1);
    }
    return H1_CHUNK_MORE;
}

/* One byte of a size line, or of the line end behind content. */
static const char *take_byte(struct h1_chunked *c, char byte) {
    enum state state = (enum state)c->state, next = next_state(state, byte);
    const char *why = NULL;

    if (next == BAD)
        return state == DATA_CR || state == DATA_LF ? "chunk content does not end in CRLF"
                                                    : "malformed chunk size line";
    if (next == DIGITS)
        why = take_digit(c, byte);
    else if (next > DIGITS && next < LF && ++c->overhead > H1_CHUNK_OVERHEAD_MAX)
        why = "chunk extensions outweigh the content";
    if (++c->line > H1_CHUNK_LINE_MAX)
        why = "chunk size line is too long";
    if (next == SIZE)
        c->line = 0;
    c->state = next == DATA && c->left == 0 ? TRAILERS : (uint8_t)next;
    return why;
}

static enum state next_state(enum state state, char byte) {
    bool is_space = byte == ' ' || byte == '\t', is_token = h1_char_is(byte, H1_CHAR_TOKEN);

    switch (state) {
    case SIZE:
        return h1_char_is(byte, H1_CHAR_HEX) ? DIGITS : BAD;
    case DIGITS:
        if (h1_char_is(byte, H1_CHAR_HEX))
            return DIGITS;
        break;
    case BWS:
        return is_space ? BWS : byte == ';' ? EXT_NAME_0 : BAD;
    case EXT_NAME_0:
        return is_space ? EXT_NAME_0 : is_token ? EXT_NAME : BAD;
    case EXT_NAME:
        if (is_token || byte == '=')
            return is_token ? EXT_NAME : EXT_VALUE_0;
        if (is_space)
            return EXT_EQUALS;
        break;
    case EXT_EQUALS:
        return is_space ? EXT_EQUALS : byte == '=' ? EXT_VALUE_0 : byte == ';' ? EXT_NAME_0 : BAD;
    case EXT_VALUE_0:
        return is_space ? EXT_VALUE_0 : byte == '"' ? EXT_QUOTED : is_token ? EXT_TOKEN : BAD;
    case EXT_TOKEN:
        if (is_token)
            return EXT_TOKEN;
        break;
    case EXT_QUOTED:
        if (byte == '"' || byte == '\\')
            return byte == '"' ? EXT_END : EXT_ESCAPED;
        return h1_char_is(byte, H1_CHAR_TEXT) ? EXT_QUOTED : BAD;
    case EXT_ESCAPED:
        return h1_char_is(byte, H1_CHAR_TEXT) ? EXT_QUOTED : BAD;
    case EXT_END:
        break;
    case LF:
        return byte == '\n' ? DATA : BAD;
    case DATA_CR:
        return byte == '\r' ? DATA_LF : BAD;
    case DATA_LF:
        return byte == '\n' ? SIZE : BAD;
    case DATA:
    case TRAILERS:
    case BAD:
        return BAD;
    }
    /* Behind a size, a name or a value. */
    return byte == '\r' ? LF : byte == ';' ? EXT_NAME_0 : is_space ? BWS : BAD;
}

static const char *take_digit(struct h1_chunked *c, char byte) {
    unsigned digit = h1_char_is(byte, H1_CHAR_DIGIT) ? (unsigned)(byte - '0')
                                                     : (unsigned)(byte | 0x20) - 'a' + 10;

    if (c->line == DIGITS_MAX || c->left > INT64_MAX >> 4)
        return "chunk size is too large";
    c->left = c->left << 4 | digit;
    return NULL;
}

static struct slice take_content(struct h1_chunked *c, struct slice *in) {
    struct slice data = slice_of(in->base, in->len < c->left ? in->len : c->left);

    *in = slice_skip(*in, data.len);
    c->left -= data.len;
    c->overhead -= data.len < c->overhead ? (uint32_t)data.len : c->overhead;
    if (c->left == 0)
        c->state = DATA_CR;
    return data;
}

static enum h1_chunk_outcome take_trailers(struct h1_chunked *c, struct slice *in,
                                           const struct h1_limits *limits, struct arena *arena,
                                           struct fields *trailers, const char **why) {
    size_t seen = c->section.len, room = limits->head_bytes - seen, used;
    struct slice section = *in;
    enum h1_outcome outcome;

    if (seen > 0) {
        buffer_append(&c->section, slice_of(in->base, in->len < room ? in->len : room));
        section = buffer_slice(&c->section);
    }
    outcome = h1_parse_trailers(section, seen, limits, arena, trailers, &used, why);
    if (outcome == H1_DONE) {
        *in = slice_skip(*in, used - seen);
        *why = h1_keep_proper_trailers(trailers);
        return *why ? H1_CHUNK_BAD : H1_CHUNK_END;
    }
    if (outcome != H1_PARTIAL)
        return outcome == H1_HEAD_LARGE ? H1_CHUNK_LARGE : H1_CHUNK_BAD;
    if (seen == 0)
        buffer_append(&c->section, *in);
    *in = slice_skip(*in, in->len);
    return H1_CHUNK_MORE;
}

const char *h1_keep_proper_trailers(struct fields *trailers) {
    struct field *to = trailers->list;

    for (uint32_t i = 0; i < trailers->count; i++) {
        switch (trailers->list[i].id) {
        case FIELD_CONTENT_LENGTH:
        case FIELD_TRANSFER_ENCODING:
        case FIELD_HOST:
            return "trailer section has a framing or routing field";
        case FIELD_TE:
        case FIELD_RANGE:
        case FIELD_COOKIE:
        case FIELD_EXPECT:
        case FIELD_TRAILER:
        case FIELD_UPGRADE:
        case FIELD_FORWARDED:
        case FIELD_CONNECTION:
        case FIELD_KEEP_ALIVE:
        case FIELD_SET_COOKIE:
        case FIELD_RETRY_AFTER:
        case FIELD_CONTENT_TYPE:
        case FIELD_MAX_FORWARDS:
        case FIELD_AUTHORIZATION:
        case FIELD_CACHE_CONTROL:
        case FIELD_CONTENT_RANGE:
        case FIELD_HTTP2_SETTINGS:
        case FIELD_X_FORWARDED_FOR:
        case FIELD_CONTENT_ENCODING:
        case FIELD_WWW_AUTHENTICATE:
        case FIELD_X_FORWARDED_HOST:
        case FIELD_PROXY_CONNECTION:
        case FIELD_X_FORWARDED_PROTO:
        case FIELD_PROXY_AUTHENTICATE:
        case FIELD_PROXY_AUTHORIZATION:
            break;
        default:
            *to++ = trailers->list[i];
        }
    }
    trailers->count = trailers->count > 0 ? (uint32_t)(to - trailers->list) : 0;
    return NULL;
}
