"""Node-RED behind weir: its editor in a real browser, its WebSocket, and a flow that answers HTTP."""

import json
import os
import shutil
import subprocess

import pytest
from harness.env import free_port, scaled, wait_for
from harness.node import NODE, install
from harness.weir import http_get

FLOW = [
    {"id": "tab", "type": "tab", "label": "flow"},
    {"id": "in", "type": "http in", "z": "tab", "name": "", "url": "/hello/:who", "method": "post",
     "x": 100, "y": 100, "wires": [["make"]]},
    {"id": "make", "type": "function", "z": "tab", "name": "", "outputs": 1, "x": 300, "y": 100,
     "func": "msg.payload = {hello: msg.req.params.who, got: msg.payload.n + 1}; return msg;",
     "wires": [["out"]]},
    {"id": "out", "type": "http response", "z": "tab", "name": "", "statusCode": "201",
     "headers": {}, "x": 500, "y": 100, "wires": []},
]  # fmt: skip


@pytest.fixture(scope="module")
def node_red(tmp_path_factory):
    install()
    home = tmp_path_factory.mktemp("node-red")
    port = free_port()
    (home / "flows.json").write_text(json.dumps(FLOW))
    (home / "settings.js").write_text(
        "module.exports = { flowFile: 'flows.json', uiHost: '127.0.0.1', credentialSecret: 'x',"
        " telemetry: { enabled: false, updateNotification: false },"
        " editorTheme: { tours: false, projects: { enabled: false } },"
        " diagnostics: { enabled: false }, externalModules: { palette: { allowInstall: false } }, logging: { console: { level: 'info' } } };\n"
    )
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            ["node", str(NODE / "node_modules" / "node-red" / "red.js"), "-u", str(home),
             "-s", str(home / "settings.js"), "-p", str(port)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home,
            env={**os.environ, "NODE_RED_HOME": str(home), "HOME": str(home)},
        )  # fmt: skip

    def is_up():
        if process.poll() is not None:
            raise AssertionError((home / "log").read_text()[-3000:])
        try:
            return http_get(f"http://127.0.0.1:{port}/settings")[0] == 200 and b"Started flows" in (
                home / "log"
            ).read_bytes()
        except OSError:
            return False

    try:
        wait_for("Node-RED is up", is_up, 60)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(scaled(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    chromium = shutil.which("chromium")
    if not driver or not chromium:
        pytest.fail("chromium is not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1200,900",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_page_load_timeout(scaled(60))
    yield chrome
    chrome.quit()


def post(url, value):
    import urllib.request

    ask = urllib.request.Request(
        url, data=json.dumps(value).encode(), headers={"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(ask, timeout=scaled(10)) as reply:
        return reply.status, json.loads(reply.read())


def test_a_flow_answers_http_through_weir(weir, node_red):
    w = weir(node_red)
    for i in range(20):
        assert post(w.url(f"/hello/w{i}"), {"n": i}) == (201, {"hello": f"w{i}", "got": i + 1})


@pytest.mark.timeout(300)
def test_the_editor_loads_in_a_browser_with_its_websocket(weir, node_red, browser):
    w = weir(node_red)
    browser.get(w.url("/"))

    def script(text):
        return browser.execute_script(f"return {text}")

    wait_for("the editor is there", lambda: script("!!(window.RED && RED.nodes && RED.comms)"), 60)
    wait_for("the palette is filled", lambda: script("document.querySelectorAll('.red-ui-palette-node').length > 20"), 60)
    wait_for("the flow is on the canvas", lambda: script("RED.nodes.filterNodes({z: 'tab'}).length == 3"), 30)
    wait_for("the WebSocket lives", lambda: w.metrics().sum("weir_streams_active") >= 1, 30)

    # A message that comes by /comms: a redeployment is announced to every editor.
    browser.execute_script(
        "window.heard = []; RED.comms.subscribe('notification/#', (t, m) => window.heard.push(t));"
    )
    flows = json.loads(http_get(w.url("/flows"))[2])
    for node in flows:
        if node["id"] == "make":
            node["name"] = "renamed"
    status = deploy(w.url("/flows"), flows)
    assert status == 204
    wait_for("the editor hears of it", lambda: script("window.heard.length > 0"), 30)
    severe = [
        e for e in browser.get_log("browser") if e["level"] == "SEVERE" and f":{w.port}" in e["message"]
    ]
    assert not severe, severe


def deploy(url, flows):
    import urllib.request

    ask = urllib.request.Request(
        url,
        data=json.dumps(flows).encode(),
        headers={"Content-Type": "application/json", "Node-RED-Deployment-Type": "full"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(ask, timeout=scaled(20)) as reply:
        return reply.status
