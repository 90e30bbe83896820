"""Prometheus itself scrapes weir and finds what it expects."""

import json
import shutil
import subprocess
import urllib.parse

import pytest
from harness.env import free_port, scaled, wait_for
from harness.weir import http_get
from harness.wire import request


@pytest.fixture
def prometheus(tmp_path):
    if not shutil.which("prometheus"):
        pytest.fail("prometheus is not installed (Debian: prometheus)")
    started = []

    def start(target):
        port = free_port()
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: { scrape_interval: 200ms, scrape_timeout: 200ms }\n"
            "scrape_configs:\n"
            "  - job_name: weir\n"
            f"    static_configs: [ {{ targets: ['{target}'] }} ]\n"
        )
        with open(tmp_path / "prometheus.log", "wb") as log:
            started.append(
                subprocess.Popen(
                    ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb",
                     f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h"],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=tmp_path,
                )
            )  # fmt: skip

        def query(expression):
            if started[0].poll() is not None:
                raise AssertionError((tmp_path / "prometheus.log").read_text()[-3000:])
            try:
                status, _, body = http_get(
                    f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
                )
            except OSError:
                return None
            if status != 200:
                return None
            result = json.loads(body)["data"]["result"]
            return [float(r["value"][1]) for r in result]

        return query

    yield start
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(scaled(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_prometheus_scrapes_weir(weir, serve, prometheus):
    w = weir(serve())
    for _ in range(5):
        w.exchange(request())
    query = prometheus(f"127.0.0.1:{w.admin_port}")
    wait_for("the target is up", lambda: query('up{job="weir"}') == [1.0], 30)
    wait_for("the requests are seen", lambda: query("sum(weir_requests_total)") == [5.0])
    assert query("weir_build_info") == [1.0]
    assert query('histogram_quantile(0.5, sum by (le) (weir_request_duration_seconds_bucket))')
