"""The engine of incident 1: HTTP with event streams and WebSockets on one port, gRPC on another.

usage: backend.py HTTP_PORT GRPC_PORT
"""

import asyncio
import sys

import grpc
from aiohttp import web

WORK_S = 0.005
EVENT_S = 0.05


async def work(request):
    await asyncio.sleep(WORK_S)
    return web.Response(text="done")


async def events(request):
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    number = 0
    while True:
        await reply.write(b"data: %d\n\n" % number)
        number += 1
        await asyncio.sleep(EVENT_S)


async def socket(request):
    reply = web.WebSocketResponse()
    await reply.prepare(request)
    async for message in reply:
        await reply.send_str(message.data)
    return reply


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/load.Engine/Count":
            return grpc.unary_stream_rpc_method_handler(self.count)
        return grpc.unary_unary_rpc_method_handler(self.run)

    async def run(self, message, context):
        await asyncio.sleep(WORK_S)
        return message

    async def count(self, message, context):
        for number in range(int(message)):
            yield b"%d" % number
            await asyncio.sleep(WORK_S)


async def main(http_port, grpc_port):
    app = web.Application()
    app.router.add_get("/events", events)
    app.router.add_get("/socket", socket)
    app.router.add_get("/{tail:.*}", work)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port).start()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Service(),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
