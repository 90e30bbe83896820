"""What a request costs weir, counted instead of timed: instructions in user space by callgrind, system
calls by strace, both of the gateway process under a fixed number of requests.

Two runs of different length go through one process, and only their difference counts: what it takes to
start, to connect and to fill the pools is in both. So the figures are the same on a busy machine and
on an idle one, and change by less than 1% from run to run.

    load/cost.py [ROW...]             counts rows of bench and compares them with the budget
    load/cost.py --renew              writes what was counted to load/budget.json
    load/cost.py small --profile FILE for callgrind_annotate

tests/test_cost.py holds weir to the budget, which a change that makes weir cheaper or, for a reason, dearer
renews in the same commit.
"""

import argparse
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import proxies
from rows import ROWS, Wrk, engine_of, loadgen_of

BUDGET = common.HERE / "budget.json"
BUDGET_ROWS = ("small", "64k", "h2", "grpc")
TOLERANCE = 1.03
SYSCALLS_SPARE = 0.02  # what happens rarely: a tick, a partial read

# Requests of the shorter run, of which the longer one has so many more, and how often that is done.
FEW, MANY_INSTRUCTIONS, MANY_SYSCALLS = 1024, 4096, 8192
ROUNDS = 3
# A traced weir is slow, which is no reason to turn requests away.
NEVER_LATE = '[admission]\nshed_at = { loop_lag = "0s" }\n'
UNITS = {"instructions": "instructions in user space", "syscalls": "system calls"}


class CannotCount(common.Failure):
    """Not here: a program is missing, or the kernel does not let us."""


def instructions(row, enough=0):
    """Per request of @row. @enough: as of least()."""
    with tempfile.TemporaryDirectory(prefix="weir-cost-") as folder:
        with running(row, callgrind(folder)) as (proxy, pid):
            parts = itertools.count(1)

            def cost_of(count):
                load(proxy, row, count)
                ask_callgrind(pid, "dump")
                part = Path(folder, f"out.{pid}.{next(parts)}").read_text()
                return sum(int(n) for n in re.findall(r"^totals: (\d+)", part, re.M))

            return least(cost_of, FEW, MANY_INSTRUCTIONS, enough)


def profile(row, to):
    """Writes what callgrind knows of many requests of @row to the file @to."""
    with tempfile.TemporaryDirectory(prefix="weir-cost-") as folder:
        with running(row, callgrind(folder)) as (proxy, pid):
            load(proxy, row, FEW)
            ask_callgrind(pid, "zero")
            load(proxy, row, MANY_INSTRUCTIONS)
        shutil.copy(f"{folder}/out.{pid}", to)


def callgrind(folder):
    """The command that has weir counted into @folder."""
    valgrind = common.find_program("valgrind")
    if not valgrind:
        raise CannotCount("valgrind is not installed")
    return [valgrind, "--tool=callgrind", "--trace-children=yes", "--log-file=/dev/null",
            f"--callgrind-out-file={folder}/out.%p"]


def ask_callgrind(pid, command):
    done = subprocess.run(["vgdb", f"--pid={pid}", "--wait=60", command],
                          capture_output=True, text=True, timeout=90)
    if done.returncode:
        raise CannotCount(f"callgrind cannot be asked: {done.stderr.strip()}")


def syscalls(row, enough=0):
    """Per request of @row. @enough: as of least()."""
    strace = common.find_program("strace")
    if not strace:
        raise CannotCount("strace is not installed")
    with running(row) as (proxy, pid):
        def cost_of(count):
            with tempfile.NamedTemporaryFile("r") as counted:
                tracer = common.Process([strace, "-f", "-c", "-U", "calls", "-o", counted.name, "-p", pid])
                try:
                    try:
                        tracer.wait_until(lambda: is_traced(pid), seconds=30)
                    except common.Failure as failure:
                        raise CannotCount(str(failure))
                    load(proxy, row, count)
                finally:
                    if tracer.is_running():
                        tracer.popen.send_signal(signal.SIGINT)
                    tracer.popen.wait(30)
                calls = re.findall(r"^ *(\d+) (?!total)\w+$", counted.read(), re.M)
                return sum(map(int, calls))

        return least(cost_of, FEW, MANY_SYSCALLS, enough)


def least(cost_of, few, many, enough):
    """What one request costs: the difference of many and few. The least of ROUNDS, because of a proxy that waits
    for its core batches are smaller, and each request in them costs more; or the first that is @enough."""
    cost_of(few)  # pools and caches are filled
    best = None
    for _ in range(ROUNDS):
        now = (cost_of(few + many) - cost_of(few)) / many
        best = now if best is None else min(best, now)
        if best <= enough:
            break
    return best


def is_traced(pid):
    """Are all threads of it?"""
    return all(int(re.search(r"^TracerPid:\s+(\d+)", task.read_text(), re.M)[1])
               for task in Path(f"/proc/{pid}/task").glob("*/status"))


COUNTERS = {"instructions": instructions, "syscalls": syscalls}


class running:
    """weir and its upstream while it lasts; gives the proxy and the pid of its gateway process."""

    def __init__(self, row, tracer=()):
        self.row, self.tracer = row, tracer

    def __enter__(self):
        upstream, self.engine = proxies.start_engine(program=engine_of(self.row))
        try:
            self.proxy = proxies.start_weir(upstream, kind=ROWS[self.row][1], tracer=self.tracer,
                                            routes=NEVER_LATE)
        except BaseException:
            self.engine.stop()
            raise
        return self.proxy, self.proxy.process.tree()[-1]

    def __exit__(self, *_):
        self.proxy.stop()
        self.engine.stop()


def load(proxy, row, count):
    got = common.run_loadgen(proxy.port, "--count", count, "--seconds", 100, "--warmup", 0, "--timeout", 60,
                             *ROWS[row][2], seconds=120, program=loadgen_of(row))
    if got["errors"] or got["ok"]["count"] != count:
        raise common.Failure(f"{row}: {got['ok']['count']} of {count} answers, {got['failures']}")


def compare(row, counted, budget):
    """What is wrong with what was counted; nothing: it is within the budget."""
    said = []
    for what, now in counted.items():
        allowed = budget.get(row, {}).get(what)
        if allowed is None:
            said.append(f"{row}: there is no budget of {UNITS[what]}")
        elif now > allowed * TOLERANCE + (SYSCALLS_SPARE if what == "syscalls" else 0):
            said.append(f"{row}: {now:,.2f} {UNITS[what]} per request, {now / allowed - 1:+.1%} of the "
                        f"{allowed:,.2f} of load/budget.json")
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: {', '.join(BUDGET_ROWS)}")
    parser.add_argument("--renew", action="store_true", help="make what is counted the budget")
    parser.add_argument("--only", choices=list(UNITS), help="count only these")
    parser.add_argument("--profile", metavar="FILE", help="of one row: callgrind's file of some "
                        "thousand requests, for callgrind_annotate")
    options = parser.parse_args()
    rows = options.rows or list(BUDGET_ROWS)
    for row in rows:
        if row not in ROWS or isinstance(ROWS[row][2], Wrk):
            parser.error(f"'{row}' is no row that can be counted")
    if options.profile:
        profile(rows[0], options.profile)
        return 0
    budget = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    failures, table = [], []
    for row in rows:
        counted, since = {}, time.monotonic()
        for what in [options.only] if options.only else COUNTERS:
            counted[what] = COUNTERS[what](row)
        table += [(row, what, f"{n:,.2f}", f"{budget.get(row, {}).get(what, 0):,.2f}")
                  for what, n in counted.items()]
        common.say(f"cost: {row}: {time.monotonic() - since:.0f} s")
        failures += compare(row, counted, budget)
        if options.renew:
            budget[row] = {**budget.get(row, {}), **{what: round(n, 2) for what, n in counted.items()}}
    print(common.table(["row", "per request", "now", "budget"], table, left=2))
    if options.renew:
        common.write_json(BUDGET, budget)
        return 0
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (common.Failure, OSError) as failure:
        sys.exit(f"cost: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
