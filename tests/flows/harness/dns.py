"""A name server on loopback that says what the test tells it to."""

import ipaddress
import socket
import struct
import threading

A, AAAA = 1, 28


class NameServer:
    """records: name -> list of addresses; a name that is not there is NXDOMAIN. Both may be changed
    at any time. is_silent: queries are counted and left unanswered."""

    def __init__(self, records=None, ttl=1):
        self.records = dict(records or {})
        self.ttl = ttl
        self.is_silent = False
        self.queries = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            if data == b"stop":
                return
            reply = self._answer(data)
            if reply and not self.is_silent:
                self.sock.sendto(reply, peer)

    def _answer(self, data):
        if len(data) < 12:
            return None
        ident, flags, questions = struct.unpack("!HHH", data[:6])
        if flags & 0x8000 or questions != 1:
            return None
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii").lower())
            at += 1 + data[at]
        kind, _ = struct.unpack("!HH", data[at + 1 : at + 5])
        question = data[12 : at + 5]
        name = ".".join(labels)
        self.queries.append((name, kind))
        addresses = self.records.get(name)
        answers = b""
        count = 0
        for address in addresses or []:
            address = ipaddress.ip_address(address)
            if {4: A, 6: AAAA}[address.version] == kind:
                answers += struct.pack("!HHHIH", 0xC00C, kind, 1, self.ttl, len(address.packed))
                answers += address.packed
                count += 1
        rcode = 0 if addresses is not None else 3
        head = struct.pack("!HHHHHH", ident, 0x8580 | rcode, 1, count, 0, 0)
        return head + question + answers

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"stop", ("127.0.0.1", self.port))
        self.thread.join(5)
        self.sock.close()
