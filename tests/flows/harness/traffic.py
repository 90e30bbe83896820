"""Clients that keep asking while something is done to weir, and what became of each of them."""

import socket
import threading
import time

from .wire import Closed, connect, request


class Traffic:
    """Threads that ask again and again, each on a connection that it keeps while it may.

    .refused: connections that were not let in; .cut: requests that were sent and not answered whole;
    .wrong: answers that are not 200; .answered: when each answer came (time.monotonic())."""

    def __init__(self, port, clients=8, pause=0.005, target="/"):
        self.port, self.pause, self.target = port, pause, target
        self.refused, self.cut, self.wrong, self.answered = [], [], [], []
        self.is_over = False
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()

    def longest_gap(self):
        times = sorted(self.answered)
        return max((b - a for a, b in zip(times, times[1:])), default=0.0)

    def expect_no_failure(self):
        assert not self.refused and not self.cut and not self.wrong, (
            f"refused {self.refused[:3]}, cut {self.cut[:3]}, wrong {self.wrong[:3]}"
        )
        assert self.answered

    def _run(self):
        while not self.is_over:
            try:
                wire = connect(self.port, timeout=30)
            except OSError as error:
                self.refused.append(repr(error))
                continue
            with wire:
                try:
                    self._ask(wire)
                except (Closed, AssertionError, OSError) as error:
                    self.cut.append(repr(error))

    def _ask(self, wire):
        while not self.is_over:
            # A connection that was closed while it was idle is no failure: nothing was asked.
            if not wire.is_quiet(self.pause):
                assert not wire.fill(), "bytes that nobody has asked for"
                return
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.send(request(target=self.target))
            answer = wire.read_response()
            self.answered.append(time.monotonic())
            if answer.status != 200:
                self.wrong.append(answer.status)
            if "close" in [m.lower() for m in answer.fields.list("connection")]:
                return
