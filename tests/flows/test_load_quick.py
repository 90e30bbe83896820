"""The quick forms of the scenarios in load/, each bar a promise of weir; and the HTTP/2 rows of
load/bench, whose every answer is checked.

WEIR_BIN says which binary. The memory bars are judged for the release build only: a sanitizer keeps
freed memory on purpose.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("WEIR_BIN") or ROOT / "build" / "weir")

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason=f"there is no weir at {BINARY}")
release_only = pytest.mark.skipif(os.environ.get("WEIR_VARIANT", "release") != "release",
                                  reason="the memory of a sanitizer's build says nothing")


def scenario(name, *options):
    done = subprocess.run([ROOT / "load" / name, *options], capture_output=True, text=True,
                          timeout=110, env={**os.environ, "WEIR_BIN": str(BINARY.resolve())})
    print(done.stdout, done.stderr)
    if "not run: strace" in done.stdout:
        pytest.skip(done.stdout)
    assert done.returncode == 0, "\n" + done.stdout + done.stderr


def test_the_bare_upstream_fails_its_clients():
    scenario("reconnect-storm", "--parts", "A")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_one_upstream_connection_serves_a_storm_of_clients(threads):
    scenario("reconnect-storm", "--parts", "B,C", "--threads", threads)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_client_that_stalls_gives_its_place_back(threads):
    scenario("reconnect-storm", "--parts", "D", "--threads", threads)


@release_only
@pytest.mark.parametrize("part", ["down", "up"])
def test_a_slow_peer_costs_no_memory(part):
    scenario("streams-memory", "--parts", part)


@release_only
def test_an_idle_connection_costs_little_memory():
    scenario("streams-memory", "--parts", "idle")


@release_only
@pytest.mark.parametrize("part", ["kill", "stop", "many", "reload", "supervisor"])
def test_the_port_never_refuses_whatever_becomes_of_the_gateway(part):
    scenario("restarts", "--parts", part)


@release_only
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_fault_of_a_handler_costs_its_request(isolation):
    scenario("handler-faults", "--isolation", isolation)


@release_only
def test_nobody_is_refused_while_the_engine_is_restarted():
    scenario("incident-1")


@release_only
@pytest.mark.parametrize("part", ["naive", "loop"])
def test_a_crash_loop_stays_small(part):
    scenario("incident-2", "--parts", part)


@release_only
@pytest.mark.parametrize("part", ["naive", "weir"])
def test_no_program_outlives_its_request(part):
    scenario("incident-4", "--parts", part)


@release_only
@pytest.mark.parametrize("part", ["fail", "stall", "reset"])
def test_one_of_three_that_is_ill_is_left_alone(part):
    scenario("outliers", "--parts", part)


@release_only
def test_the_end_leaves_nothing():
    scenario("drain")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_thousand_clients_share_a_hundred_places(threads):
    """What is bounded in time may take three times as long: the machine may have other work."""
    scenario("fd-starvation", "--parts", "storm", "--alone", "--slack", "3", "--threads", threads)


@release_only
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_thousand_clients_leave_no_call_without_an_fd(threads):
    scenario("fd-starvation", "--parts", "calls", "--slack", "3", "--threads", threads)


@pytest.mark.parametrize("kind", ["http1", "grpc"])
def test_nobody_notices_that_the_engine_is_restarted(kind):
    """Of the time that it takes only that there is an end to it: the machine may have other work."""
    scenario("upstream-restart", "--peers", "weir", "--kinds", kind, "--outages", "1", "--slack", "4", "--after", "4")


def test_retries_do_not_bury_an_upstream():
    scenario("retry-storm", "--peers", "weir", "--seconds", "3")


def test_every_answer_over_http2_is_right_under_load():
    scenario("bench", "h2", "grpc", "grpc-stream", "grpc-echo", "--peers", "weir", "--quick")
