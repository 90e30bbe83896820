"""Where the binary is, how slow its variant makes things, and how to wait for something."""

import os
import random
import socket
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("WEIR_BIN") or ROOT / "build" / "weir")
VARIANT = os.environ.get("WEIR_VARIANT", "release")
FACTOR = {"release": 1.0, "asan": 3.0, "tsan": 6.0}.get(VARIANT, 1.0)

# How long a test waits for something that ought to happen soon: on a machine that does much else, too. Only a
# test that fails waits as long; how fast weir is, benchmarks tell.
PATIENCE = 20.0


# Longer than weir takes for what it does at once, were the machine busy; shorter than any timeout that could hide it.
AT_ONCE = 2.0


def scaled(seconds):
    """A bound for the variant under test. Only ever an upper bound, never a time to spend."""
    return seconds * FACTOR


def wait_for(what, condition, timeout=PATIENCE):
    """Polls @condition until it is true and returns what it gave; fails with @what otherwise."""
    end = time.monotonic() + scaled(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {scaled(timeout):.1f} s in vain: {what} (last: {value!r})")
        time.sleep(0.005)


def is_gone(pid):
    """A zombie is gone: whoever adopted it has yet to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except OSError:  # before it was opened, or since
        return True


_given = set()


# Tests run in several processes at once, each with ports of its own.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def free_port(address="127.0.0.1", kind=socket.SOCK_STREAM):
    """A port nobody holds: from below the ephemeral range, so that no dial takes it meanwhile."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(1000):
        port = random.randrange(10240, 32000)
        if port in _given or port % WORKERS != WORKER:
            continue
        with socket.socket(family, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("found no free port")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False
