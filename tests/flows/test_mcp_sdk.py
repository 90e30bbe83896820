"""MCP's own reference server over stdio behind weir, used by MCP's own SDK and judged by its conformance tests."""

import json
import re
import subprocess

import pytest
from harness.env import free_port, scaled, wait_for
from harness.mcp import Mcp
from harness.node import NODE, install
from harness.programs import process_of
from harness.weir import base_config, http_get

MODULES = NODE / "node_modules" / "@modelcontextprotocol"
EVERYTHING = ["node", str(MODULES / "server-everything" / "dist" / "index.js")]


@pytest.fixture
def everything(weir):
    """weir with the server behind it, over stdio."""
    install()

    def config(directory):
        config = base_config(directory, [f"unix:{directory}/everything.sock"])
        config["pipeline"][0] |= {"protocol": "mcp-stdio", "process": {"command": [*EVERYTHING, "stdio"]}}
        return config

    w = weir(config=config)
    wait_for("it is ready", lambda: process_of(w).get("state") == "ready", 30)
    return w


def use_by_clients(w, seconds):
    done = subprocess.run(
        ["node", str(NODE / "mcp_clients.js"), w.url("/mcp"), "12", str(seconds)],
        capture_output=True, text=True, timeout=scaled(seconds + 60),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["faults"] == [] and told["sessions"] == told["clients"] == 12
    assert told["cancelled"] >= 12 and told["progress"] > 12 and told["calls"] >= 12 * 11 * 4
    wait_for("its calls are counted", lambda: process_of(w)["mcp"]["calls_total"] >= told["calls"])
    wait_for("all sessions have ended", lambda: process_of(w)["mcp"]["sessions"] == 0)
    assert process_of(w)["mcp"]["late_total"] <= 2 * told["cancelled"] and process_of(w)["deaths_total"] == 0


def test_twelve_clients_of_the_sdk_get_their_own_answers(everything):
    use_by_clients(everything, 5)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_twelve_clients_of_the_sdk_get_their_own_answers_for_a_minute(everything):
    use_by_clients(everything, 60)


def test_the_server_may_ask_its_client(everything):
    client = Mcp(everything, {"sampling": {}, "elicitation": {}})
    tools = [t["name"] for t in client.ask("tools/list")[-1]["result"]["tools"]]
    assert "trigger-sampling-request" in tools and "trigger-elicitation-request" in tools
    stream = client.stream("tools/call", {"name": "trigger-sampling-request", "arguments": {"prompt": "who?"}})
    asked = stream.next()
    assert asked["method"] == "sampling/createMessage"
    assert "who?" in json.dumps(asked["params"]["messages"])
    client.post({"jsonrpc": "2.0", "id": asked["id"], "result": {
        "model": "m", "role": "assistant", "content": {"type": "text", "text": "weir, 46"}}})
    assert "weir, 46" in json.dumps(stream.all()[-1])


# --- Conformance ------------------------------------------------------------------------------------------

def verdicts(url, directory):
    """What the suite says of each scenario: {name: (checks passed, checks failed)}."""
    directory.mkdir()  # it leaves its results where it is started
    done = subprocess.run(
        ["node", str(MODULES / "conformance" / "dist" / "index.js"), "server", "--url", url, "--suite", "all"],
        cwd=directory, capture_output=True, text=True, timeout=scaled(100),
    )  # fmt: skip
    found = re.findall(r"^[✓✗] ([\w-]+): (\d+) passed, (\d+) failed", done.stdout, re.M)
    return {name: (int(passed), int(failed)) for name, passed, failed in found}


@pytest.fixture
def direct(tmp_path):
    """The address of the server's own HTTP mode."""
    install()
    port = free_port()
    with open(tmp_path / "direct.log", "wb") as log:
        process = subprocess.Popen([*EVERYTHING, "streamableHttp"], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, env={"PATH": "/usr/bin:/bin:/usr/local/bin", "PORT": str(port)})

    def is_up():
        assert process.poll() is None, (tmp_path / "direct.log").read_text()
        try:
            return http_get(f"http://127.0.0.1:{port}/mcp")[0] == 400
        except OSError:
            return False

    try:
        wait_for("it is up", is_up, 30)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def test_conformance_says_the_same_of_it_as_of_the_servers_own_http(everything, direct, tmp_path):
    ours = verdicts(everything.url("/mcp"), tmp_path / "ours")
    theirs = verdicts(direct, tmp_path / "theirs")
    assert len(theirs) >= 30 and sum(passed for passed, _ in theirs.values()) >= 12
    assert ours == theirs
