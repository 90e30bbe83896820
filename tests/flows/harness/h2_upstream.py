"""An HTTP/2 server (h2c, python3-h2) for weir to talk to.

H2Server: a thread per connection turns frames into calls of one function, serve(stream, event):
"head", "data", "end", "reset". It may answer from there, or the test does, from its own thread.
"""

import socket
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from .env import PATIENCE, scaled, wait_for


class Stream:
    """One request. Fields are (name, value) pairs of text; body is what has come so far."""

    def __init__(self, connection, number, fields):
        self.connection = connection
        self.server = connection.server
        self.id = number
        self.fields = fields
        self.body = b""
        self.trailers = []
        self.is_ended = False
        self.reset_code = None
        self.reset_time = None
        self.pending = []  # (bytes, end, trailers) that wait for credit

    def get(self, name):
        values = [v for n, v in self.fields if n == name]
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def path(self):
        return self.get(":path")

    def head(self, status=200, fields=(), end=False):
        with self.connection.lock:
            head = [(":status", str(status)), *fields]
            self.connection.h2.send_headers(self.id, head, end_stream=end)
            self.connection.flush()

    def data(self, data, end=False, trailers=None):
        """Goes out as the client gives credit."""
        with self.connection.lock:
            self.pending.append([memoryview(data), end and not trailers, trailers])
            self.connection.pump(self)

    def respond(self, status=200, fields=(), body=b"", trailers=None):
        if not body and not trailers:
            self.head(status, fields, end=True)
            return
        self.head(status, fields)
        self.data(body, end=True, trailers=trailers)

    def reset(self, code):
        with self.connection.lock:
            self.connection.h2.reset_stream(self.id, code)
            self.connection.flush()


class Connection:
    def __init__(self, server, sock):
        self.server = server
        self.sock = sock
        self.lock = threading.RLock()
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=False, header_encoding="utf-8", validate_inbound_headers=True
            )
        )
        self.streams = {}
        self.is_gone = False
        self.goaway = None  # what weir has said
        self.last_id = None  # what we have said: streams above it are not looked at
        self.pings = 0

    def run(self):
        with self.lock:
            self.h2.local_settings = h2.settings.Settings(
                client=False, initial_values={**dict(self.h2.local_settings), **self.server.settings}
            )
            self.h2.initiate_connection()
            if self.server.window:
                self.h2.increment_flow_control_window(self.server.window)
            self.flush()
        while True:
            data = self.sock.recv(65536)
            if not data:
                return
            with self.lock:
                try:
                    events = self.h2.receive_data(data)
                except h2.exceptions.ProtocolError as error:
                    self.flush()
                    raise AssertionError(f"weir breaks HTTP/2: {error!r}") from error
                self.flush()
            for event in events:
                self.take(event)
                with self.lock:
                    self.flush()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RequestReceived):
            if self.last_id is not None and event.stream_id > self.last_id:
                return
            stream = Stream(self, event.stream_id, event.headers)
            self.streams[stream.id] = stream
            self.server.record(stream)
            self.server.serve(stream, "head")
        elif getattr(event, "stream_id", None) and not stream:
            return
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if self.server.gives_credit and event.flow_controlled_length:
                with self.lock:
                    try:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    except (KeyError, h2.exceptions.ProtocolError):
                        pass  # we have reset it meanwhile
            self.server.serve(stream, "data")
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            stream.is_ended = True
            self.server.serve(stream, "end")
        elif isinstance(event, h2.events.StreamReset):
            stream.reset_time = time.monotonic()
            stream.reset_code = event.error_code
            self.server.serve(stream, "reset")
        elif isinstance(event, h2.events.WindowUpdated):
            with self.lock:
                for each in [stream] if stream else list(self.streams.values()):
                    self.pump(each)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1

    def pump(self, stream):
        while stream.pending and stream.reset_code is None:
            data, end, trailers = stream.pending[0]
            try:
                room = min(
                    self.h2.local_flow_control_window(stream.id), self.h2.max_outbound_frame_size
                )
            except h2.exceptions.ProtocolError:
                return
            if data and room <= 0:
                break
            part, rest = data[:room], data[room:]
            last = not rest
            try:
                if part or end:
                    self.h2.send_data(stream.id, bytes(part), end_stream=end and last)
                if last and trailers:
                    self.h2.send_headers(stream.id, trailers, end_stream=True)
            except h2.exceptions.ProtocolError:
                return  # it is closed
            if last:
                stream.pending.pop(0)
            else:
                stream.pending[0][0] = rest
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            try:
                self.sock.sendall(data)
            except OSError:
                pass

    def say_goaway(self, last_id=None, code=h2.errors.ErrorCodes.NO_ERROR):
        """Without closing the connection, as python3-h2's own would have it."""
        import hyperframe.frame

        frame = hyperframe.frame.GoAwayFrame(0)
        frame.last_stream_id = 2**31 - 1 if last_id is None else last_id
        frame.error_code = code
        with self.lock:
            self.last_id = last_id
            self.flush()
            self.sock.sendall(frame.serialize())

    def end(self):
        """The end, with a FIN."""
        self.is_gone = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def echo(stream, event):
    """Answers each request, when it is whole, with what it brought."""
    if event == "end":
        stream.respond(fields=[("x-path", stream.path)], body=stream.body)


class H2Server:
    def __init__(self, serve=echo, *, settings=None, window=0, gives_credit=True, path=None):
        self.serve = serve
        self.settings = {
            getattr(h2.settings.SettingCodes, name): value for name, value in (settings or {}).items()
        }
        self.window = window
        self.gives_credit = gives_credit
        self.lock = threading.Lock()
        self.streams = []
        self.connections = []  # that are there
        self.accepted = 0
        self.most_open = 0
        self.failures = []
        self.is_stopping = False
        self.sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
        if path:
            self.sock.bind(str(path))
            self.endpoint = f"unix:{path}"
        else:
            self.sock.bind(("127.0.0.1", 0))
            self.endpoint = "127.0.0.1:%d" % self.sock.getsockname()[1]
        self.sock.listen(128)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock)
            with self.lock:
                self.accepted += 1
                self.connections.append(connection)
                self.most_open = max(self.most_open, len(self.connections))
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            connection.run()
        except OSError:
            pass
        except BaseException as failure:  # noqa: BLE001 - told to the test
            if not self.is_stopping and not connection.is_gone:
                self.failures.append(failure)
        finally:
            with self.lock:
                self.connections.remove(connection)
            connection.is_gone = True
            connection.sock.close()

    def record(self, stream):
        with self.lock:
            self.streams.append(stream)

    def await_streams(self, n, timeout=PATIENCE):
        """The first @n requests that have come."""
        return wait_for(
            f"{n} streams at the upstream",
            lambda: self.streams[:n] if len(self.streams) >= n else None,
            timeout,
        )

    def check(self):
        if self.failures:
            raise self.failures[0]

    def close(self):
        self.is_stopping = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            connection.end()
        self.thread.join(scaled(PATIENCE))
