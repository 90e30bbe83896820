"""What the tests take from npm."""

import os
import shutil
import subprocess

import pytest

from .env import ROOT, scaled

NODE = ROOT / "tests" / "node"


def install():
    """npm ci, once: the lockfile says what, wherever npm takes it from."""
    mark = NODE / "node_modules" / ".package-lock.json"
    lock = NODE / "package-lock.json"
    if mark.exists() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return
    if not shutil.which("npm"):
        pytest.fail("npm is not installed")
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"],
        cwd=NODE, capture_output=True, text=True, timeout=scaled(300),
    )  # fmt: skip
    if done.returncode != 0:
        unreachable = any(w in done.stderr for w in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT"))
        if unreachable and not os.environ.get("CI"):
            pytest.skip("npm cannot be reached, and its packages are not installed yet")
        pytest.fail(f"npm ci: {done.stderr[-3000:]}")
    mark.touch()
