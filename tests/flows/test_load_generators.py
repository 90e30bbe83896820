"""What the load generators say of themselves: a time that they have measured is the proxy's only if they
had time to keep to their plan."""

import signal
import subprocess
import sys
import time

import pytest
from harness.env import PATIENCE, wait_for
from harness.scenarios import ROOT, release_only

sys.path.insert(0, str(ROOT / "load"))
import common
import proxies

pytestmark = release_only  # weir has no part in it
STOP_S = 0.2
RATE = 500
GENERATORS = {"loadgen": ("engine", ["--path", "/bytes/13", "--connections", "256"]),
              "h2loadgen": ("h2engine", ["--path", "/bytes/13"])}


@pytest.fixture(params=list(GENERATORS))
def generator(request):
    """the command, and the engine's port."""
    engine, options = GENERATORS[request.param]
    port, process = proxies.start_engine(None, program=engine)
    yield [str(common.tool(request.param)), *options], port
    process.stop()


def test_a_generator_that_stands_still_says_so(generator, capsys):
    command, port = generator
    loading = subprocess.Popen([*command, "--rate", str(RATE), "--seconds", "2", f"127.0.0.1:{port}"],
                               stdout=subprocess.PIPE, text=True)
    try:
        wait_for("it has begun", lambda: common.tcp_sockets_to(port))
        loading.send_signal(signal.SIGSTOP)
        time.sleep(STOP_S)
        loading.send_signal(signal.SIGCONT)
        out = loading.communicate(timeout=PATIENCE)[0]
    finally:
        loading.kill()
        loading.wait()
    found = common.loadgen_result(out)
    assert found["late"]["max_us"] >= 0.9e6 * STOP_S
    assert found["late"]["count"] >= 0.9 * RATE * STOP_S
    assert found["late"]["share"] == pytest.approx(found["late"]["count"] / (2 * RATE), rel=0.1)
    assert common.is_starved(found)
    assert "starved" in capsys.readouterr().err


def test_what_waits_for_a_connection_is_the_servers_doing(capsys):
    """All that is due has waited for the only connection, which is never free."""
    port, process = proxies.start_engine()
    found = common.run_loadgen(port, "--path", "/delay/50", "--connections", 1, "--rate", RATE, "--warmup", 0.2,
                               "--seconds", 1)
    process.stop()
    assert found["unsent"] > RATE / 2
    assert found["late"]["count"] == 0
    assert not common.is_starved(found)
    assert "starved" not in capsys.readouterr().err


@pytest.mark.parametrize("is_lenient", [False, True])
def test_a_bar_of_time_is_not_judged_then(is_lenient):
    """Where the machine may have other work that is enough; elsewhere the bar is not met."""
    starved, fed = ({"late": {"count": 1, "share": share, "max_us": 5000}} for share in (0.02, 0.01))
    for found, is_fast, is_passed in ((starved, True, is_lenient), (starved, False, is_lenient),
                                      (fed, True, True), (fed, False, False)):
        verdicts = common.Verdicts(is_lenient)
        verdicts.add("part", "errors", 0, "0", True)
        verdicts.add_time("part", "p99", "61 ms", "<= 60 ms", is_fast, found)
        assert verdicts.is_passed() == is_passed
        assert ("not judged" in verdicts.text()) == (found is starved)
        assert verdicts.as_json()[1]["is_met"] == (None if found is starved else is_fast)
