"""The quick forms of the scenarios in load/ about upstreams and handlers that fail."""

import pytest
from harness.scenarios import needs_weir, release_only, scenario

pytestmark = needs_weir


@release_only
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_fault_of_a_handler_costs_its_request(isolation):
    scenario("handler-faults", "--isolation", isolation)


@release_only
def test_nobody_is_refused_while_the_engine_is_restarted():
    scenario("incident-1")


@release_only
def test_faults_of_handlers_change_nothing_of_that():
    scenario("incident-1", "--faults", "1%", "--seconds", "10")


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
@pytest.mark.parametrize("parts", ["steady --loads 5 --kinds http1", "steady --loads 5 --kinds grpc",
                                   "greedy,priority"])
def test_overload_leaves_goodput_and_fairness(parts):
    scenario("overload", "--shape", "--no-charts", "--peers", "weir", "--parts", *parts.split())


@pytest.mark.parametrize("kind", ["http1", "grpc"])
def test_nobody_notices_that_the_engine_is_restarted(kind):
    """Of the time that it takes only that there is an end to it: the machine may have other work."""
    scenario("upstream-restart", "--peers", "weir", "--kinds", kind, "--outages", "1", "--slack", "4", "--after", "4")


def test_retries_do_not_bury_an_upstream():
    scenario("retry-storm", "--peers", "weir", "--seconds", "3")
