"""The hold: while no endpoint is usable, who may wait does, and is sent when one is back."""

import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest
from harness.env import AT_ONCE, free_port, scaled, wait_for
from harness.replies import expect_problem, reason_of
from harness.upstream import answering
from harness.wire import request, response

pytestmark = pytest.mark.timeout(120)

HELD = "weir_pipeline_held"


def dead():
    return free_port()


def holding(weir, port, n=1, threads=2, data=None, **pipeline):
    """weir in front of nobody, with @n clients that are held."""
    w = weir(f"127.0.0.1:{port}", threads=threads, pipeline={"hold": "10s", **pipeline})
    clients = []
    for i in range(n):
        clients.append(w.client(timeout=30))
        clients[-1].send(data or request(target=f"/{i}"))
    w.await_metric(HELD, n, pipeline="up")
    return w, clients


# Waiting.


@pytest.mark.threads
@pytest.mark.parametrize("data", [request(), request("POST", body=b"never sent")], ids=["GET", "POST"])
def test_an_endpoint_that_comes_back_serves_those_who_waited(weir, serve, data):
    port = dead()
    w, clients = holding(weir, port, 20, data=data)
    serve(port=port)
    assert [c.read_response().status for c in clients] == [200] * 20
    w.await_metric(HELD, 0, pipeline="up")
    w.await_metric("weir_pipeline_held_total", 20, pipeline="up")
    assert w.metrics().sum("weir_rejected_total") == 0
    assert all(line["held_ms"] > 0 for line in w.await_access(20))


def test_a_unix_socket_that_comes_back_too(weir, serve, tmp_path):
    w = weir(f"unix:{tmp_path}/late.sock", pipeline={"hold": "10s"})
    client = w.client(timeout=30)
    client.send(request())
    w.await_metric(HELD, 1, pipeline="up")
    serve(path=f"{tmp_path}/late.sock")
    assert client.read_response().status == 200


def test_of_two_endpoints_one_that_is_back_is_enough(weir, serve):
    port = dead()
    w = weir(f"127.0.0.1:{dead()}", f"127.0.0.1:{port}", pipeline={"hold": "10s"})
    client = w.client(timeout=30)
    client.send(request())
    w.await_metric(HELD, 1, pipeline="up")
    serve(port=port)
    assert client.read_response().status == 200


def test_the_first_request_after_an_outage_waits_for_one_dial_only(weir, serve):
    """An endpoint that was down when it was last dialled is asked at once."""
    port = dead()
    w, clients = holding(weir, port, threads=1)
    clients[0].close()
    w.await_metric(HELD, 0, pipeline="up")
    serve(port=port)
    start = time.monotonic()
    assert w.exchange(request()).status == 200
    assert time.monotonic() - start < scaled(AT_ONCE)


def test_nobody_dials_but_the_probe(weir):
    w, clients = holding(weir, dead(), 30)
    before = w.metrics().sum("weir_endpoint_connects_total")
    start = time.monotonic()
    time.sleep(1)  # the time to count in
    dials = w.metrics().sum("weir_endpoint_connects_total") - before
    took = time.monotonic() - start
    assert 1 <= dials <= took / 0.075 + 1, f"{dials:.0f} dials in {took:.1f} s"


def test_what_was_held_did_not_wait_in_the_queue(weir, serve):
    port = dead()
    w, clients = holding(weir, port, 8, limits={"concurrency": 1}, queue={"max_wait": "300ms"})
    time.sleep(0.5)  # longer than max_wait
    serve(port=port)
    assert [c.read_response().status for c in clients] == [200] * 8
    # Nor is it told as such.
    assert all(line["queue_ms"] < line["held_ms"] for line in w.await_access(8))


def test_streams_let_go_do_not_keep_others_waiting(weir, serve):
    """They have no end that others could wait for: their first byte is enough."""
    port = dead()
    w, clients = holding(weir, port, 20, threads=1)

    def stream(wire):
        wire.read_request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        wire.read_to_end()  # which does not come by itself

    serve(stream, port=port)
    for client in clients:
        assert client.read_response_head().status == 200
    w.await_metric("weir_streams_active", 20)


@pytest.mark.threads
def test_they_are_let_go_bit_by_bit(weir, serve):
    port = dead()
    w, clients = holding(weir, port, 60, threads=2, limits={"concurrency": 60})
    arrivals = []

    def slow(wire):
        while True:
            wire.read_request()
            arrivals.append(time.monotonic())
            time.sleep(0.2)
            wire.send(response(body=b"ok"))

    serve(slow, port=port)
    assert [c.read_response().status for c in clients] == [200] * 60
    first = [a for a in arrivals if a < min(arrivals) + 0.15]
    assert len(first) <= 2 * 4, "four of each loop, before the first has its answer"
    assert max(arrivals) - min(arrivals) < scaled(3), "and twice as many with each round"


# Ends.


def test_without_a_hold_the_failure_is_told_at_once(weir):
    w = weir(f"127.0.0.1:{dead()}", pipeline={"hold": 0})
    start = time.monotonic()
    expect_problem(w.exchange(request()), 502, pipeline="up", errors={"connection_refused"})
    assert time.monotonic() - start < scaled(AT_ONCE)


def test_the_hold_has_an_end(weir):
    w = weir(f"127.0.0.1:{dead()}", pipeline={"hold": "300ms"})
    start = time.monotonic()
    reply = w.exchange(request())
    assert 0.28 < time.monotonic() - start < scaled(2)
    problem = expect_problem(reply, 503, pipeline="up", errors={"destination_unavailable"})
    assert reason_of(reply) == "hold_timeout" and "refused the connection" in problem["detail"]
    w.await_metric("weir_rejected_total", 1, reason="hold_timeout")
    refused = "the upstream refused the connection"
    wait_for("it is in the log", lambda: f"no endpoint of pipeline 'up' is usable: {refused}; requests wait" in w.log()
             and f"no usable endpoint came back in time: pipeline 'up': {refused} xid=" in w.log())


def test_the_deadline_ends_the_hold(weir):
    w = weir(f"127.0.0.1:{dead()}", pipeline={"hold": "10s", "deadline": "300ms"})
    expect_problem(w.exchange(request()), 504, errors={"http_response_timeout"})
    w.await_metric(HELD, 0, pipeline="up")


def test_no_more_than_the_queue_has_places_are_held(weir, serve):
    port = dead()
    w, clients = holding(weir, port, 3, queue={"size": 3})
    start = time.monotonic()
    reply = w.exchange(request())
    assert time.monotonic() - start < scaled(AT_ONCE)
    expect_problem(reply, 503, pipeline="up")
    assert reason_of(reply) == "hold_full"
    serve(port=port)
    assert [c.read_response().status for c in clients] == [200] * 3


def test_without_places_to_wait_there_is_no_hold(weir, serve):
    """And each request finds out for itself whether an endpoint is back."""
    port = dead()
    w = weir(f"127.0.0.1:{port}", pipeline={"hold": "10s", "queue": {"size": 0}})
    expect_problem(w.exchange(request()), 502, errors={"connection_refused"})
    serve(port=port)
    wait_for("it is served", lambda: w.exchange(request()).status == 200)


def test_a_client_that_leaves_is_not_held_any_more(weir):
    w, clients = holding(weir, dead(), 3)
    for client in clients:
        client.close()
    w.await_metric(HELD, 0, pipeline="up")
    w.await_metric("weir_exchanges_active", 0)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_held_is_answered_before_the_end(weir, serve, end):
    port = dead()
    w, clients = holding(weir, port, 3)
    old = w.gateway
    w.signal(end)
    if end == signal.SIGHUP:
        wait_for("another gateway serves", lambda: w.gateway != old and w.admin("/readyz")[0] == 200)
    else:
        wait_for("it drains", lambda: w.admin("/readyz")[0] == 503)
    serve(port=port)
    assert [c.read_response().status for c in clients] == [200] * 3
    if end == signal.SIGTERM:
        assert w.await_exit() == 0
    else:
        for client in clients:
            client.close()
        wait_for("the old one is gone", lambda: w.gateways() and old not in w.gateways())


def test_an_upstream_without_tls_is_not_waited_for(weir, serve):
    """That does not come back by itself."""

    def plain(wire):
        wire.send(b"HTTP/1.1 400 this is plain\r\n\r\n")
        wire.read_to_end()

    w = weir(serve(plain), pipeline={"hold": "10s", "tls": {"verify": False}, "retry": {"attempts": 1}})
    start = time.monotonic()
    expect_problem(w.exchange(request()), 502)
    assert time.monotonic() - start < scaled(5)


# Outages under load.


class Asking:
    """Threads that ask all the time; .statuses of all answers, .failures to get one."""

    def __init__(self, w, n, make):
        self.statuses, self.failures, self.is_over = [], [], False
        self.made = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(w, make)) for _ in range(n)]
        for thread in self.threads:
            thread.start()

    def run(self, w, make):
        try:
            with w.client(timeout=30) as client:
                while not self.is_over:
                    with self.lock:
                        self.made += 1
                        n = self.made
                    client.send(make(n))
                    self.statuses.append(client.read_response().status)
                    time.sleep(0.005)
        except BaseException as failure:  # noqa: BLE001 - told to the test
            self.failures.append(failure)

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join(scaled(60))
        if self.failures:
            raise self.failures[0]


@pytest.mark.threads
def test_an_upstream_that_is_restarted_fails_no_get(weir, serve):
    port = dead()
    first = serve(answering(pause=0.01), port=port)
    w = weir(first, pipeline={"hold": "10s", "retry": {"attempts": 3, "on": ["connect", "refused", "reset"]}})
    asking = Asking(w, 16, lambda n: request(target=f"/{n}"))
    for _ in range(3):
        served = len(asking.statuses)
        wait_for("it is served", lambda: len(asking.statuses) > served + 50)
        first.close()
        w.await_metric(HELD, 16, pipeline="up")
        first = serve(answering(pause=0.01), port=port)
    served = len(asking.statuses)
    wait_for("it is served again", lambda: len(asking.statuses) > served + 50)
    asking.end()
    assert set(asking.statuses) == {200}


@pytest.mark.threads
def test_a_post_is_never_processed_twice(weir, serve):
    """It may fail when the upstream dies with it; it is not sent to the next one then."""
    port = dead()
    servers = [serve(answering(pause=0.01), port=port)]
    w = weir(servers[0], pipeline={"hold": "10s", "retry": {"attempts": 3, "on": ["connect", "refused", "reset"]}})
    asking = Asking(w, 16, lambda n: request("POST", f"/{n}", body=b"once"))
    for _ in range(3):
        served = len(asking.statuses)
        wait_for("it is served", lambda: len(asking.statuses) > served + 50)
        servers[-1].close()
        w.await_metric(HELD, 16, pipeline="up")
        servers.append(serve(answering(pause=0.01), port=port))
    asking.end()
    seen = [message.target for server in servers for message in server.requests]
    assert len(seen) == len(set(seen)), "a POST came twice"
    assert set(asking.statuses) <= {200, 502}
    assert asking.statuses.count(502) <= 3 * 16, "those that were in flight, and no others"


GRPC_SERVER = """
import sys, time
from concurrent import futures
import grpc

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.echo)

    def echo(self, message, context):
        sys.stdout.buffer.write(message + b"\\n")
        sys.stdout.buffer.flush()
        time.sleep(0.01)
        return message

server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers((Echo(),))
assert server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
"""


@pytest.fixture
def grpc_serve(tmp_path):
    """A gRPC server in a process of its own, which can be killed; it writes down all calls that it sees."""
    seen = tmp_path / "calls"
    made = []

    def make(port):
        with open(seen, "ab") as out:
            made.append(subprocess.Popen([sys.executable, "-c", GRPC_SERVER, str(port)], stdout=out))
        return made[-1]

    make.seen = lambda: seen.read_text().splitlines()
    yield make
    for server in made:
        server.kill()
        server.wait()


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_a_grpc_server_that_is_killed(weir, grpc_serve, is_idempotent):
    """Unary calls that were in flight are lost, unless their route says that they may be repeated."""
    port = dead()
    server = grpc_serve(port)
    w = weir(f"127.0.0.1:{port}", listener={"protocol": "http2"}, route={"idempotent": is_idempotent},
             pipeline={"protocol": "http2", "hold": "10s",
                       "retry": {"attempts": 3, "on": ["connect", "refused", "reset", "503"]}})
    codes, over = [], threading.Event()

    def run(which):
        with grpc.insecure_channel(f"127.0.0.1:{w.port}", options=[
            ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)
        ]) as channel:
            call = channel.unary_unary("/weir.test.Echo/Unary")
            n = 0
            while not over.is_set():
                n += 1
                try:
                    assert call(b"%d/%d" % (which, n), timeout=scaled(30)) == b"%d/%d" % (which, n)
                    codes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.append(error.code())

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        served = codes.count(grpc.StatusCode.OK)
        wait_for("it is served", lambda: codes.count(grpc.StatusCode.OK) > served + 30)
        server.kill()
        server.wait()
        w.await_metric(HELD, 8, pipeline="up")
        server = grpc_serve(port)
    served = codes.count(grpc.StatusCode.OK)
    wait_for("it is served again", lambda: codes.count(grpc.StatusCode.OK) > served + 30)
    over.set()
    for thread in threads:
        thread.join(scaled(60))
    failed = [code for code in codes if code != grpc.StatusCode.OK]
    if is_idempotent:
        assert not failed
    else:
        assert len(failed) <= 2 * 8
        assert len(grpc_serve.seen()) == len(set(grpc_serve.seen())), "a call came twice"
