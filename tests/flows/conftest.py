"""Fixtures of the flow tests: weir in front of servers that the test holds in its hand.

WEIR_BIN says which binary, WEIR_VARIANT (release, asan, tsan) how patient to be with it. Every weir
is stopped at the end of its test and must then have ended with status 0 and without a word from a
sanitizer.
"""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.aio import AioServer, Loop, WsServer, application
from harness.dns import NameServer
from harness.env import BINARY, VARIANT, scaled
from harness.h2_upstream import H2Server
from harness.upstream import Listener, Server, answering
from harness.weir import Weir, base_config, merged


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run the long forms too")


def pytest_configure(config):
    if not BINARY.exists():
        raise pytest.UsageError(f"there is no weir at {BINARY}; build it, or set WEIR_BIN")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--soak"):
        soak = [i for i in items if i.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [i for i in items if not i.get_closest_marker("soak")]
    for item in items:
        if VARIANT != "release" and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(scaled(120)))


_running = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what each weir of the test was told and what it said."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for weir in _running:
            report.sections.append((f"{weir.file}", getattr(weir, "text", "")))
            report.sections.append((f"what weir ({weir.pid}) said", weir.log()[-8000:]))


class Factory:
    """Makes weirs. weir(endpoints) is one listener, pipeline and route; the keyword tables are laid
    over what base_config() gives; config= is a whole configuration instead."""

    def __init__(self, directory):
        self.directory = directory
        self.made = []
        self.numbers = itertools.count()

    def __call__(
        self,
        *upstreams,
        server=None,
        admission=None,
        log=None,
        listener=None,
        pipeline=None,
        route=None,
        routes=None,
        config=None,
        threads=2,
        **options,
    ):
        directory = self.directory / f"weir{next(self.numbers)}"
        directory.mkdir()
        if config is None:
            endpoints = [u if isinstance(u, str) else u.endpoint for u in upstreams]
            config = base_config(directory, endpoints, threads=threads)
            config["server"] = merged(config["server"], server)
            config["log"] = merged(config["log"], log)
            if admission:
                config["admission"] = merged(config["admission"], admission)
            config["listener"][0] = merged(config["listener"][0], listener)
            config["pipeline"][0] = merged(config["pipeline"][0], pipeline)
            config["route"][0] = merged(config["route"][0], route)
            if routes is not None:
                config["route"] = routes
        elif callable(config):
            config = config(directory)
        weir = Weir(config, directory, **options)
        self.made.append(weir)
        _running.append(weir)
        return weir

    def close(self):
        failures = []
        for weir in self.made:
            try:
                weir.stop()
            except BaseException as failure:  # noqa: BLE001 - every one of them is stopped
                failures.append(failure)
        self.made.clear()
        if failures:
            raise failures[0]


@pytest.fixture(autouse=True)
def forget_weirs():
    """Behind every other fixture of the test, so that a failing teardown still shows its logs."""
    before = len(_running)
    yield
    del _running[before:]


@pytest.fixture
def weir(tmp_path, forget_weirs):
    factory = Factory(tmp_path)
    yield factory
    factory.close()


@pytest.fixture(scope="module")
def module_weir(tmp_path_factory):
    """The same for a weir that the tests of one file share."""
    before = len(_running)
    factory = Factory(tmp_path_factory.mktemp("shared"))
    yield factory
    try:
        factory.close()
    finally:
        del _running[before:]


@pytest.fixture
def listen():
    """listen(): a server that the test plays itself, step by step."""
    made = []

    def make(*args, **options):
        made.append(Listener(*args, **options))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def up(listen):
    return listen()


@pytest.fixture
def serve():
    """serve(function): a server with a thread per connection; see harness.upstream."""
    made = []

    def make(function=None, **options):
        made.append(Server(function or answering(), **options))
        return made[-1]

    yield make
    for server in made:
        server.close()
    for server in made:
        server.check()


@pytest.fixture
def h2_serve():
    """h2_serve(function): a server of HTTP/2; see harness.h2_upstream."""
    made = []

    def make(*args, **options):
        made.append(H2Server(*args, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()
    for server in made:
        server.check()


@pytest.fixture(scope="session")
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def engine(loop):
    """A well-behaved server: echo, downloads, uploads, slow answers, events, WebSocket."""
    server = AioServer(loop, application())
    yield server
    server.close()


@pytest.fixture
def ws_serve(loop):
    made = []

    def make(handler, **options):
        made.append(WsServer(loop, handler, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def names():
    server = NameServer()
    yield server
    server.close()
