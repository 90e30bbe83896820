"""The quick forms of the scenarios in load/ about weir itself; and the HTTP/2 rows of load/bench, whose
every answer is checked."""

import pytest
from harness.scenarios import needs_weir, release_only, scenario

pytestmark = needs_weir


def test_the_bare_upstream_fails_its_clients():
    scenario("reconnect-storm", "--parts", "A")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_one_upstream_connection_serves_a_storm_of_clients(threads):
    """How much is served may be half of it: the machine may have other work."""
    scenario("reconnect-storm", "--parts", "B,C", "--slack", "2", "--threads", threads)


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
    """Of the time that it takes only that there is an end to it: the machine may have other work."""
    scenario("restarts", "--parts", part, "--slack", "20")


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


def test_every_answer_over_http2_is_right_under_load():
    scenario("bench", "h2", "grpc", "grpc-stream", "grpc-echo", "--peers", "weir", "--quick")
