"""Servers for weir to talk to.

Listener: the test itself plays the server, step by step: accept(), read_request(), send().
Server:   a function is run in a thread of its own for each connection.
"""

import select
import socket
import threading
import time

from .env import PATIENCE, scaled, wait_for
from .wire import Closed, Wire, response


class Listener:
    def __init__(self, address="127.0.0.1", port=0, path=None, backlog=512):
        if path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.bind(str(path))
            self.endpoint = f"unix:{path}"
            self.port = None
        else:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((address, port))
            self.port = self.sock.getsockname()[1]
            self.endpoint = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.sock.listen(backlog)
        self.wires = []

    def accept(self, timeout=PATIENCE):
        self.sock.settimeout(scaled(timeout))
        try:
            sock, _ = self.sock.accept()
        except socket.timeout:
            raise AssertionError(f"weir did not connect within {scaled(timeout):.1f} s") from None
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(sock)
        self.wires.append(wire)
        return wire

    def has_connection(self, seconds=0.0):
        """Does a connection wait to be accepted, or come within @seconds?"""
        return bool(select.select([self.sock], [], [], seconds)[0])

    def close(self):
        self.sock.close()
        for wire in self.wires:
            wire.close()


class Server:
    """@serve(wire) runs for each connection; it may return or raise Closed when weir leaves. Any
    other failure in it is a failure of the test (raised by check())."""

    def __init__(self, serve, address="127.0.0.1", port=0, path=None, backlog=512):
        self.listener = Listener(address, port, path, backlog)
        self.endpoint, self.port = self.listener.endpoint, self.listener.port
        self.serve = serve
        self.lock = threading.Lock()
        self.requests = []
        self.accepted = 0
        self.open = 0
        self.most_open = 0
        self.busy = 0
        self.most_busy = 0
        self.failures = []
        self.is_stopping = False
        self.wires = set()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        self.listener.sock.settimeout(None)
        while True:
            try:
                sock, _ = self.listener.sock.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(sock, 60)
            wire.server = self
            with self.lock:
                if self.is_stopping:
                    wire.close()
                    return
                self.accepted += 1
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                self.wires.add(wire)
            threading.Thread(target=self._run, args=(wire,), daemon=True).start()

    def _run(self, wire):
        try:
            self.serve(wire)
        except (Closed, OSError):
            pass
        except BaseException as failure:  # noqa: BLE001 - told to the test
            if not self.is_stopping:
                self.failures.append(failure)
        finally:
            # Counted out before the end goes on the wire: by then weir may dial the next one.
            with self.lock:
                self.wires.discard(wire)
                self.open -= 1
            wire.close()

    def record(self, message):
        with self.lock:
            self.requests.append(message)

    def enter(self):
        with self.lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)

    def leave(self):
        with self.lock:
            self.busy -= 1

    def check(self):
        if self.failures:
            raise self.failures[0]

    def await_requests(self, n, timeout=PATIENCE):
        return wait_for(f"{n} requests at the upstream", lambda: len(self.requests) >= n, timeout)

    def close(self):
        with self.lock:
            self.is_stopping = True
            wires = list(self.wires)
        try:
            self.listener.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.sock.close()
        for wire in wires:
            try:
                wire.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.thread.join(scaled(PATIENCE))


def answering(answer=None, pause=None):
    """A serve function: reads requests for ever and answers each with @answer, which is bytes or a
    function of the request. @pause: seconds, or an Event to wait for, before each answer."""

    def serve(wire):
        while True:
            message = wire.read_request()
            wire.server.record(message)
            wire.server.enter()
            try:
                if isinstance(pause, threading.Event):
                    pause.wait(scaled(60))
                elif pause:
                    time.sleep(pause)
            finally:
                wire.server.leave()
            out = answer(message) if callable(answer) else answer
            wire.send(out if out is not None else response(body=b"ok"))

    return serve


def fill_backlog(blackhole):
    """A listening socket whose backlog is full: SYNs are dropped, dials hang."""
    blackhole.bind(("127.0.0.1", 0))
    blackhole.listen(0)
    fillers = []
    while len(fillers) < 64:
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(blackhole.getsockname())
        fillers.append(filler)
        if not select.select([], [filler], [], 0.2)[1]:
            return fillers
    raise AssertionError("the backlog never fills up")
