/* Parses with toml++ and copies its tree, breadth first, into one block: nodes, then text. The
 * children of a table or an array lie side by side. No exception leaves this file: a parse error
 * becomes an answer, running out of memory ends the process. */
#include "tomlc.h"

#include "scan.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

/* The text is not trusted, so an assertion of toml++ that it trips is a parse error. */
struct tripped {};
[[noreturn]] static void trip() {
    throw tripped();
}
#undef NDEBUG
#define TOML_ASSERT(claim) ((claim) ? (void)0 : trip())
#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 32
#include <toml++/toml.h>

static_assert(TOML_MAX_NESTED_VALUES == TOMLC_NESTING_MAX);

using std::string_view;

namespace {

struct source {
    const toml::node *node;
    const toml::key *key; /* nullptr: none */
    size_t children;      /* index of the first */
};

tomlc_position position_of(const toml::source_region &region) {
    return {region.begin.line, region.begin.column};
}

/* All nodes, parents before children, the children of each in one run and in file order. */
std::vector<source> flatten(const toml::table &root) {
    std::vector<source> all{{&root, nullptr, 0}};

    for (size_t i = 0; i < all.size(); i++) {
        size_t first = all.size();

        all[i].children = first;
        if (const toml::array *array = all[i].node->as_array())
            for (const toml::node &node : *array)
                all.push_back({&node, nullptr, 0});
        if (const toml::table *table = all[i].node->as_table())
            for (auto &&[key, node] : *table)
                all.push_back({&node, &key, 0});
        if (all[i].node->is_table())
            std::sort(all.begin() + static_cast<ptrdiff_t>(first), all.end(),
                      [](const source &a, const source &b) {
                          return a.key->source().begin < b.key->source().begin;
                      });
    }
    return all;
}

size_t text_size(const std::vector<source> &all) {
    size_t size = 0;

    for (const source &from : all) {
        if (from.key)
            size += from.key->length() + 1;
        if (const auto *string = from.node->as_string())
            size += string->get().size() + 1;
    }
    return size;
}

const char *copy_text(char *&to, string_view text) {
    char *start = to;

    std::memcpy(start, text.data(), text.size());
    start[text.size()] = '\0';
    to += text.size() + 1;
    return start;
}

void fill(tomlc_node &to, const source &from, const tomlc_node *nodes, char *&text) {
    const toml::node &node = *from.node;

    to.at = position_of(node.source());
    if (from.key) {
        to.key_at = position_of(from.key->source());
        to.key = copy_text(text, from.key->str());
        to.key_len = from.key->length();
    }
    if (const auto *table = node.as_table()) {
        to.kind = TOMLC_TABLE;
        to.len = table->size();
        to.children = nodes + from.children;
    } else if (const auto *array = node.as_array()) {
        to.kind = TOMLC_ARRAY;
        to.len = array->size();
        to.children = nodes + from.children;
    } else if (const auto *string = node.as_string()) {
        to.kind = TOMLC_STRING;
        to.len = string->get().size();
        to.string = copy_text(text, string->get());
    } else if (const auto *integer = node.as_integer()) {
        to.kind = TOMLC_INTEGER;
        to.integer = integer->get();
    } else if (const auto *floating = node.as_floating_point()) {
        to.kind = TOMLC_FLOAT;
        to.floating = floating->get();
    } else if (const auto *boolean = node.as_boolean()) {
        to.kind = TOMLC_BOOLEAN;
        to.boolean = boolean->get();
    } else {
        to.kind = node.is_date() ? TOMLC_DATE : node.is_time() ? TOMLC_TIME : TOMLC_DATE_TIME;
    }
}

const tomlc_node *build(const toml::table &root) {
    std::vector<source> all = flatten(root);
    size_t nodes_size = all.size() * sizeof(tomlc_node);
    void *block = std::calloc(1, nodes_size + text_size(all));

    if (!block)
        throw std::bad_alloc();
    tomlc_node *nodes = static_cast<tomlc_node *>(block);
    char *text = static_cast<char *>(block) + nodes_size;
    for (size_t i = 0; i < all.size(); i++)
        fill(nodes[i], all[i], nodes, text);
    return nodes;
}

bool take_prefix(string_view &text, string_view prefix) {
    if (text.substr(0, prefix.size()) != prefix)
        return false;
    text.remove_prefix(prefix.size());
    return true;
}

/* Escapes control characters, which toml++ repeats as they are, and cuts at the border of a
 * character: toml++ may have cut inside one already. */
void set_text(tomlc_error &error, const std::string &text) {
    static const char hex[] = "0123456789abcdef";
    std::string safe;
    size_t length, start;

    for (char c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
            safe += {'\\', 'x', hex[c >> 4], hex[c & 15]};
        else
            safe += c;
    length = std::min(safe.size(), sizeof error.text - 1);
    start = length;
    while (start > 0 && (static_cast<unsigned char>(safe[start - 1]) & 0xC0) == 0x80)
        start--;
    if (start > 0 && static_cast<unsigned char>(safe[start - 1]) >= 0xC0) {
        unsigned char lead = static_cast<unsigned char>(safe[start - 1]);
        size_t need = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

        if (length - (start - 1) < need)
            length = start - 1;
    }
    std::memcpy(error.text, safe.data(), length);
    error.text[length] = '\0';
}

/* The quoted name in front of @text, with a blank before it; nothing when it holds quotes itself,
 * because toml++ garbles those. */
std::string name_in(string_view text) {
    string_view name = text.substr(0, text.find('\'', 1) + 1);

    return name.size() == text.size() ? " " + std::string(name) : "";
}

/* toml++ says "Error while parsing key-value pair: cannot redefine existing integer 'a'". */
void explain(tomlc_error &error, const toml::parse_error &from, const char *text, size_t len) {
    string_view reason = from.description();
    string_view scope;

    error.at = position_of(from.source());
    if (take_prefix(reason, "Error while parsing ")) {
        scope = reason.substr(0, reason.find(": "));
        reason.remove_prefix(std::min(scope.size() + 2, reason.size()));
    }
    if (take_prefix(reason, "exceeded maximum nested value depth")) {
        set_text(error, "arrays and tables nested deeper than 32 levels");
    } else if (scope == "key-value pair" && take_prefix(reason, "cannot redefine existing ")) {
        /* The kind of the first one stands before the name in quotes, if there is one. */
        size_t quote = reason.find(" '");

        tomlc_scan_back_to_key(text, len, &error.at);
        if (quote == string_view::npos) /* "integer as dotted key-value pair" */
            set_text(error, "cannot add to what is set above: existing " + std::string(reason));
        else
            set_text(error, "duplicate key" + name_in(reason.substr(quote + 1)) +
                                ": it is set above, as " + std::string(reason.substr(0, quote)));
    } else if (take_prefix(reason, "cannot redefine existing table ")) {
        set_text(error, "duplicate table" + name_in(reason) + ": it is defined above");
    } else if (reason == "encountered end-of-file") {
        set_text(error, "the text ends in the middle of: " + std::string(scope));
    } else if (reason == "could not determine value type" || scope == "boolean" ||
               take_prefix(reason, "expected 'nan'") || take_prefix(reason, "expected 'inf'")) {
        set_text(error, "this is no value; a string needs quotes");
    } else {
        set_text(error,
                 std::string(reason) + (scope.empty() ? "" : " (" + std::string(scope) + ")"));
    }
}

bool trips(string_view text) {
    try {
        (void)toml::parse(text);
    } catch (const tripped &) {
        return true;
    } catch (const toml::parse_error &) {
    }
    return false;
}

/* The line in which an assertion trips, which does not say where it is: the first after which the
 * text can be cut off and still trips. The parser reads from front to back, so halving finds it. */
uint32_t find_trip(string_view text) {
    std::vector<size_t> ends; /* of lines */
    size_t first = 0, last;

    for (size_t i = 0; i < text.size(); i++)
        if (text[i] == '\n')
            ends.push_back(i + 1);
    ends.push_back(text.size());
    last = ends.size() - 1;
    while (first < last) {
        size_t middle = first + (last - first) / 2;

        if (trips(text.substr(0, ends[middle])))
            last = middle;
        else
            first = middle + 1;
    }
    return static_cast<uint32_t>(first) + 1;
}

} // namespace

int tomlc_parse(const tomlc_node **root, const char *text, size_t len, tomlc_error *error) {
    int err = tomlc_scan(text, len, error);

    if (err)
        return err;
    try {
        *root = build(toml::parse(string_view(text, len)));
        return 0;
    } catch (const toml::parse_error &failure) {
        explain(*error, failure, text, len);
        return -EINVAL;
    } catch (const tripped &) {
        *error = {{find_trip(string_view(text, len)), 1}, "this line is not TOML"};
        return -EINVAL;
    } catch (...) {
        std::abort(); /* out of memory */
    }
}

void tomlc_free(const tomlc_node *root) {
    std::free(const_cast<tomlc_node *>(root));
}

const tomlc_node *tomlc_find(const tomlc_node *table, const char *key) {
    size_t length = std::strlen(key);

    if (table->kind != TOMLC_TABLE)
        return nullptr;
    for (size_t i = 0; i < table->len; i++)
        if (table->children[i].key_len == length &&
            std::memcmp(table->children[i].key, key, length) == 0)
            return &table->children[i];
    return nullptr;
}

const char *tomlc_kind_name(tomlc_kind kind) {
    static const char *const names[] = {"table",   "array", "string", "integer",  "float",
                                        "boolean", "date",  "time",   "date-time"};

    return names[kind];
}
