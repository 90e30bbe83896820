"""A storm of keepalive clients in one process: non-blocking sockets and epoll, little work per request.

Every client asks, reads the whole answer and asks again at once: on the same connection, unless
the answer said Connection: close; else on a new one. A 503 with Retry-After is obeyed. A connection
that ends before the whole answer is there is an error whatever the reason, because a client whose
next request is always under way is never idle and so never to be cut off.
"""

import collections
import errno
import select
import socket
import time

RETRY_MAX_S = 1.0    # longest that a Retry-After is obeyed
AFTER_ERROR_S = 0.1  # before a client that met an error tries again
LOOK_S = 0.02

REQUEST = b"GET %s HTTP/1.1\r\nHost: load.test\r\n\r\n"


class Client:
    """first_s, served_s: when its first try began and its first 2xx was there; None: not yet."""

    __slots__ = ("sock", "asked_s", "ask", "answer", "first_s", "served_s", "served")

    def __init__(self):
        self.sock = self.asked_s = self.first_s = self.served_s = None
        self.ask = 0       # which of its tries is under way
        self.answer = b""  # what is there of it
        self.served = 0


class Storm:
    """run() does everything; the counts are there for who comes after it.

    For @seconds all keep asking; up to @patience_s those go on that have not been served yet. @timeout_s:
    from the request to the whole answer, connecting included.

    ok: 2xx answers within the storm; refused, reset, timeouts: what happened to clients; explained:
    503 with Retry-After; strange: {status: how many} of all other answers.
    """

    def __init__(self, port, path, clients, seconds, patience_s, timeout_s):
        self.address, self.request = ("127.0.0.1", port), REQUEST % path.encode()
        self.seconds, self.patience_s, self.timeout_s = seconds, patience_s, timeout_s
        self.clients = [Client() for _ in range(clients)]
        self.ok = self.late_ok = self.refused = self.timeouts = self.explained = self.connections = 0
        self.reset, self.strange = collections.Counter(), collections.Counter()
        self.latencies = []

    def waits(self):
        """How long each client that was served waited for its first 2xx."""
        return [c.served_s - c.first_s for c in self.clients if c.served_s is not None]

    def run(self):
        self.epoll, self.by_fd = select.epoll(), {}
        self.tries = collections.deque()    # (when, client, ask): of these the oldest may be over
        self.pauses = []                    # (until, client)
        self.begun_s = time.monotonic()
        for client in self.clients:
            self.connect(client)
        while not self.is_over():
            for fd, events in self.epoll.poll(LOOK_S, 512):
                client = self.by_fd.get(fd)
                if client is None:
                    continue
                if events & select.EPOLLOUT:
                    self.epoll.modify(fd, select.EPOLLIN)
                    self.send(client)
                else:
                    self.read(client)
            self.look()
        for client in self.clients:
            self.drop(client)
        self.epoll.close()
        return self

    def is_over(self):
        """Past the storm only who has had no 2xx yet goes on, and who awaits an answer gets it."""
        elapsed = time.monotonic() - self.begun_s
        if elapsed < self.seconds:
            return False
        return elapsed > self.patience_s or not any(
            c.sock or c.served_s is None for c in self.clients)

    def connect(self, client):
        sock = socket.socket()
        sock.setblocking(False)
        client.sock, client.answer, client.asked_s = sock, b"", time.monotonic()
        client.first_s = client.first_s or client.asked_s
        self.connections += 1
        self.note_try(client)
        outcome = sock.connect_ex(self.address)
        if outcome not in (0, errno.EINPROGRESS):
            self.failed(client, outcome)
            return
        self.by_fd[sock.fileno()] = client
        try:
            sock.send(self.request)
            self.epoll.register(sock.fileno(), select.EPOLLIN)
        except BlockingIOError:
            self.epoll.register(sock.fileno(), select.EPOLLOUT)
        except OSError as error:
            self.failed(client, error.errno)

    def send(self, client):
        try:
            client.sock.send(self.request)
        except OSError as error:
            self.failed(client, error.errno)

    def note_try(self, client):
        client.ask += 1
        self.tries.append((client.asked_s, client, client.ask))

    def read(self, client):
        try:
            got = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(client, error.errno)
            return
        if not got:
            self.failed(client, None)
            return
        client.answer += got
        end = client.answer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = client.answer[:end + 2].lower()
        at = head.find(b"\r\ncontent-length:")
        content = int(head[at + 17:head.index(b"\r\n", at + 2)]) if at >= 0 else 0
        if len(client.answer) >= end + 4 + content:
            self.answered(client, int(head[9:12]), head)

    def answered(self, client, status, head):
        now = time.monotonic()
        is_storm = now - self.begun_s < self.seconds
        pause = 0.0
        if 200 <= status < 300:
            self.ok += is_storm
            self.late_ok += not is_storm
            client.served += 1
            client.served_s = client.served_s or now
            self.latencies.append(now - client.asked_s)
        elif status == 503 and b"\r\nretry-after:" in head:
            self.explained += 1
            at = head.index(b"\r\nretry-after:") + 14
            pause = min(RETRY_MAX_S, float(head[at:head.index(b"\r\n", at)]))
        else:
            self.strange[status] += 1
            pause = AFTER_ERROR_S
        client.answer = b""
        if b"\r\nconnection: close" in head or not is_storm and client.served:
            self.drop(client)
        if is_storm and not pause:
            if client.sock:
                client.asked_s = now
                self.note_try(client)
                self.send(client)
            else:
                self.connect(client)
        elif is_storm or not client.served:
            self.pause(client, pause)

    def pause(self, client, seconds):
        client.ask += 1  # nothing is under way that could time out
        self.pauses.append((time.monotonic() + seconds, client))

    def failed(self, client, err):
        """The connection has ended (@err None: in order) although an answer was due."""
        if err == errno.ECONNREFUSED:
            self.refused += 1
        elif err is None:
            self.reset["closed"] += 1
        else:
            self.reset[errno.errorcode.get(err, err)] += 1
        self.again(client)

    def again(self, client):
        self.drop(client)
        if time.monotonic() - self.begun_s < self.seconds or not client.served:
            self.pause(client, AFTER_ERROR_S)

    def drop(self, client):
        if client.sock:
            self.by_fd.pop(client.sock.fileno(), None)
            client.sock.close()  # which also takes it out of epoll
            client.sock = None

    def look(self):
        """Ends tries that have taken too long, and pauses."""
        now = time.monotonic()
        while self.tries and now - self.tries[0][0] > self.timeout_s:
            _, client, ask = self.tries.popleft()
            if client.ask == ask and client.sock:
                self.timeouts += 1
                self.again(client)
        if self.pauses and any(until <= now for until, _ in self.pauses):
            over = [client for until, client in self.pauses if until <= now]
            self.pauses = [pause for pause in self.pauses if pause[0] > now]
            for client in over:
                if client.sock:
                    client.asked_s = now
                    self.note_try(client)
                    self.send(client)
                else:
                    self.connect(client)
