"""A gRPC server that echoes whatever it is sent, and remembers what came with it."""

from concurrent import futures

import grpc


class Service(grpc.GenericRpcHandler):
    def __init__(self):
        self.seen = None
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details):
        self.seen = dict(details.invocation_metadata)
        if details.method.endswith("Talk"):
            return grpc.stream_stream_rpc_method_handler(lambda messages, context: messages)
        return grpc.unary_unary_rpc_method_handler(lambda message, context: message)

    def close(self):
        self._server.stop(None).wait()
