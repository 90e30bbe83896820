"""The users of a workflow engine, all at once: HTTP requests, gRPC calls, event streams and WebSockets.
Each goes on until it is told to stop, comes again when it was cut, and accounts for whatever went wrong.
"""

import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter, namedtuple
from pathlib import Path

import asking
import common
import faults
import grpc
import proxies
import websockets

HTTP_PERIOD_S = 0.02
GRPC_PERIOD_S = 0.04
SOCKET_PERIOD_S = 0.1
AGAIN_S = 0.05      # a stream that was cut comes again
PATIENCE_S = 5.0    # of a client with one request
COUNTED = 3         # messages of a gRPC stream

# How something went wrong.
REFUSED = "refused"  # a connection that was not let in
RESET = "reset"      # a connection that was reset
CUT = "cut"          # it ended without a word
WRONG = "wrong"      # an answer that is not what was asked for
TOLD = "told"        # weir said why: a status of its own, a gRPC status, a Close frame

Failure = namedtuple("Failure", "kind how began ended text")


CONFIG = """\
[server]
threads = 2
{server}
[admin]
listen = "127.0.0.1:{admin}"
[admission]
shed_at = {{ loop_lag = "10s" }}  # the users run on the same cores, and what is late is no reason to refuse them
[log]
access = "off"
[[listener]]
name = "http"
listen = "127.0.0.1:{http}"
[[listener]]
name = "grpc"
listen = "127.0.0.1:{grpc}"
protocol = "http2"
[[pipeline]]
name = "engine-http"
endpoints = ["127.0.0.1:{backend_http}"]
timeouts = {{ idle = "1s" }}
limits = {{ concurrency = 32, connections = 64 }}
[[pipeline]]
name = "engine-grpc"
endpoints = ["127.0.0.1:{backend_grpc}"]
protocol = "http2"
timeouts = {{ idle = "1s" }}
[[route]]
listener = "http"
pipeline = "engine-http"
[[route]]
listener = "grpc"
pipeline = "engine-grpc"
{sections}
"""
NOTHING = faults.Ask(None, {}, 200, None)


class Backend:
    """backend.py, as a process. .downs: (killed, back) of each restart, in monotonic time."""

    def __init__(self):
        self.http, self.grpc, self.downs = common.free_port(), common.free_port(), []
        self.start()

    def start(self):
        self.process = common.Process([sys.executable, common.HERE / "backend.py", self.http, self.grpc],
                                      name="backend")
        self.process.wait_until(lambda: common.is_listening(self.http) and common.is_listening(self.grpc))

    def restart(self):
        killed = time.monotonic()
        self.process.popen.send_signal(signal.SIGKILL)
        self.process.popen.wait()
        self.process.stop()
        self.start()
        self.downs.append((killed, time.monotonic()))


def start_weir(backend, server="", nofile=None, sections=""):
    """weir in front of @backend: a proxies.Proxy, with a .grpc_port, too. @server: further lines of that
    section; @sections: further ones. @nofile: its limit on open files."""
    folder = tempfile.TemporaryDirectory(prefix="weir-load-")
    admin, http, grpc_port = (common.free_port() for _ in range(3))
    config = Path(folder.name) / "weir.toml"
    config.write_text(CONFIG.format(admin=admin, http=http, grpc=grpc_port, backend_http=backend.http,
                                    backend_grpc=backend.grpc, server=server, sections=sections))
    process = common.Process([common.weir_bin(), "run", config], name="weir", cwd=folder.name, nofile=nofile)
    process.wait_until(lambda: common.answers(admin, "/readyz"))
    proxy = proxies.Proxy("weir", http, process, folder, admin=admin)
    proxy.grpc_port = grpc_port
    return proxy


class Crowd:
    """.done: what went well by kind (streams: messages; "fault": told what it was to be); .failures. @stream_s:
    how long a client stays on an event stream or WebSocket before it leaves and comes again. @faults:
    faults.Faults of its requests."""

    def __init__(self, proxy, http=5, grpc=12, sse=12, ws=12, stream_s=float("inf"), faults=None):
        self.draw = faults.draw if faults else lambda: NOTHING
        self.http_port, self.grpc_port, self.stream_s = proxy.port, proxy.grpc_port, stream_s
        self.done, self.failures = Counter(), []
        self.is_over = False
        self.tasks = [asyncio.ensure_future(self._again(kind, client))
                      for kind, client, count in [("http", self._http, http), ("grpc", self._grpc, grpc),
                                                  ("sse", self._sse, sse), ("ws", self._ws, ws)]
                      for _ in range(count)]

    async def stop(self):
        """The streams are left, whatever else is under way is finished."""
        self.is_over = True
        done, _ = await asyncio.wait(self.tasks, timeout=2 * PATIENCE_S)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for task in done:
            task.result()  # a mistake of ours is no account

    def failed(self, *hows):
        return [f for f in self.failures if f.how in hows]

    async def _again(self, kind, client):
        while not self.is_over:
            began = time.monotonic()
            try:
                await client()
                continue
            except ConnectionRefusedError as error:
                how, text = REFUSED, error
            except (ConnectionResetError, BrokenPipeError) as error:
                how, text = RESET, error
            except websockets.InvalidStatusCode as error:
                how, text = TOLD, error
            except websockets.ConnectionClosed as error:
                how, text = TOLD if error.rcvd else CUT, error
            except Told as error:
                how, text = TOLD, error
            except (asyncio.IncompleteReadError, asyncio.TimeoutError, EOFError, OSError,
                    websockets.InvalidMessage) as error:
                how, text = CUT, error
            except ValueError as error:
                how, text = WRONG, error
            self._note(kind, how, began, text)
            await asyncio.sleep(AGAIN_S)

    def _note(self, kind, how, began, text):
        if not self.is_over:
            self.failures.append(Failure(kind, how, began, time.monotonic(), repr(text)[:300]))

    async def _http(self):
        """A connection, for as long as it may be used."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
        try:
            while not self.is_over and not reader.at_eof():
                began = time.monotonic()
                ask = self.draw()
                try:
                    writer.write(asking.REQUEST.format(path="/work").encode()[:-2] + lines(ask.fields))
                    status, may_go_on = await asyncio.wait_for(asking.read_answer(reader), PATIENCE_S)
                except Exception as error:
                    # What came before it on this connection has nothing to do with it.
                    how = RESET if isinstance(error, ConnectionError) else CUT
                    return self._note("http", how, began, error)
                if status == ask.status:
                    self.done["fault" if ask.kind else "http"] += 1
                else:
                    self._note("http", TOLD if status in (502, 503, 504) and not ask.kind else WRONG, began,
                               (ask.kind, status))
                if not may_go_on:
                    return
                await asyncio.sleep(HTTP_PERIOD_S)
        finally:
            writer.close()

    async def _grpc(self):
        # Retries are left as they are by default: a call that has met a GOAWAY before it was sent goes out on
        # the next connection; no other is repeated.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}", options) as channel:
            run, count = channel.unary_unary("/load.Engine/Run"), channel.unary_stream("/load.Engine/Count")
            number = 0
            while not self.is_over:
                number += 1
                began = time.monotonic()
                ask = self.draw()
                more = {"timeout": PATIENCE_S, "metadata": tuple(ask.fields.items())}
                try:
                    if number % 10:
                        got = await run(b"%d" % number, **more)
                        is_right = got == b"%d" % number
                    else:
                        got = [m async for m in count(b"%d" % COUNTED, **more)]
                        is_right = got == [b"%d" % i for i in range(COUNTED)]
                    self.done["grpc"] += 1
                    if not is_right or ask.kind:
                        self._note("grpc", WRONG, began, (ask.kind, got))
                except grpc.aio.AioRpcError as error:
                    if ask.kind and error.code().name == ask.code and "handler '" in (error.details() or ""):
                        self.done["fault"] += 1
                    else:
                        self._note("grpc", how_of(error), began,
                                   f"{ask.kind or ''} {error.code().name}: {error.details()}")
                await asyncio.sleep(GRPC_PERIOD_S)

    async def _sse(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
        try:
            writer.write(asking.REQUEST.format(path="/events").encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            if b" 200 " not in head[:13]:
                raise Told(head.split(b"\r\n")[0])
            number, until = 0, time.monotonic() + self.stream_s
            while not self.is_over and time.monotonic() < until:
                size = int(await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE_S), 16)
                for event in (await reader.readexactly(size + 2)).split(b"\n\n")[:-1]:
                    if event != b"data: %d" % number:
                        raise ValueError(f"{event} instead of {number}")
                    number += 1
                    self.done["sse"] += 1
                if size == 0:
                    raise EOFError("the stream has ended")
        finally:
            writer.close()

    async def _ws(self):
        async with websockets.connect(f"ws://127.0.0.1:{self.http_port}/socket", open_timeout=PATIENCE_S,
                                      close_timeout=1) as socket:
            number, until = 0, time.monotonic() + self.stream_s
            while not self.is_over and time.monotonic() < until:
                await socket.send(str(number))
                got = await asyncio.wait_for(socket.recv(), PATIENCE_S)
                if got != str(number):
                    raise ValueError(f"{got} instead of {number}")
                number += 1
                self.done["ws"] += 1
                await asyncio.sleep(SOCKET_PERIOD_S)


def lines(fields):
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode() + b"\r\n"


class Told(Exception):
    pass


def how_of(error):
    details = error.details() or ""
    if details.startswith("weir: "):
        return TOLD
    if "failed to connect" in details.lower() or "refused" in details.lower():
        return REFUSED
    return RESET if "reset" in details.lower() else CUT
