"""Message framing once more, by a client and a server that are not ours: one varnishtest case per
rule, in vtc/. A case plays the client c1 on ${weir} and, where one is needed, the upstream s1 on
${upstream}."""

import shutil
import subprocess
from pathlib import Path

import pytest
from harness.env import free_port, scaled

CASES = sorted((Path(__file__).parent / "vtc").glob("*.vtc"))


@pytest.fixture(scope="module")
def front(module_weir):
    upstream = free_port()
    weir = module_weir(
        f"127.0.0.1:{upstream}",
        threads=1,
        listener={
            "limits": {"head": 8192, "target": 2048, "fields": 50},
            "timeouts": {"header": "2s", "body": "2s"},
        },
        # One upstream that fails after the other: none is to be left alone for the last one.
        pipeline={"limits": {"head": 8192, "fields": 50, "informational": 5}, "retry": {"attempts": 1},
                  "breaker": {"consecutive_failures": 0}},
        routes=[{"name": "all", "listener": "http", "match": {}, "pipeline": "up"}],
    )
    return weir, upstream


def test_there_are_cases_for_both_sides():
    assert len([c for c in CASES if c.name.startswith("c")]) >= 30
    assert len([c for c in CASES if c.name.startswith("s")]) >= 20


@pytest.mark.parametrize("case", CASES, ids=[c.stem for c in CASES])
def test_case(front, case, tmp_path):
    if not shutil.which("varnishtest"):
        pytest.fail("varnishtest is not installed (Debian: varnish)")
    weir, upstream = front
    done = subprocess.run(
        ["varnishtest", "-t", str(int(scaled(20))), "-D", f"weir=127.0.0.1 {weir.port}",
         "-D", f"upstream=127.0.0.1 {upstream}", str(case)],
        capture_output=True, timeout=scaled(30), cwd=tmp_path, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, f"{case.name}:\n{done.stdout[-6000:]}{done.stderr[-1000:]}"
