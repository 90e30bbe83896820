"""aiohttp and websockets servers, on an event loop in a thread of their own."""

import asyncio
import hashlib
import json
import threading

from aiohttp import web

from .env import PATIENCE, scaled


class Loop:
    """An event loop in a thread; run() is how a test calls into it."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine, timeout=PATIENCE):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(scaled(timeout))

    def close(self):
        async def finish():
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(scaled(PATIENCE))
        self.loop.close()


class AioServer:
    """An aiohttp application on a free port of loopback."""

    def __init__(self, loop, app, address="127.0.0.1"):
        self.loop = loop
        self.runner = web.AppRunner(app, access_log=None)

        async def start():
            await self.runner.setup()
            site = web.TCPSite(self.runner, address, 0, shutdown_timeout=0.2)
            await site.start()
            return site._server.sockets[0].getsockname()[1]

        self.port = loop.run(start())
        self.endpoint = f"{address}:{self.port}"

    def close(self):
        self.loop.run(self.runner.cleanup(), 10)


class WsServer:
    """A websockets server on a free port of loopback."""

    def __init__(self, loop, handler, **options):
        import websockets

        self.loop = loop

        async def start():
            server = await websockets.serve(handler, "127.0.0.1", 0, **options)
            return server, server.sockets[0].getsockname()[1]

        self.server, self.port = loop.run(start())
        self.endpoint = f"127.0.0.1:{self.port}"

    def close(self):
        async def stop():
            self.server.close()
            await self.server.wait_closed()

        self.loop.run(stop(), 15)


async def echo(request):
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.path_qs,
            "headers": [[k, v] for k, v in request.headers.items()],
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    )


async def download(request):
    """?n=BYTES in blocks, with a length or (?chunked) without."""
    n = int(request.query["n"])
    reply = web.StreamResponse()
    if "chunked" in request.query:
        reply.enable_chunked_encoding()
    else:
        reply.content_length = n
    await reply.prepare(request)
    block = bytes(range(256)) * 256
    while n > 0:
        await reply.write(block[:n])
        n -= len(block)
    await reply.write_eof()
    return reply


async def upload(request):
    digest, n = hashlib.sha256(), 0
    async for data in request.content.iter_any():
        digest.update(data)
        n += len(data)
    return web.json_response({"length": n, "sha256": digest.hexdigest()})


async def slow(request):
    await asyncio.sleep(float(request.query.get("s", "0.05")))
    return web.Response(text="slow")


async def sse(request):
    """?n=EVENTS, one each ?every seconds."""
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await reply.prepare(request)
    for i in range(int(request.query.get("n", "3"))):
        await reply.write(f"id: {i}\ndata: {json.dumps({'i': i})}\n\n".encode())
        await asyncio.sleep(float(request.query.get("every", "0.01")))
    await reply.write_eof()
    return reply


async def ws(request):
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type in (1, 2):
            send = socket.send_str if message.type == 1 else socket.send_bytes
            await send(message.data)
    return socket


async def status(request):
    return web.Response(status=int(request.match_info["code"]), text="as asked")


def application():
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/download", download)
    app.router.add_route("*", "/upload", upload)
    app.router.add_get("/slow", slow)
    app.router.add_get("/sse", sse)
    app.router.add_get("/ws", ws)
    app.router.add_route("*", "/status/{code}", status)
    app.router.add_route("*", "/{tail:.*}", echo)
    return app
