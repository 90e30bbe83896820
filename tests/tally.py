"""Counts the results of a test runner for ./dev.

    tally.py meson TESTLOG_JSON | pytest JUNIT_XML | tidy BUILD_DIR

Prints "PASSED FAILED SKIPPED" to stdout; to stderr every failure in a line, then each with its output, indented, and
how many tests were left out for which reason. Exits non-zero when there are no results to count, which the caller takes
as a failure.
"""
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

HEAD_LINES, TAIL_LINES = 60, 60
REASON_LENGTH = 200


failures = []  # (title, outputs)


def show_failures():
    for title, _ in failures:
        print(f"  FAILED {title}", file=sys.stderr)
    for title, outputs in failures:
        show(title, outputs)


def show(title, outputs):
    print(f"  {title.partition(': ')[0]}", file=sys.stderr)
    for output in outputs:
        lines = (output or "").rstrip().splitlines()
        if all(re.fullmatch(r"-+ Captured \w+ -+|\s*", line) for line in lines):
            continue
        left_out = len(lines) - HEAD_LINES - TAIL_LINES
        if left_out > 0:
            lines[HEAD_LINES:-TAIL_LINES] = [f"... {left_out} lines left out ..."]
        for line in lines:
            print(f"  | {line}", file=sys.stderr)


def tap_counts(text):
    """cmocka writes a skipped test as "not ok 2 # SKIP name"."""
    passed = failed = skipped = 0
    for line in (text or "").splitlines():
        match = re.match(r"(not )?ok\b(.*)", line)
        if match is None:
            continue
        if re.search(r"#\s*SKIP", match[2], re.I):
            skipped += 1
        elif match[1]:
            failed += 1
        else:
            passed += 1
    return passed, failed, skipped


def without_passes(text):
    """@text without its passed tests, but for one that is the last before the end or a crash."""
    lines = (text or "").splitlines()
    kept = [line for line, following in zip(lines, lines[1:] + [""])
            if not line.startswith("ok ") or not re.match(r"(not )?ok |#", following)]
    return "\n".join(kept)


def tally_meson(path):
    """One JSON object per line and test executable; each subtest of its TAP counts."""
    total = [0, 0, 0]
    with open(path, encoding="utf-8") as log:
        runs = [json.loads(line) for line in log]
    for run in runs:
        counts = list(tap_counts(run.get("stdout")))
        is_bad = run["result"] not in ("OK", "SKIP")
        if run["result"] == "FAIL" and run.get("returncode") == 0 and counts[1] == 0 and counts[2] > 0:
            is_bad = False  # meson takes what cmocka has skipped for failed
        if run["result"] == "SKIP" and sum(counts) == 0:
            counts[2] = 1  # all of it: "1..0 # SKIP why"
        if is_bad and counts[1] == 0:
            counts[1] = 1  # it crashed, leaked or was ended
        if not is_bad and sum(counts) == 0:
            is_bad, counts[1] = True, 1  # a test that says nothing tests nothing
        if is_bad or counts[1]:
            failures.append((f"{run['name']} ({run['result'].lower()}, exit status {run.get('returncode')})",
                             [without_passes(run.get("stdout")), run.get("stderr")]))
        total = [a + b for a, b in zip(total, counts)]
    return total


def reason_of(element):
    """The first line of what went wrong, or of why it was left out."""
    return ((element.get("message") or element.text or "").strip().splitlines() or [""])[0][:REASON_LENGTH]


def tally_pytest(path):
    total = [0, 0, 0]
    left_out = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = [e for e in case if e.tag in ("failure", "error")]
        skips = [e for e in case if e.tag == "skipped"]
        if bad:
            total[1] += 1
            failures.append((f"{name}: {reason_of(bad[0])}", [e.text or e.get("message") for e in bad] +
                             [case.findtext("system-out"), case.findtext("system-err")]))
        elif skips:
            total[2] += 1
            reason = reason_of(skips[0])
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            total[0] += 1
    for reason, count in left_out.items():
        print(f"  skipped {count}: {reason}", file=sys.stderr)
    return total


def tally_tidy(build):
    import tidy
    total = [0, 0, 0]
    for source, output in tidy.check(build):
        if output is None:
            total[0] += 1
        else:
            total[1] += 1
            failures.append((f"clang-tidy {source}", [output]))
    return total


def main():
    kind, path = sys.argv[1:]
    kinds = {"meson": tally_meson, "pytest": tally_pytest, "tidy": tally_tidy}
    if not os.path.exists(path):
        return 1
    print(*kinds[kind](path))
    show_failures()
    return 0


if __name__ == "__main__":
    sys.exit(main())
