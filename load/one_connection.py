"""The upstream of incident 3: it accepts one connection, works serially, and turns away the rest.

While a connection is open every further one is refused: reset at once, or (refuse="close") ended with a
FIN, whereupon the socket stays half-closed until its client closes it too. While a request is in
service (25 ms) nothing else of that connection is looked at, so one whose client has left keeps the
place until its service ends, as in any serial server.

It runs in a process of its own and counts in shared memory what happens to it.
"""

import multiprocessing
import os
import selectors
import signal
import socket
import struct
import time

import common

SERVICE_S = 0.025
COUNTS = ["accepted", "refused", "served", "open", "open_max", "half_closed", "half_closed_max",
          "cut"]


class Counts:
    """The server's counters, readable from the parent process as attributes."""

    def __init__(self):
        object.__setattr__(self, "_shared", multiprocessing.Array("q", len(COUNTS), lock=False))

    def __getattr__(self, name):
        return self._shared[COUNTS.index(name)]

    def __setattr__(self, name, value):
        self._shared[COUNTS.index(name)] = value

    def as_dict(self):
        return {name: getattr(self, name) for name in COUNTS}


class OneConnection:
    """The server as its parent sees it: .port, .counts, stop()."""

    def __init__(self, refuse="reset"):
        self.counts = Counts()
        self.port = common.free_port()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(4096)
        self._process = multiprocessing.get_context("fork").Process(
            target=_run, args=(listener, self.counts, refuse, os.getpid()), daemon=True)
        self._process.start()
        listener.close()

    def stop(self):
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _run(listener, counts, refuse, parent):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener.setblocking(False)
    server = _Server(listener, counts, refuse)
    while os.getppid() == parent:
        server.turn()


class _Server:
    def __init__(self, listener, counts, refuse):
        self.listener, self.counts, self.refuse = listener, counts, refuse
        self.selector = selectors.EpollSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.current = None   # the socket that has the place
        self.request = b""
        self.answer = b""
        self.due = None       # when the service of the current request ends
        self.parting = set()  # refused with a FIN, not yet closed by their clients

    def turn(self):
        timeout = 0.5 if self.due is None else max(0, self.due - time.monotonic())
        events = self.selector.select(timeout)
        # What has the place goes first: its end may be what makes room for the newcomer.
        events.sort(key=lambda event: event[0].fileobj is self.listener)
        for key, _ in events:
            key.data(key.fileobj)
        if self.due is not None and time.monotonic() >= self.due:
            self.finish_service()

    def accept(self, _):
        try:
            newcomer, _ = self.listener.accept()
        except OSError:
            return
        self.counts.accepted += 1
        self.opened(1)
        if self.current is not None and self.due is None and self.has_left():
            self.leave()
        if self.current is not None:
            self.turn_away(newcomer)
            return
        newcomer.setblocking(False)
        newcomer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.current, self.request, self.answer = newcomer, b"", b""
        self.selector.register(newcomer, selectors.EVENT_READ, self.read)

    def turn_away(self, newcomer):
        self.counts.refused += 1
        if self.refuse == "reset":
            newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            newcomer.close()
            self.opened(-1)
            return
        newcomer.setblocking(False)
        try:
            newcomer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.parting.add(newcomer)
        self.count_parting()
        self.selector.register(newcomer, selectors.EVENT_READ, self.read_parting)

    def read_parting(self, sock):
        try:
            if sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.selector.unregister(sock)
        sock.close()
        self.parting.discard(sock)
        self.count_parting()
        self.opened(-1)

    def has_left(self):
        """Whether the one with the place has closed already, its FIN just not yet read."""
        try:
            return self.current.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def leave(self):
        self.selector.unregister(self.current) if self.due is None else None
        self.current.close()
        self.current = None
        self.opened(-1)

    def read(self, sock):
        if self.answer:
            self.write(sock)
            return
        try:
            data = sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.counts.cut += bool(self.request)
            self.leave()
            return
        self.request += data
        if self.is_complete():
            self.selector.unregister(sock)
            self.due = time.monotonic() + SERVICE_S

    def is_complete(self):
        head, mark, content = self.request.partition(b"\r\n\r\n")
        if not mark:
            return False
        fields = head.lower()
        if b"transfer-encoding: chunked" in fields:
            return content.endswith(b"0\r\n\r\n")
        _, found, value = fields.partition(b"content-length:")
        return len(content) >= int(value.split(b"\r\n")[0]) if found else True

    def finish_service(self):
        self.due = None
        head = self.request.partition(b"\r\n\r\n")[0]
        target = head.split(b" ", 2)[1]
        content = b"served: 25 ms"
        if target.startswith(b"/bytes/"):
            content = b"." * int(target[7:])
        self.answer = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
                       % len(content)) + content
        self.is_last = b"connection: close" in head.lower()
        self.request = b""
        self.selector.register(self.current, selectors.EVENT_READ, self.read)
        self.write(self.current)

    def write(self, sock):
        """Writes what goes; meanwhile an EOF or error of the client gives the place back."""
        try:
            sent = sock.send(self.answer)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.counts.cut += 1
            self.answer = b""
            self.leave()
            return
        self.answer = self.answer[sent:]
        if self.answer:
            if self.has_left():
                self.counts.cut += 1
                self.answer = b""
                self.leave()
                return
            self.selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self.read)
            return
        self.counts.served += 1
        self.selector.modify(sock, selectors.EVENT_READ, self.read)
        if self.is_last:
            self.leave()

    def opened(self, change):
        self.counts.open += change
        self.counts.open_max = max(self.counts.open_max, self.counts.open)

    def count_parting(self):
        self.counts.half_closed = len(self.parting)
        self.counts.half_closed_max = max(self.counts.half_closed_max, len(self.parting))
