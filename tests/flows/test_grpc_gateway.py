"""What weir itself does for gRPC calls: routes by service, failures in trailers, deadlines, streams
told from unary calls, metrics by status, and the health service."""

import socket
import threading
import time
from concurrent import futures

import grpc
import pytest
from harness.env import free_port, scaled, wait_for

pytestmark = pytest.mark.timeout(120)

HTTP2 = {"protocol": "http2"}
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


class Service(grpc.GenericRpcHandler):
    def __init__(self):
        self.remaining = None  # what was left of the deadline when the last call came
        self.go = threading.Event()

    def service(self, details):
        kind, function = {
            "Echo": (grpc.unary_unary_rpc_method_handler, self.echo),
            "Wait": (grpc.unary_unary_rpc_method_handler, self.wait),
            "Tick": (grpc.unary_stream_rpc_method_handler, self.tick),
            "Once": (grpc.unary_stream_rpc_method_handler, self.once),
            "Talk": (grpc.stream_stream_rpc_method_handler, self.talk),
        }.get(details.method.rpartition("/")[2], (None, None))
        return kind and kind(function)

    def echo(self, message, context):
        self.remaining = context.time_remaining()
        return message

    def wait(self, message, context):
        self.remaining = context.time_remaining()
        over = threading.Event()
        context.add_callback(over.set)
        while not over.is_set() and not self.go.wait(0.01):
            pass
        return message

    def tick(self, message, context):
        for i in range(int(message)):
            yield b"%d" % i
            time.sleep(0.1)

    def once(self, message, context):
        yield message
        self.go.wait(30)

    def talk(self, messages, context):
        yield from messages


@pytest.fixture
def service():
    service = Service()
    yield service
    service.go.set()


@pytest.fixture
def server(service):
    server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    service.go.set()
    server.stop(None).wait()


@pytest.fixture
def connect():
    made = []

    def make(w):
        made.append(grpc.insecure_channel(f"127.0.0.1:{w.port}", options=OPTIONS))
        return made[-1]

    yield make
    for channel in made:
        channel.close()


def start(weir, server, *, listener=None, pipeline=None, route=None, **more):
    return weir(server, listener={**HTTP2, **(listener or {})}, pipeline={**HTTP2, **(pipeline or {})},
                route=route, **more)


def call(channel, name, message=b"hi", timeout=10, service="weir.test.Echo"):
    return channel.unary_unary(f"/{service}/{name}")(message, timeout=scaled(timeout))


def failure(of):
    with pytest.raises(grpc.RpcError) as caught:
        of()
    return caught.value


def calls(w, status):
    return w.metrics().sum("weir_grpc_requests_total", grpc_status=status)


# Routes.


def test_routes_by_service_and_method(weir, server, connect):
    routes = [
        {"name": "echo", "match": {"grpc": "weir.test.Echo"}, "pipeline": "up"},
        {"name": "wait", "match": {"grpc": "weir.test.Echo/Once"}, "pipeline": "up"},
    ]
    w = start(weir, server, routes=routes)
    channel = connect(w)
    assert call(channel, "Echo") == b"hi"
    assert failure(lambda: call(channel, "Echo", service="weir.test.Other")).code() == grpc.StatusCode.UNIMPLEMENTED
    assert failure(lambda: call(channel, "Echo", service="weir.test.Echoes")).code() == grpc.StatusCode.UNIMPLEMENTED
    metrics = w.metrics()
    assert metrics.sum("weir_grpc_requests_total", route="echo", grpc_status="OK") == 1
    assert metrics.sum("weir_grpc_requests_total", route="none", grpc_status="UNIMPLEMENTED") == 2


@pytest.mark.parametrize("rest", [{}, {"match": {"path": "/"}}])
def test_what_is_no_grpc_takes_other_routes(weir, server, serve, connect, rest):
    from harness.upstream import answering

    def config(directory):
        from harness.weir import base_config

        c = base_config(directory, [server])
        c["listener"][0]["protocol"] = "auto"
        c["pipeline"][0]["protocol"] = "http2"
        c["pipeline"].append({"name": "web", "endpoints": [serve(answering()).endpoint]})
        c["route"] = [{**rest, "pipeline": "web"}, {"match": {"grpc": "*"}, "pipeline": "up"}]
        return c

    from harness.wire import request

    w = weir(config=config)
    assert call(connect(w), "Echo") == b"hi"
    assert w.exchange(request("POST", "/weir.test.Echo/Echo", body=b"x")).status == 200
    assert calls(w, "OK") == 1


# Failures.


def test_an_upstream_that_is_away_is_unavailable(weir, connect):
    w = start(weir, f"127.0.0.1:{free_port()}", pipeline={"hold": 0})
    error = failure(lambda: call(connect(w), "Echo"))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert error.details().startswith("weir: the upstream refused the connection")
    assert dict(error.trailing_metadata())["x-request-id"]
    assert calls(w, "UNAVAILABLE") == 1


def test_a_full_queue_says_when_to_come_back(weir, server, service, connect):
    w = start(weir, server, pipeline={"limits": {"concurrency": 1}, "queue": {"size": 0}})
    channel = connect(w)
    first = channel.unary_unary("/weir.test.Echo/Wait").future(b"first", timeout=scaled(20))
    wait_for("the first is there", lambda: service.remaining)
    error = failure(lambda: call(channel, "Echo"))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert 1000 <= int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) <= 2000
    service.go.set()
    assert first.result() == b"first"


def test_an_upstream_that_dies_in_mid_stream_ends_it_with_a_status(weir, connect, service):
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service,))
    inner = server.add_insecure_port("127.0.0.1:0")
    server.start()
    relay = Relay(inner)
    try:
        w = start(weir, f"127.0.0.1:{relay.port}")
        answers = connect(w).unary_stream("/weir.test.Echo/Once")(b"first", timeout=scaled(20))
        assert next(answers) == b"first"
        relay.cut()
        error = failure(lambda: next(answers))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        assert error.details().startswith("weir: ")
        assert calls(w, "UNAVAILABLE") == 1
    finally:
        relay.close()
        service.go.set()
        server.stop(None).wait()


class Relay:
    """Bytes to and from a port, until they are cut."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.move, args=(one, other), daemon=True).start()

    def move(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass

    def cut(self):
        self.listener.close()
        for s in self.sockets:
            s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()
        for s in self.sockets:
            s.close()


# Deadlines.


def test_the_client_s_deadline_is_passed_on_shortened(weir, server, service, connect):
    w = start(weir, server, pipeline={"limits": {"concurrency": 1}})
    channel = connect(w)
    first = channel.unary_unary("/weir.test.Echo/Wait").future(b"first", timeout=20)
    wait_for("the first is there", lambda: service.remaining)
    second = channel.unary_unary("/weir.test.Echo/Echo").future(b"second", timeout=20)
    wait_for("the second waits", lambda: w.metrics().sum("weir_pipeline_queue_length") == 1)
    time.sleep(0.3)  # that is what it waits, and what it must not get back
    service.go.set()
    assert first.result() == b"first" and second.result() == b"second"
    assert 1 < service.remaining < 19.8


def test_a_deadline_is_kept_whatever_the_server_does(weir, server, service, connect):
    w = start(weir, server)
    began = time.monotonic()
    error = failure(lambda: call(connect(w), "Wait", timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < scaled(5)
    wait_for("it is counted", lambda: calls(w, "DEADLINE_EXCEEDED") + calls(w, "CANCELLED") == 1)


def test_the_route_s_deadline_holds_for_calls_that_have_none(weir, server, connect):
    w = start(weir, server, route={"deadline": "300ms"})
    error = failure(lambda: connect(w).unary_unary("/weir.test.Echo/Wait")(b"x"))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.details().startswith("weir: the deadline has passed")


# Streams.


def test_a_stream_outlives_the_route_s_deadline(weir, server, connect):
    w = start(weir, server, route={"deadline": "500ms"})
    ticks = list(connect(w).unary_stream("/weir.test.Echo/Tick")(b"15"))
    assert len(ticks) == 15


def test_a_stream_that_says_little_is_told_by_its_missing_trailers(weir, server, service, connect):
    w = start(weir, server, route={"deadline": "2500ms"})
    answers = connect(w).unary_stream("/weir.test.Echo/Once")(b"only")
    assert next(answers) == b"only"
    wait_for("it is a stream", lambda: w.metrics().sum("weir_streams_active") == 1)
    assert w.metrics().sum("weir_pipeline_inflight") == 0, "it has given its permit back"
    time.sleep(2)  # past the route's deadline
    service.go.set()
    assert list(answers) == []


def test_a_stream_keeps_the_client_s_deadline(weir, server, connect):
    w = start(weir, server)
    answers = connect(w).unary_stream("/weir.test.Echo/Tick")(b"100", timeout=1)
    with pytest.raises(grpc.RpcError) as caught:
        list(answers)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for("nothing is left", lambda: w.metrics().sum("weir_exchanges_active") == 0)


def test_a_client_that_streams_gives_its_permit_back(weir, server, connect):
    w = start(weir, server, pipeline={"limits": {"concurrency": 1}, "queue": {"size": 0}})
    channel = connect(w)
    more = threading.Event()

    def messages():
        yield b"one"
        yield b"two"
        more.wait(20)

    answers = channel.stream_stream("/weir.test.Echo/Talk")(messages())
    assert [next(answers), next(answers)] == [b"one", b"two"]
    assert call(channel, "Echo") == b"hi", "the one permit is free"
    more.set()
    assert list(answers) == []


def test_unary_calls_are_no_streams(weir, server, connect):
    w = start(weir, server)
    channel = connect(w)
    for size in (0, 1, 100_000):
        assert call(channel, "Echo", bytes(size)) == bytes(size)
    assert w.metrics().sum("weir_streams_active") == 0
    assert calls(w, "OK") == 3


# Health.


def health(channel, service=b"", path=CHECK):
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    kind = channel.unary_unary if path == CHECK else channel.unary_stream
    return kind(path)(request, timeout=scaled(20))


def test_weir_answers_for_its_health(weir, server, connect):
    routes = [{"match": {"grpc": "weir.test.Echo"}, "pipeline": "up"}]
    w = start(weir, server, listener={"health_service": True}, routes=routes)
    channel = connect(w)
    assert health(channel) == SERVING
    assert health(channel, b"weir.test.Echo") == SERVING
    assert failure(lambda: health(channel, b"weir.test.Other")).code() == grpc.StatusCode.NOT_FOUND


def test_a_service_whose_upstream_is_away_is_not_serving(weir, connect):
    w = start(weir, f"127.0.0.1:{free_port()}", listener={"health_service": True})
    channel = connect(w)
    failure(lambda: call(channel, "Echo"))
    assert health(channel, b"weir.test.Echo") == NOT_SERVING
    assert health(channel) == SERVING


def test_watchers_are_told_of_changes_and_of_the_end(weir, connect):
    port = free_port()
    w = start(weir, f"127.0.0.1:{port}", listener={"health_service": True})
    channel = connect(w)
    watch = health(channel, b"weir.test.Echo", WATCH)
    assert next(watch) == SERVING, "nobody knows better yet"
    failure(lambda: call(channel, "Echo"))
    assert next(watch) == NOT_SERVING
    w.signal()
    error = failure(lambda: [message for message in watch])
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in error.details()
    assert w.await_exit() == 0


def test_watching_what_is_not_there_says_so(weir, server, connect):
    routes = [{"match": {"grpc": "weir.test.Echo"}, "pipeline": "up"}]
    w = start(weir, server, listener={"health_service": True}, routes=routes)
    watch = health(connect(w), b"weir.test.Other", WATCH)
    assert next(watch) == UNKNOWN
    watch.cancel()
    wait_for("nothing is left", lambda: w.metrics().sum("weir_exchanges_active") == 0)


def test_what_is_no_health_request_is_refused(weir, server, connect):
    w = start(weir, server, listener={"health_service": True})
    error = failure(lambda: connect(w).unary_unary(CHECK)(b"\xff\xff", timeout=scaled(10)))
    assert error.code() == grpc.StatusCode.INTERNAL
    error = failure(lambda: connect(w).unary_unary(CHECK)(bytes(5000), timeout=scaled(10)))
    assert error.code() == grpc.StatusCode.INTERNAL


def test_without_the_setting_health_is_the_upstream_s(weir, server, connect):
    w = start(weir, server)
    assert failure(lambda: health(connect(w))).code() == grpc.StatusCode.UNIMPLEMENTED
