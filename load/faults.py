"""Handlers that fault, for a share of the requests of a crowd: what weir is configured with, which faults
there are (tests/plugins/fault.c), and what a request gets that asks for one.

Every request passes one of three handlers. "threaded" runs on threads and has faults that leave nothing
behind, "separate" runs in processes and has all kinds, and "doubtful" runs on threads until its first dirty
fault, which has the gateway replaced; from then on it runs in processes.
"""

import random
from collections import Counter, namedtuple
from pathlib import Path

import common

TIMEOUT_MS = 1000
CLEAN = ["null", "call_null", "stack_overflow", "fpe", "ill", "bus", "abort", "assert", "exit", "strlen_null",
         "qsort_bad", "double_free", "bad_free", "heap_overflow", "overflow_pointer", "use_after_free",
         "alloc_overflow", "bad_text"]
HANGS = ["sleep", "poll", "spin"]
DIRTY = ["stdio_bad", "raise_abort", "free_foreign", "lock_overflow", "unwind"]
KINDS = {"threaded": CLEAN + HANGS, "separate": CLEAN + HANGS + DIRTY + ["vanish"], "doubtful": DIRTY}
INTERNAL, DEADLINE_EXCEEDED = "INTERNAL", "DEADLINE_EXCEEDED"

# .fields: what the request is to have; .status, .code: what it gets then; 200 and None without a fault.
Ask = namedtuple("Ask", "kind fields status code")


def config():
    """Further sections, and a route of each handler to each pipeline but for the one that has the rest."""
    plugin = Path(common.weir_bin()).parent / "tests" / "plugins" / "fault.so"
    text = ""
    for name in KINDS:
        text += f"""
[[handler]]
name = "{name}"
plugin = "{plugin}"
timeout = "{TIMEOUT_MS}ms"
isolation = "{"process" if name == "separate" else "thread"}"
"""
        for listener in ("http", "grpc"):
            text += f"""
[[route]]
name = "{listener}-{name}"
listener = "{listener}"
match = {{ header = {{ x-handler = "{name}" }} }}
handlers = ["{name}"]
pipeline = "engine-{listener}"
"""
    return text


class Faults:
    """@share of the requests fault. .asked: how many of which kind."""

    def __init__(self, share, kinds=None):
        self.share, self.kinds = share, kinds or KINDS
        self.asked, self.random = Counter(), random.Random(1)

    def draw(self):
        handler = self.random.choice(list(self.kinds))
        fields = {"x-handler": handler}
        if self.random.random() >= self.share:
            return Ask(None, fields, 200, None)
        kind = self.random.choice(self.kinds[handler])
        self.asked[f"{kind}, {handler}"] += 1
        is_hang = kind in HANGS
        return Ask(kind, fields | {"x-fault": kind}, 504 if is_hang else 500,
                   DEADLINE_EXCEEDED if is_hang else INTERNAL)
