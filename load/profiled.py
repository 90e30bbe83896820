"""weir, optimised across its files and by counts of what it does under the rows of bench.

    load/profiled.py DIRECTORY    makes or renews the build in DIRECTORY

A first build counts its branches and calls while it goes through each row for a moment; the second one is laid
out by them. Counts that are older than a source are of no use to the compiler, so it is all made anew then:
minutes. `./dev run --release` and `./dev bench --release` do it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import common
import proxies
from rows import ROWS, Wrk, engine_of, loadgen_of

SOURCES = ["proxy", "include", "subprojects", "meson.build", "load/profiled.py"]
SECONDS = 1.5  # of each row


def main():
    build = Path(sys.argv[1]).resolve()
    stamp = build / "profiled"
    if stamp.exists() and stamp.stat().st_mtime > newest_source():
        return
    shutil.rmtree(build, ignore_errors=True)
    run("meson", "setup", build, "-Db_lto=true", "-Db_pgo=generate", env={"CC": "gcc", "CXX": "g++"})
    run("ninja", "-C", build, "weir")
    train(build / "weir")
    run("meson", "configure", build, "-Db_pgo=use")
    run("ninja", "-C", build, "weir")
    stamp.touch()


def newest_source():
    roots = [common.ROOT / name for name in SOURCES]
    return max(path.stat().st_mtime for root in roots
               for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file())


def run(*command, env=None):
    done = subprocess.run(list(map(str, command)), cwd=common.ROOT, env={**os.environ, **(env or {})})
    if done.returncode:
        raise common.Failure(f"{command[0]} ended with {done.returncode}")


def train(binary):
    os.environ["WEIR_BIN"] = str(binary)
    for row, (_, kind, options) in ROWS.items():
        if isinstance(options, Wrk) or "--connections" in options:
            continue
        upstream, engine = proxies.start_engine(program=engine_of(row))
        try:
            proxy = proxies.start_weir(upstream, kind=kind)
            try:
                got = common.run_loadgen(proxy.port, "--seconds", SECONDS, *options, program=loadgen_of(row))
            finally:
                status = proxy.stop()
        finally:
            engine.stop()
        if got["errors"] or not got["ok"]["count"] or status != 0:
            raise common.Failure(f"{row}: {got['failures']}, exit status {status}")
        print(f"{row}: {got['ok']['count']} requests", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (common.Failure, OSError, IndexError) as failure:
        sys.exit(f"profiled: {failure}")
