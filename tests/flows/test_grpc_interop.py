"""The gRPC interop cases, with python3-grpcio and @grpc/grpc-js as clients and as servers: each case
directly and through weir, with the same outcome."""

import pytest

from harness.env import AT_ONCE, scaled, wait_for
from harness.grpc_interop import CASES, NodeClient, NodeServer, PythonClient, PythonServer

pytestmark = pytest.mark.timeout(300)

LIBRARIES = {"grpcio": (PythonClient, PythonServer), "grpc-js": (NodeClient, NodeServer)}


@pytest.fixture(scope="module", params=LIBRARIES)
def client(request):
    client = LIBRARIES[request.param][0]()
    yield client
    client.close()


@pytest.fixture(scope="module", params=LIBRARIES)
def server(request):
    server = LIBRARIES[request.param][1]()
    yield server
    server.close()


@pytest.fixture(scope="module")
def between(module_weir, server):
    return module_weir(
        server.endpoint, listener={"protocol": "http2"}, pipeline={"protocol": "http2"}
    )


def run(client, server, target, case):
    outcome = client.run(target, case)
    if outcome["code"] != 12:
        took = server.heard.get(timeout=scaled(10)) - outcome.pop("cancelled_at", float("inf"))
        assert took < scaled(AT_ONCE), f"the server heard of it {took:.3f} s later"
    if outcome["code"] in (1, 4):
        outcome.pop("details")  # of the client's own making, with times in it
    return outcome


@pytest.mark.parametrize("name", CASES)
def test_interop(client, server, between, name):
    case = CASES[name]
    direct = run(client, server, server.endpoint, case)
    assert direct.items() >= case["expect"].items()
    assert run(client, server, f"127.0.0.1:{between.port}", case) == direct


def test_nothing_is_left(client, server, between):
    between.await_metric("weir_endpoint_streams", 0)
    between.await_metric("weir_exchanges_active", 0)
    wait_for("connections of clients end", lambda: between.metrics().sum("weir_connections") == 0)
