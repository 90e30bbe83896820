"""Everything at once: gRPC calls of all kinds, HTTP/2 and HTTP/1 requests, big and small, that are
cancelled, run out of time, are reset or lose their connection on either side. Who is not hit gets what
it asked for, nobody gets what another asked for, and in the end nothing is left."""

import hashlib
import random
import threading
import time

import h2.exceptions
import pytest

from harness.env import VARIANT, scaled, wait_for
from harness.grpc_interop import CASES, OPTIONS, PythonClient, PythonServer, zeros
from harness.h2_upstream import H2Server
from harness.http2 import Http2Client
from harness.weir import base_config
from harness.wire import Closed, connect, request

MIB = 1 << 20
CLIENTS_ERROR = "HTTP/2 connection error PROTOCOL_ERROR: RST_STREAM: stream in idle"
RSS_GROWTH_MAX = 8 * MIB  # after it has been warm once


def unruly(stream, event):
    """Mostly an echo."""
    if event != "end":
        return
    dice = random.random()
    if dice < 0.80:
        trailers = [("x-sum", hashlib.sha1(stream.body).hexdigest())] if dice < 0.40 else None
        stream.respond(fields=[("x-path", stream.path)], body=stream.body, trailers=trailers)
    elif dice < 0.90:
        stream.reset(random.choice([1, 2, 5, 7, 8, 11]))
    elif dice < 0.95:
        stream.head(200)
        stream.data(stream.body[: len(stream.body) // 2])
        stream.reset(random.choice([2, 8]))
    elif dice < 0.97:
        stream.connection.say_goaway(stream.id)
        stream.respond(fields=[("x-path", stream.path)], body=stream.body)
    elif dice < 0.98:
        stream.connection.end()
    # else: it is never answered


class Worker(threading.Thread):
    """Calls act() until the time is over."""

    def __init__(self, w, seed):
        super().__init__(daemon=True)
        self.w = w
        self.dice = random.Random(seed)
        self.done = 0
        self.failure = None
        self.is_over = threading.Event()

    def run(self):
        try:
            self.open()
            while not self.is_over.is_set():
                self.act()
                self.done += 1
        except BaseException as failure:  # noqa: BLE001 - told to the test
            self.failure = failure
        finally:
            self.close()

    def size(self):
        return self.dice.choice([0, 1, 100, 5000, 16384, 70000, 300000])

    def open(self):
        pass

    def close(self):
        pass


class Calls(Worker):
    """gRPC: the interop cases, and others that are cancelled or run out of time wherever they are.

    A call of grpc-core 1.51 whose time is over before its HEADERS are written sends RST_STREAM without them. By
    RFC 9113 section 6.4 that ends the connection, and a call that was on its way then is lost."""

    lost = 0

    def open(self):
        import grpc

        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.w.port}", options=OPTIONS)

    def act(self):
        kind = self.dice.random()
        if kind < 0.5:
            case = CASES[self.dice.choice(list(CASES))]
        elif kind < 0.7:
            sizes = [self.size() for _ in range(self.dice.randrange(6))]
            case = {
                "method": "Talk", "lockstep": self.dice.random() < 0.5,
                "send": [[f"size {n}", self.size()] for n in sizes],
                "expect": {"code": 0, "replies": [zeros(n) for n in sizes]},
            }  # fmt: skip
        elif kind < 0.85:
            size = self.size()
            case = {
                "method": "Spread", "send": [[",".join([str(size)] * 50), 0]], "cancel": "first",
                "expect": {"code": 1},
            }  # fmt: skip
        else:
            case = {
                "method": self.dice.choice(["Unary", "Talk", "Collect"]),
                "send": [["size 100000", 100000]], "timeout_ms": self.dice.randrange(1, 30),
            }  # fmt: skip
        outcome = PythonClient().call(self.channel, case)
        if outcome["code"] == 14 and outcome["details"] == "GOAWAY received":
            self.lost += 1
            return
        if "expect" in case and case["expect"]["code"] == 1 and outcome["code"] == 0:
            return  # it was through before it was cancelled
        if "expect" not in case:
            assert outcome["code"] in (0, 4), outcome
            return
        assert outcome.items() >= case["expect"].items(), (case, outcome)

    def close(self):
        self.channel.close()


class Streams(Worker):
    """HTTP/2, to the well-behaved server of HTTP/1 and to the unruly one of HTTP/2."""

    client = None

    def open(self):
        self.client = Http2Client(self.w.port)

    def act(self):
        if self.dice.random() < 0.05 or self.client.goaways or len(self.client.streams) > 500:
            self.client.close()  # with all that is on it
            self.open()
        asked = []
        for _ in range(self.dice.randrange(1, 8)):
            body = self.dice.randbytes(self.size())
            path = self.dice.choice(["/upload", "/unruly/%d" % self.dice.randrange(1 << 30)])
            sid = self.client.ask("POST", path, end=False)
            asked.append((sid, path, body))
            try:
                self.client.send(sid, body)
                if self.dice.random() < 0.9:
                    self.client.end(sid)
            except h2.exceptions.ProtocolError:
                assert self.client.streams[sid].is_over  # and so it was answered, or reset
        for sid, path, body in asked:
            stream = self.client.streams[sid]
            if self.dice.random() < 0.2 and not stream.is_over:
                self.cancel(sid)
                continue
            limit = time.monotonic() + scaled(20)
            while not stream.is_over and not self.client.is_closed:
                if not self.client.pump(0.2) and not self.must_answer(sid, path):
                    self.cancel(sid)
                    break
                assert time.monotonic() < limit, (path, stream)
            if stream.is_ended and stream.status == 200:
                self.judge(path, body, stream)
            elif stream.is_ended:
                assert stream.status in (408, 502, 503, 504), stream
            else:
                assert path != "/upload" or stream.reset is None or stream.status == 200, stream

    def must_answer(self, sid, path):
        return path == "/upload" and self.client.h2.streams[sid].state_machine.state.name == "HALF_CLOSED_LOCAL"

    def cancel(self, sid):
        try:
            self.client.cancel(sid, self.dice.choice([0, 2, 8]))
        except h2.exceptions.ProtocolError:
            assert self.client.streams[sid].is_over

    def judge(self, path, body, stream):
        if path == "/upload":
            assert hashlib.sha256(body).hexdigest().encode() in bytes(stream.body)
            return
        assert bytes(stream.body) == body
        assert stream.fields.get("x-path") == path
        if stream.trailers:
            assert stream.trailers.get("x-sum") == hashlib.sha1(body).hexdigest()

    def close(self):
        if self.client:
            self.client.close()


class Requests(Worker):
    """HTTP/1.1 on the same port, to both."""

    def act(self):
        body = self.dice.randbytes(self.size())
        path = self.dice.choice(["/upload", "/unruly/%d" % self.dice.randrange(1 << 30)])
        with connect(self.w.port, 20) as wire:
            for _ in range(self.dice.randrange(1, 10)):
                if not wire.try_send(request("POST", path, body=body)):
                    return
                if self.dice.random() < 0.1:
                    return  # leaves without the answer
                try:
                    wire.sock.settimeout(scaled(20))
                    reply = wire.read_response("POST")
                except Closed:
                    assert path != "/upload"
                    return
                if reply.status == 200 and path == "/upload":
                    assert hashlib.sha256(body).hexdigest().encode() in reply.body
                elif reply.status == 200:
                    assert reply.body == body and reply.fields.get("x-path") == path
                else:
                    assert reply.status in (502, 503, 504) and path != "/upload", reply
                if reply.fields.get("connection") == "close":
                    return


def routes(directory, calls, engine, unruly):
    config = base_config(directory, [calls.endpoint])
    config["server"]["drain"] = {"shutdown": "10s"}
    config["log"]["level"] = "error"
    config["listener"][0] |= {"protocol": "auto", "http2": {"resets": 1000, "early_percent": 100}}
    quick = {"idle": "300ms"}
    config["pipeline"] = [
        {"name": "calls", "endpoints": [calls.endpoint], "protocol": "http2", "timeouts": quick},
        {"name": "engine", "endpoints": [engine.endpoint], "timeouts": quick},
        {"name": "unruly", "endpoints": [unruly.endpoint], "protocol": "http2", "timeouts": quick, "deadline": "1s"},
    ]
    config["route"] = [
        {"match": {"grpc": "*"}, "pipeline": "calls"},
        {"match": {"path": "/unruly"}, "pipeline": "unruly"},
        {"match": {"path": "/"}, "pipeline": "engine"},
    ]
    return config


@pytest.mark.threads
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "seconds",
    [pytest.param(4, id="quick"), pytest.param(600, id="long", marks=[pytest.mark.soak, pytest.mark.sanitized])],
)
def test_mixed_traffic_leaves_nothing_behind(weir, engine, seconds):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    calls, wild = PythonServer(threads=32), H2Server(unruly)
    try:
        w = weir(config=lambda directory: routes(directory, calls, engine, wild))
        rounds = (seconds / 4, seconds * 3 / 4)  # the first one makes weir warm
        rss, fds, lost = [], [], 0
        for number, length in enumerate(rounds):
            kinds = [Calls, Calls, Calls, Streams, Streams, Streams, Requests, Requests]
            workers = [kind(w, seed + number * 100 + i) for i, kind in enumerate(kinds)]
            for worker in workers:
                worker.start()
            end = time.monotonic() + length
            while time.monotonic() < end and not any(x.failure for x in workers):
                time.sleep(0.1)
            for worker in workers:
                worker.is_over.set()
            for worker in workers:
                worker.join(scaled(30))
                assert not worker.is_alive(), type(worker).__name__
            for worker in workers:
                if worker.failure:
                    raise worker.failure
                assert worker.done > 0, type(worker).__name__
            for name in ("exchanges_active", "endpoint_streams", "streams_active", "buffered_bytes", "connections",
                         "endpoint_connections", "pipeline_inflight", "pipeline_queue_length"):  # fmt: skip
                w.await_metric(f"weir_{name}", 0, 10)
            lost += sum(x.lost for x in workers if isinstance(x, Calls))
            errors = lost and sum(line.get("detail") == CLIENTS_ERROR for line in w.access())
            assert lost <= errors, f"{lost} calls lost, {errors} connections ended by a client's own error"
            fds.append(w.fds())
            rss.append(w.rss())
        metrics = w.metrics()
        print({x: sum(k.done for k in workers if type(k).__name__ == x) for x in ("Calls", "Streams", "Requests")})
        print({s.labels["reason"]: s.value for s in metrics.all("weir_rejected_total") if s.value})
        assert metrics.sum("weir_rejected_total", reason="internal") == 0
        assert metrics.sum("weir_rejected_total", reason="abuse") == 0
        # What came to ask for metrics may still be closing; and libuv keeps a /dev/null for each of the
        # two loops from the first stream that it has.
        wait_for(f"{fds[1]} fds are {fds[0]} again", lambda: w.fds() <= fds[0] + 2)
        if VARIANT == "release":
            assert rss[1] - rss[0] < RSS_GROWTH_MAX, rss
    finally:
        calls.close()
        wild.close()

