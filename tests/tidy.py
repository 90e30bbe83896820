"""Runs clang-tidy over the sources of a clang build, for ./dev lint.

What was clean is not looked at again until the source, a header of ours that it includes, its compile
command or .clang-tidy changes: the digests of clean files are kept in the build directory.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess

CHECKED = re.compile(r"(proxy|plugins|subprojects/[^/]+|tests/fuzz)/(?!tests/)")


def dependencies(build):
    """The headers of each object, as ninja recorded them when it was compiled."""
    found, target = {}, None
    text = subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        if line.startswith("    "):
            found[target].append(os.path.normpath(os.path.join(build, line.strip())))
        elif ": #deps" in line:
            target = line.split(": #deps")[0]
            found[target] = []
    return found


def digest(entry, files):
    state = hashlib.sha256(entry["command"].encode())
    for name in [".clang-tidy", *sorted(files)]:
        with open(name, "rb") as file:
            state.update(file.read())
    return state.hexdigest()


def run(build, source):
    done = subprocess.run(["clang-tidy", "--quiet", "--warnings-as-errors=*", "-p", build, source],
                          capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return re.sub(r"^\d+ warnings? treated as errors?\n", "", done.stdout, flags=re.M) + (
        done.stderr if not done.stdout.strip() else "")


def check(build):
    """Yields (source, None or what clang-tidy said) for every source."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    cache_path = os.path.join(build, "tidy-clean.json")
    try:
        with open(cache_path, encoding="utf-8") as file:
            clean = set(json.load(file))
    except (OSError, ValueError):
        clean = set()
    headers = dependencies(build)
    wanted = {}
    for entry in commands:
        source = os.path.relpath(os.path.join(entry["directory"], entry["file"]))
        if CHECKED.match(source) and source not in wanted:
            ours = [f for f in headers.get(entry["output"], []) if not f.startswith(("/", ".."))]
            wanted[source] = digest(entry, {source, *ours})
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        dirty = [source for source in wanted if wanted[source] not in clean]
        said = dict(zip(dirty, pool.map(lambda source: run(build, source), dirty)))
    with open(cache_path, "w", encoding="utf-8") as file:
        json.dump(sorted(wanted[source] for source in wanted if said.get(source) is None), file)
    for source in sorted(wanted):
        yield source, said.get(source)
