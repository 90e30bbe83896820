"""What a request costs weir may not grow unnoticed: instructions and system calls per request, counted by
load/cost.py, are held to load/budget.json. Nothing is timed, so a busy machine changes nothing.

For the release build (WEIR_BIN, or build/weir).
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "load"))

import common
import cost

ADVICE = """
What to do: if that is by mistake, `load/cost.py ROW --profile FILE` and `callgrind_annotate FILE` show where the
instructions go, `strace -fc` shows the calls. If it is worth it, run `./dev cost --renew`, commit load/budget.json
with the change, and say in the commit what it buys."""

pytestmark = pytest.mark.skipif(not common.weir_bin(), reason="there is no weir to count")


@pytest.mark.parametrize("row", cost.BUDGET_ROWS)
@pytest.mark.parametrize("what", cost.COUNTERS)
def test_a_request_costs_no_more_than_its_budget(what, row):
    budget = json.loads(cost.BUDGET.read_text())
    try:
        now = cost.COUNTERS[what](row, enough=budget[row][what])
    except cost.CannotCount as why:
        pytest.skip(str(why))
    failures = cost.compare(row, {what: now}, budget)
    assert not failures, failures[0] + ADVICE


def test_the_guard_sees_more_than_three_percent():
    budget = {"small": {"instructions": 1000, "syscalls": 4}}
    assert not cost.compare("small", {"instructions": 1029, "syscalls": 4.11}, budget)
    assert "+4.0%" in cost.compare("small", {"instructions": 1040}, budget)[0]
    assert "+5.0%" in cost.compare("small", {"syscalls": 4.2}, budget)[0]
    assert "no budget" in cost.compare("new", {"syscalls": 1}, budget)[0]
