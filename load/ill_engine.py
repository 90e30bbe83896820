"""An engine that can be made ill: a small HTTP/1.1 server that answers after 5 ms.

usage: ill_engine.py PORT

GET /ill/MODE/SHARE has it do that to SHARE of its further requests, in a fixed pattern: "fail" (500), "stall"
(no answer at all), "reset"; "well" ends it. GET /healthz is always answered 200, as by engines whose health says
little of their work.
"""

import asyncio
import re
import socket
import struct
import sys

WORK_S = 0.005
ANSWER = b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok"


class Engine:
    mode, share, count = "well", 0.0, 0.0

    def is_due(self):
        """Whether this request is one of the share: every second one of 0.5."""
        self.count += self.share
        is_due = self.count >= 1
        self.count -= is_due
        return is_due and self.mode != "well"


class Connection(asyncio.Protocol):
    def __init__(self, engine):
        self.engine, self.data = engine, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].decode("latin-1").lower()
            length = re.search(r"\ncontent-length: *(\d+)", head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.data) < whole:
                return
            self.data = self.data[whole:]
            self.serve(head.split(" ", 2)[1])

    def serve(self, path):
        engine, loop = self.engine, asyncio.get_running_loop()
        if path.startswith("/ill/"):
            engine.mode, share = path.split("/")[2:]
            engine.share, engine.count = float(share), 0.0
            self.answer(b"200 OK")
        elif path == "/healthz":
            self.answer(b"200 OK")
        elif not engine.is_due():
            loop.call_later(WORK_S, self.answer, b"200 OK")
        elif engine.mode == "fail":
            loop.call_later(WORK_S, self.answer, b"500 Oops")
        elif engine.mode == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def answer(self, status):
        if not self.transport.is_closing():
            self.transport.write(ANSWER % status)


async def main(port):
    engine = Engine()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(engine), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
