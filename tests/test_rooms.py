"""The layout rules that a compiler does not check.

- A room (proxy/<room>/) includes only itself and rooms on strictly lower lines of LINES.
- The public headers (include/weir/) include nothing of proxy/, nor do the plugins that come with weir.
- A file is at most 600 lines long.
- A type has one definition in the tree.
- What STYLE calls a room has a line here, and every fuzz target is built.

Each rule is a function from a tree to its violations; the self-tests below break each one on purpose.
"""
import pathlib
import re

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LINES_MAX = 600

LINES = [
    {"base"},
    {"config", "metrics", "fds", "loop", "state"},
    {"exchange", "transport"},
    {"route", "admission", "handler", "codec"},
    {"upstream", "child", "origin"},
    {"pipeline"},
    {"gateway"},
    {"supervisor", "admin", "demo", "mcp"},
    {"serve"},
]
LEVEL = {room: level for level, rooms in enumerate(LINES) for room in rooms}
TOP = len(LINES)  # main.c sees every room

SOURCES = {".c", ".h", ".def", ".cpp", ".hpp"}
COMMENT_OR_STRING = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
DEFINITION = re.compile(r"\b(struct|union|enum)\s+(?:__attribute__\s*\(\(.*?\)\)\s*)?(\w+)\s*(?::[^{;]*)?\{")


def sources(root, *folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCES and "node_modules" not in path.parts:
                yield path


def includes(path):
    """(line, kind, name) of each #include outside comments."""
    text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), path.read_text(), flags=re.S)
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def resolve(root, path, name):
    """The included file inside proxy/, relative to it, or None when it is none of ours."""
    proxy = (root / "proxy").resolve()
    for base in (path.parent, proxy, root / "include"):
        found = (base / name).resolve()
        if found.is_file():
            return found.relative_to(proxy) if found.is_relative_to(proxy) else None
    first = name.split("/")[0]
    return pathlib.Path(name) if first in LEVEL and "/" in name else None


def level_of(inside):
    """The line of a file, given relative to proxy/; None when its room has no line."""
    return TOP if len(inside.parts) == 1 else LEVEL.get(inside.parts[0])


def bad_includes(root):
    for path in sources(root, "proxy"):
        inside = path.relative_to(root / "proxy")
        mine = level_of(inside)
        if mine is None:
            continue
        for line, _, name in includes(path):
            target = resolve(root, path, name)
            if target is None or target.parts[0] == inside.parts[0]:
                continue
            theirs = level_of(target)
            if theirs is None or theirs >= mine:
                yield f"{path.relative_to(root)}:{line}: {inside.parts[0]} may not include {name}"


def bad_public_includes(root):
    for path in sources(root, "include"):
        for line, kind, name in includes(path):
            is_ours = resolve(root, path, name) is not None
            if is_ours or kind == '"' and not (root / "include" / name).is_file() \
                    and not (path.parent / name).is_file():
                yield f"{path.relative_to(root)}:{line}: a public header may not include {name}"


def bad_plugin_includes(root):
    for path in sources(root, "plugins"):
        for line, _, name in includes(path):
            if resolve(root, path, name) is not None:
                yield f"{path.relative_to(root)}:{line}: a plugin may not include {name}"


def long_files(root):
    for path in sources(root, "proxy", "include", "plugins", "subprojects", "tests"):
        count = path.read_text().count("\n")
        if count > LINES_MAX:
            yield f"{path.relative_to(root)}: {count} lines, at most {LINES_MAX}"


def repeated_types(root):
    seen = {}
    for path in sources(root, "proxy", "include"):
        text = COMMENT_OR_STRING.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), path.read_text())
        for match in DEFINITION.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            place = f"{path.relative_to(root)}:{line}"
            if match[2] in seen:
                yield f"{place}: {match[1]} {match[2]} is defined in {seen[match[2]]} too"
            seen.setdefault(match[2], place)


def unknown_rooms(root):
    for path in sorted((root / "proxy").iterdir()):
        if path.is_dir() and path.name not in LEVEL:
            yield f"{path.relative_to(root)}: a room without a line in {pathlib.Path(__file__).name}"


def unlisted_fuzz_targets(root):
    listing = root / "tests" / "fuzz" / "meson.build"
    listed = listing.read_text() if listing.is_file() else ""
    for path in sorted((root / "tests" / "fuzz").glob("fuzz_*.c")):
        if f"'{path.stem.removeprefix('fuzz_')}'" not in listed:
            yield f"{path.relative_to(root)}: not in fuzz_targets of {listing.relative_to(root)}"


RULES = [bad_includes, bad_public_includes, bad_plugin_includes, long_files, repeated_types, unknown_rooms,
         unlisted_fuzz_targets]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule):
    violations = list(rule(REPOSITORY))
    assert not violations, "\n" + "\n".join(violations)


def test_the_rules_see_the_tree():
    assert sum(1 for _ in sources(REPOSITORY, "proxy")) > 10
    assert any(list(includes(path)) for path in sources(REPOSITORY, "proxy"))


# --- The rules can fail ----------------------------------------------------------------------------------

GOOD = {
    "proxy/main.c": '#include "gateway/gateway.h"\n#include "admin/admin.h"\n',
    "proxy/base/slice.h": "#include <stddef.h>\nstruct slice {\n    size_t len;\n};\n",
    "proxy/exchange/head.h": '#include "base/slice.h"\nenum method { METHOD_GET };\n',
    "proxy/codec/h1.h": '#include "exchange/head.h"\nstruct h1;\n',
    "proxy/codec/h1.c": '#include "codec/h1.h"\n#include "h1.h"\nstruct h1 {\n    struct slice rest;\n};\n',
    "proxy/route/route.h": '#include <weir/handler.h>\n#include "base/slice.h"\n',
    "proxy/gateway/gateway.h": '#include "codec/h1.h"\n',
    "proxy/admin/admin.h": '#include "gateway/gateway.h"\n',
    "proxy/demo/demo.h": '#include "base/slice.h"\n',
    "include/weir/handler.h": "#include <stdint.h>\n#include <weir/version.h>\n",
    "include/weir/version.h": "",
    "plugins/common/text.h": "#include <weir/handler.h>\n",
    "plugins/jwt/jwt.c": '#include "../common/text.h"\n#include <stdlib.h>\n',
    "tests/fuzz/meson.build": "fuzz_targets = ['h1']\n",
    "tests/fuzz/fuzz_h1.c": "",
}


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_good_tree_passes_every_rule(tmp_path):
    plant(tmp_path, GOOD)
    assert [v for rule in RULES for v in rule(tmp_path)] == []


@pytest.mark.parametrize("rule, name, text, at", [
    (bad_includes, "proxy/base/bad.c", '\n#include "exchange/head.h"\n', 2),           # upwards
    (bad_includes, "proxy/base/bad.c", "#include <exchange/head.h>\n", 1),             # by brackets
    (bad_includes, "proxy/base/bad.c", '  #  include "../codec/h1.h"\n', 1),           # by a path
    (bad_includes, "proxy/route/bad.c", '#include "codec/h1.h"\n', 1),                 # sideways
    (bad_includes, "proxy/admin/bad.c", '#include "demo/demo.h"\n', 1),                # sideways at the top
    (bad_includes, "proxy/codec/bad.c", '#include "pipeline/generated.h"\n', 1),       # not there (yet)
    (bad_includes, "proxy/exchange/fail.def", '#include "gateway/gateway.h"\n', 1),    # from a list
    (bad_includes, "proxy/demo/bad.c", '/* " */\n#include "admin/admin.h"\n', 2),      # after a comment
    (bad_public_includes, "include/weir/bad.h", '#include "base/slice.h"\n', 1),
    (bad_public_includes, "include/weir/bad.h", '#include "../../proxy/base/slice.h"\n', 1),
    (bad_public_includes, "include/weir/bad.h", '#include "nowhere.h"\n', 1),
    (bad_plugin_includes, "plugins/jwt/bad.c", '\n#include "base/slice.h"\n', 2),
    (bad_plugin_includes, "plugins/bad.c", '#include "../proxy/base/slice.h"\n', 1),
    (repeated_types, "proxy/route/bad.c", "struct slice\n{\n    int x;\n};\n", 1),
    (repeated_types, "proxy/route/bad.c", "\nunion h1 { int x; };\n", 2),
    (repeated_types, "proxy/route/bad.c", "enum method { POST };\n", 1),
])
def test_a_violation_is_found_and_located(tmp_path, rule, name, text, at):
    plant(tmp_path, GOOD | {name: text})
    found = list(rule(tmp_path))
    # The second definition of a type is the one in the later file.
    assert len(found) == 1
    assert found[0].startswith(f"{name}:{at}: ") or rule is repeated_types and name in found[0]


@pytest.mark.parametrize("text", [
    '/* #include "gateway/gateway.h" */\n',
    "struct slice *find(struct slice s);\n",
    "struct slice;\n",
    '/* struct slice { */ const char *x = "struct slice {";\n',
])
def test_what_only_looks_like_a_violation_passes(tmp_path, text):
    plant(tmp_path, GOOD | {"proxy/codec/fine.c": text})
    assert [v for rule in RULES for v in rule(tmp_path)] == []


@pytest.mark.parametrize("lines, violations", [(LINES_MAX, 0), (LINES_MAX + 1, 1)])
def test_600_lines_are_enough(tmp_path, lines, violations):
    plant(tmp_path, GOOD | {"proxy/codec/long.c": "\n" * lines})
    assert len(list(long_files(tmp_path))) == violations


def test_a_room_needs_a_line(tmp_path):
    plant(tmp_path, GOOD | {"proxy/misc/x.c": ""})
    assert len(list(unknown_rooms(tmp_path))) == 1


def test_a_fuzz_target_must_be_built(tmp_path):
    plant(tmp_path, GOOD | {"tests/fuzz/fuzz_route.c": ""})
    assert len(list(unlisted_fuzz_targets(tmp_path))) == 1
