"""Runs the scenarios of load/ in their quick forms, each bar a promise of weir.

WEIR_BIN says which binary. The memory bars are judged for the release build only: a sanitizer keeps
freed memory on purpose.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("WEIR_BIN") or ROOT / "build" / "weir")

needs_weir = pytest.mark.skipif(not BINARY.exists(), reason=f"there is no weir at {BINARY}")
release_only = pytest.mark.skipif(os.environ.get("WEIR_VARIANT", "release") != "release",
                                  reason="the memory of a sanitizer's build says nothing")


def scenario(name, *options):
    done = subprocess.run([ROOT / "load" / name, *options], capture_output=True, text=True,
                          timeout=110, env={**os.environ, "WEIR_BIN": str(BINARY.resolve())})
    print(done.stdout, done.stderr)
    if "not run: strace" in done.stdout:
        pytest.skip(done.stdout)
    assert done.returncode == 0, "\n" + done.stdout + done.stderr
