"""weir, optimised across its files and by counts of what it does under the rows of bench.

    load/profiled.py DIRECTORY    makes or renews the build in DIRECTORY

A first build counts its branches and calls while it goes through each row for a moment; the second one is laid
out by them. Counts that are older than a source are of no use to the compiler, so it is all made anew then:
minutes. `./dev run --release` and `./dev bench --release` do it.

What wrk loads in bench goes through a client of our own here, so that nothing has to be installed for a
build. The plain rows run a second time with an access log, as most users have one.
"""

import http.client
import os
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import common
import proxies
from rows import ROWS, Wrk, engine_of, loadgen_of

SOURCES = ["proxy", "include", "subprojects", "meson.build", "load/profiled.py"]
SECONDS = 1.5  # of each row
LOGGED = ("small", "h2", "grpc")
REQUESTS_PER_CONNECTION = 100  # over TLS


def main():
    build = Path(sys.argv[1]).resolve()
    stamp = build / "profiled"
    if stamp.exists() and stamp.stat().st_mtime > newest_source():
        return
    shutil.rmtree(build, ignore_errors=True)
    run("meson", "setup", build, "-Db_lto=true", "-Db_pgo=generate", "-Doptimization=3",
        env={"CC": "gcc", "CXX": "g++"})
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
        if kind == "handlers" or not isinstance(options, Wrk) and "--connections" in options:
            continue
        for access in ("off", "./access.log") if row in LOGGED else ("off",):
            count = train_once(row, kind, options, access)
            print(f"{row}{'' if access == 'off' else ', logged'}: {count} requests", flush=True)


def train_once(row, kind, options, access):
    upstream, engine = proxies.start_engine(program=engine_of(row))
    try:
        proxy = proxies.start_weir(upstream, kind=kind, routes=proxies.NEVER_LATE, access=access)
        try:
            if isinstance(options, Wrk):
                count = ask_tls(proxy.tls_port, options)
            else:
                got = common.run_loadgen(proxy.port, "--seconds", SECONDS, *options, program=loadgen_of(row))
                count = 0 if got["errors"] else got["ok"]["count"]
        finally:
            status = proxy.stop()
    finally:
        engine.stop()
    if not count or status != 0:
        raise common.Failure(f"{row}: {count} right answers, exit status {status}")
    return count


def ask_tls(port, load):
    """How many requests were answered, one after the other; 0 if one was not."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    size, end, count = int(load.path.rpartition("/")[2]), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        for _ in range(1 if load.options else REQUESTS_PER_CONNECTION):
            connection.request("GET", load.path)
            answer = connection.getresponse()
            if answer.status != 200 or len(answer.read()) != size:
                return 0
            count += 1
        connection.close()
    return count


if __name__ == "__main__":
    try:
        main()
    except (common.Failure, OSError, IndexError) as failure:
        sys.exit(f"profiled: {failure}")
