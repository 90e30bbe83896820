"""HTTP/2 on plain sockets with python3-h2: a client that reads when it is asked to, and a server that
does what a script says."""

import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .env import PATIENCE, scaled


class H2Client:
    """One connection; streams are answered in whatever order."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), scaled(PATIENCE))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.answers = {}

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def post(self, path, fields, body=b"", end=True):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "weir.test"), (":path", path), *fields]
        self.h2.send_headers(stream, head)
        self.answers[stream] = H2Answer()
        self.send(stream, body, end)
        return stream

    def send(self, stream, body, end=False):
        body = memoryview(body)
        while body:
            while self.h2.local_flow_control_window(stream) == 0:
                self.read()
            n = min(len(body), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, bytes(body[:n]))
            body = body[n:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
        self.flush()

    def reset(self, stream):
        self.h2.reset_stream(stream, 8)
        self.flush()

    def read(self):
        data = self.sock.recv(65536)
        assert data, "the connection has ended"
        for event in self.h2.receive_data(data):
            answer = self.answers.get(getattr(event, "stream_id", None))
            if answer is None:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                answer.fields = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                answer.trailers = dict(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                answer.is_whole = True
            elif isinstance(event, h2.events.StreamReset):
                answer.reset = event.error_code
        self.flush()

    def read_until(self, stream, condition):
        while not condition(self.answers[stream]):
            self.read()
        return self.answers[stream]

    def read_answer(self, stream):
        return self.read_until(stream, lambda answer: answer.is_whole or answer.reset is not None)

    def close(self):
        self.sock.close()


class H2Answer:
    def __init__(self):
        self.fields, self.body, self.trailers = None, bytearray(), None
        self.is_whole, self.reset = False, None


class H2Server:
    """Calls script(connection, stream, fields, content) for each request that is whole; the script
    says with the methods of h2's connection what is to be answered. What came is in @requests."""

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.resets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8",
                                           validate_outbound_headers=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        heads, contents = {}, {}
        try:
            sock.sendall(connection.data_to_send())
            while data := sock.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        heads[event.stream_id], contents[event.stream_id] = dict(event.headers), b""
                    elif isinstance(event, h2.events.DataReceived):
                        contents[event.stream_id] += event.data
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamReset):
                        self.resets.append(event.error_code)
                    elif isinstance(event, h2.events.StreamEnded):
                        request = heads[event.stream_id], contents[event.stream_id]
                        self.requests.append(request)
                        self.script(connection, event.stream_id, *request)
                sock.sendall(connection.data_to_send())
        except (OSError, h2.exceptions.ProtocolError):
            pass
        sock.close()

    def close(self):
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
