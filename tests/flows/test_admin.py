"""What weir says of itself: metrics, health, status, and the access log."""

import json
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from harness.env import free_port, scaled, wait_for
from harness.upstream import answering
from harness.weir import run_cli
from harness.wire import request, response

# DESIGN section 6, as far as it speaks of what is built by now.
OWED = {
    "weir_requests_total": "counter",
    "weir_request_duration_seconds": "histogram",
    "weir_time_to_first_byte_seconds": "histogram",
    "weir_exchanges_active": "gauge",
    "weir_oldest_exchange_age_seconds": "gauge",
    "weir_streams_active": "gauge",
    "weir_connections": "gauge",
    "weir_connections_max": "gauge",
    "weir_fds": "gauge",
    "weir_fd_limit": "gauge",
    "weir_loop_lag_seconds": None,
    "weir_buffered_bytes": "gauge",
    "weir_rejected_total": "counter",
    "weir_pipeline_inflight": "gauge",
    "weir_pipeline_concurrency_limit": "gauge",
    "weir_pipeline_queue_length": "gauge",
    "weir_pipeline_queue_limit": "gauge",
    "weir_pipeline_queue_wait_seconds": "histogram",
    "weir_pipeline_retries_total": "counter",
    "weir_pipeline_retries_over_budget_total": "counter",
    "weir_pipeline_retry_budget_remaining": "gauge",
    "weir_pipeline_held": "gauge",
    "weir_pipeline_held_total": "counter",
    "weir_endpoint_connections": "gauge",
    "weir_endpoint_streams": "gauge",
    "weir_endpoint_connects_total": "counter",
    "weir_endpoint_healthy": "gauge",
    "weir_endpoint_breaker_state": "gauge",
    "weir_endpoint_ejections_total": "counter",
    "weir_endpoint_health_checks_total": "counter",
    "weir_listener_up": "gauge",
    "weir_listener_accept_errors_total": "counter",
    "weir_log_dropped_total": "counter",
    "weir_build_info": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_cpu_seconds_total": "counter",
}


def promtool(text):
    if not shutil.which("promtool"):
        pytest.fail("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=scaled(20)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def some_traffic(w):
    with w.client() as client:
        for target in ("/", "/a", "/b"):
            client.send(request(target=target))
            assert client.read_response().status == 200
        client.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert client.read_response().status == 400


def test_metrics_pass_promtool_at_rest_and_after_traffic(weir, serve):
    w = weir(serve())
    promtool(w.metrics().text)
    some_traffic(w)
    promtool(w.metrics().text)


def test_metrics_are_plain_text_of_version_0_0_4(weir, serve):
    status, fields, body = weir(serve()).admin("/metrics")
    assert status == 200
    assert fields["content-type"].startswith("text/plain") and "version=0.0.4" in fields["content-type"]
    assert body.endswith(b"\n")


def test_the_metrics_that_are_owed_are_there(weir, serve):
    w = weir(serve())
    some_traffic(w)
    metrics = w.metrics()
    missing = set(OWED) - metrics.names()
    assert not missing, f"missing: {sorted(missing)}"
    for name, kind in OWED.items():
        assert kind in (None, metrics.types[name]), f"{name} is a {metrics.types[name]}"


def test_every_family_is_ours_and_has_a_help_text(weir, serve):
    metrics = weir(serve()).metrics()
    for name in metrics.names():
        assert name.startswith(("weir_", "process_")), name
        assert re.search(rf"^# HELP {name} \S", metrics.text, re.M), name


def test_labels_never_carry_what_a_client_says(weir, serve):
    w = weir(serve())
    w.exchange(request("BREW", "/secret-path", ["X-Request-Id: secret-id"], host="secret-host"))
    text = w.metrics().text
    assert "secret" not in text and "BREW" not in text


def test_requests_are_counted_exactly(weir, serve):
    w = weir(serve(answering(lambda r: response(int(r.target[1:]), body=b"x"))))
    for status, n in ((200, 7), (201, 2), (404, 3), (500, 1)):
        for _ in range(n):
            w.exchange(request(target=f"/{status}"))
    w.await_metric("weir_requests_total", 13)
    m = w.metrics()
    assert m.sum("weir_requests_total", listener="http", route="all", code="200") == 7
    assert m.sum("weir_requests_total", code="201") == 2
    assert m.sum("weir_requests_total", code="404") == 3
    assert m.sum("weir_requests_total", code="500") == 1
    assert m.sum("weir_request_duration_seconds_count") == 13
    assert {s.labels["protocol"] for s in m.all("weir_requests_total")} <= {"http1", "HTTP/1.1", "http/1.1"}


@pytest.mark.threads
def test_requests_over_all_loops_are_counted_exactly(weir, serve):
    w = weir(serve(), threads=2)

    def run():
        with w.client() as client:
            for _ in range(25):
                client.send(request())
                assert client.read_response().status == 200

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    w.await_metric("weir_requests_total", 200)


def test_a_counter_never_goes_down_and_a_scrape_does_not_count(weir, serve):
    w = weir(serve())
    w.exchange(request())
    w.await_metric("weir_requests_total", 1)
    for _ in range(10):
        assert w.metrics().sum("weir_requests_total") == 1


def test_connections_are_counted_while_they_are_open(weir, serve):
    w = weir(serve())
    clients = [w.client() for _ in range(5)]
    for client in clients:
        client.send(request())
        client.read_response()
    w.await_metric("weir_connections", 5, listener="http")
    for client in clients:
        client.close()
    w.await_metric("weir_connections", 0, listener="http")


def test_the_age_of_the_oldest_exchange_grows(weir, up):
    w = weir(up)
    client = w.client()
    client.send(request())
    server = up.accept()
    server.read_request()
    wait_for("it is older than 0.3 s", lambda: w.metrics().sum("weir_oldest_exchange_age_seconds") > 0.3)
    assert w.metrics().sum("weir_exchanges_active") == 1
    server.send(response())
    client.read_response()
    w.await_metric("weir_exchanges_active", 0)
    w.await_metric("weir_oldest_exchange_age_seconds", 0)


def test_fds_are_told_by_class_and_in_all(weir, serve):
    w = weir(serve())
    with w.client() as client:
        client.send(request())
        client.read_response()
        m = w.metrics()
        assert m.sum("weir_fds", **{"class": "client"}) == 1
        assert m.sum("weir_fds", **{"class": "upstream"}) == 1
        # The scrape's own connection comes and goes.
        assert abs(m.sum("process_open_fds") - w.fds()) <= 2
    assert m.sum("weir_build_info") == 1
    assert m.sum("weir_listener_up", listener="http") == 1


def test_health_and_readiness(weir, serve):
    w = weir(serve())
    for path in ("/healthz", "/readyz"):
        status, _, _ = w.admin(path)
        assert status == 200
    assert w.admin("/nothing")[0] == 404


def test_the_admin_plane_serves_several_at_once_and_keeps_connections(weir, serve):
    from harness.wire import connect

    w = weir(serve())
    with connect(w.admin_port) as client, connect(w.admin_port) as other:
        for _ in range(5):
            client.send(request(target="/healthz"))
            assert client.read_response().status == 200
            other.send(request(target="/readyz"))
            assert other.read_response().status == 200


def test_status_tells_listeners_pipelines_and_endpoints(weir, serve):
    upstream = serve()
    w = weir(upstream)
    some_traffic(w)
    status, fields, body = w.admin("/status")
    assert status == 200 and fields["content-type"].startswith("application/json")
    told = json.loads(body)
    [listener] = [x for x in told["listeners"] if x["name"] == "http"]
    assert str(w.port) in json.dumps(listener)
    [pipeline] = [x for x in told["pipelines"] if x["name"] == "up"]
    assert upstream.endpoint in json.dumps(pipeline)


def test_weir_status_prints_a_table(weir, serve):
    upstream = serve()
    w = weir(upstream)
    for args in ([str(w.file)], ["--admin", f"127.0.0.1:{w.admin_port}"]):
        status, out, err = run_cli("status", *args)
        assert status == 0, err
        assert "http" in out and "up" in out
        assert str(w.port) in out and upstream.endpoint in out


@pytest.mark.threads
def test_metrics_answer_while_weir_is_under_load(weir, serve):
    w = weir(serve(answering(lambda r: response(body=b"x" * 100000))))
    stop = threading.Event()

    def run():
        with w.client() as client:
            while not stop.is_set():
                client.send(request())
                client.read_response()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        worst = 0.0
        for _ in range(20):
            start = time.monotonic()
            w.metrics()
            worst = max(worst, time.monotonic() - start)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert worst < scaled(1.5)


def test_metrics_answer_when_every_connection_is_taken(weir, serve):
    """The admin plane is exempt from admission."""
    w = weir(serve(), admission={"max_connections": 4})
    held = [w.client() for _ in range(20)]
    for client in held:
        client.try_send(request())
    assert w.admin("/healthz")[0] == 200
    assert w.metrics()


# The access log.


def test_each_request_is_a_line_of_json(weir, serve):
    w = weir(serve(answering(lambda r: response(201, body=b"12345"))), listener={"trust": ["127.0.0.1/32"]})
    w.exchange(request("POST", "/a%22b?q=1", ["X-Request-Id: my-id", "User-Agent: me \xfc\"\\"], body=b"abc"))
    [line] = w.await_access(1)
    text = json.dumps(line)
    assert line["method"] == "POST"
    assert line["status"] == 201
    assert line["listener"] == "http" and line["route"] == "all" and line["pipeline"] == "up"
    assert line["target"] == "/a%22b?q=1"
    assert "my-id" in text and "127.0.0.1" in text
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line["time"])
    assert any(isinstance(v, (int, float)) for k, v in line.items() if "duration" in k)


def test_refusals_and_failures_are_logged_too(weir):
    w = weir(f"127.0.0.1:{free_port()}", pipeline={"hold": 0})
    with w.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        client.read_response()
    w.exchange(request())
    assert sorted(line["status"] for line in w.await_access(2))[0] == 400


def test_the_access_log_is_reopened_on_sigusr1(weir, serve):
    w = weir(serve())
    w.exchange(request(target="/1"))
    w.await_access(1)
    old = w.access_path.with_suffix(".1")
    w.access_path.rename(old)
    w.signal(signal.SIGUSR1)
    wait_for("there is a new file", w.access_path.exists)
    w.exchange(request(target="/2"))
    assert len(w.await_access(1)) == 1
    assert len(w.access(old)) == 1


def test_the_access_log_can_go_to_stderr(weir, serve):
    w = weir(serve(), log={"access": "stderr", "level": "error"})
    w.exchange(request(target="/in-stderr"))
    wait_for("the line is there", lambda: "/in-stderr" in w.log())
    [line] = [x for x in w.log().splitlines() if "/in-stderr" in x]
    assert json.loads(line)["status"] == 200


def test_the_access_log_can_be_off(weir, serve):
    w = weir(serve(), log={"access": "off"})
    w.exchange(request(target="/unseen"))
    w.await_metric("weir_requests_total", 1)
    w.signal()
    w.await_exit()
    assert "/unseen" not in w.log()
    assert not w.access_path.exists()


def test_no_line_is_lost_at_the_end(weir, serve):
    w = weir(serve())
    with w.client() as client:
        for _ in range(500):
            client.send(request())
            client.read_response()
    w.signal()
    w.await_exit()
    assert len(w.access()) == 500


def test_a_failure_is_logged_once_with_its_request_id(weir):
    w = weir(
        f"127.0.0.1:{free_port()}",
        listener={"trust": ["127.0.0.1/32"]},
        pipeline={"hold": 0, "retry": {"attempts": 1}},
    )
    w.exchange(request(fields=["X-Request-Id: find-me-99"]))
    wait_for("it is in the log", lambda: "find-me-99" in w.log())
    assert "xid=find-me-99" in w.log()
