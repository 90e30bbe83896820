"""Which route a request takes."""

import json

import pytest
from harness.env import free_port
from harness.replies import expect_problem
from harness.wire import request, response

ROUTES = [
    {"name": "root", "listener": "http", "match": {"path": "/"}},
    {"name": "api", "listener": "http", "match": {"path": "/api"}},
    {"name": "api-v2", "listener": "http", "match": {"path": "/api/v2"}},
    {"name": "api-exact", "listener": "http", "match": {"exact": "/api/v2/status"}},
    {"name": "slash", "listener": "http", "match": {"path": "/slash/"}},
    {"name": "posts", "listener": "http", "match": {"path": "/posts", "method": ["POST", "PUT"]}},
    {"name": "key", "listener": "http", "match": {"path": "/", "header": {"x-key": "secret"}}},
    {"name": "debug", "listener": "http", "match": {"path": "/api", "header": {"x-debug": True}}},
    {"name": "host", "listener": "http", "match": {"host": "a.test"}},
    {"name": "host-path", "listener": "http", "match": {"host": "a.test", "path": "/deep"}},
    {"name": "wild", "listener": "http", "match": {"host": "*.wild.test"}},
    {"name": "wilder", "listener": "http", "match": {"host": "*.more.wild.test"}},
    {"name": "wild-one", "listener": "http", "match": {"host": "one.wild.test"}},
    {"name": "get-only", "listener": "http", "match": {"host": "strict.test", "path": "/g", "method": ["GET"]}},
    {"name": "put-only", "listener": "http", "match": {"host": "strict.test", "path": "/g", "method": ["PUT"]}},
    {"name": "other", "listener": "other", "match": {"path": "/other"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def table(module_weir):
    """Each route has a pipeline of its own whose Host says its name; the upstream answers with it."""
    from harness.upstream import Server, answering

    server = Server(
        answering(lambda r: response(body=json.dumps([r.fields.get("host"), r.target]), reason="OK"))
    )
    routes = [{**r, "pipeline": r["name"]} for r in ROUTES]
    config = {
        "server": {"threads": 1, "drain": {"shutdown": "1s"}},
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "listener": [
            {"name": "http", "listen": f"127.0.0.1:{free_port()}"},
            {"name": "other", "listen": f"127.0.0.1:{free_port()}"},
        ],
        "pipeline": [{"name": r["name"], "endpoints": [server.endpoint], "host": r["name"]} for r in ROUTES],
        "route": routes,
    }
    yield module_weir(config=config)
    server.close()
    server.check()


def taken(table, target, method="GET", host="any.test", fields=(), listener=None):
    with table.client(listener) as client:
        client.send(request(method, target, fields, host=host))
        answer = client.read_response(method)
    if answer.status != 200:
        return answer.status
    route, seen = json.loads(answer.body)
    return route


@pytest.mark.parametrize(
    "target,route",
    [
        ("/", "root"),
        ("/elsewhere", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/x/y", "api"),
        ("/api?q=/api/v2", "api"),
        ("/apix", "root"),
        ("/api.json", "root"),
        ("/API", "root"),
        ("/api/v2", "api-v2"),
        ("/api/v2/", "api-v2"),
        ("/api/v22", "api"),
        ("/api/v2/status", "api-exact"),
        ("/api/v2/status?x=1", "api-exact"),
        ("/api/v2/status/", "api-v2"),
        ("/api/v2/statuses", "api-v2"),
        ("/slash/x", "slash"),
    ],
)
def test_a_path_is_matched_on_segment_borders_most_specific_first(table, target, route):
    assert taken(table, target) == route


@pytest.mark.parametrize(
    "target,route",
    [
        ("/%61pi", "api"),
        ("/ap%69/v2", "api-v2"),
        ("/./api", "api"),
        ("/x/../api", "api"),
        ("/x/%2e%2e/api", "api"),
        ("/api/../elsewhere", "root"),
        ("/api/v2/../x", "api"),
        ("/api/v2/%2E%2E/x", "api"),
        ("/api/.", "api"),
        ("/api/v2/..", "api"),
    ],
)
def test_a_path_is_normalised_before_it_is_matched(table, target, route):
    assert taken(table, target) == route


@pytest.mark.parametrize(
    "target",
    ["/a%2fb", "/a%2Fb", "/a%5cb", "/a%00b", "/a%", "/a%1", "/a%zz", "/..", "/../x", "/a/../../b", "/%2e%2e/x"],
)
def test_a_path_that_could_mean_two_things_is_refused(table, target):
    with table.client() as client:
        client.send(request(target=target))
        expect_problem(client.read_response(), 400, errors={"http_request_error"})


def test_the_upstream_sees_the_target_as_it_was(table):
    """Normalised for matching only."""
    with table.client() as client:
        client.send(request(target="/api/%7Euser/./a?b=%2F"))
        assert json.loads(client.read_response().body) == ["api", "/api/%7Euser/./a?b=%2F"]


@pytest.mark.parametrize(
    "host,target,route",
    [
        ("a.test", "/", "host"),
        ("A.TEST", "/", "host"),
        ("a.test:8080", "/", "host"),
        ("a.test", "/api", "host"),
        ("a.test", "/deep/er", "host-path"),
        ("b.a.test", "/", "root"),
        ("x.wild.test", "/", "wild"),
        ("x.y.wild.test", "/", "wild"),
        ("wild.test", "/", "root"),
        ("evilwild.test", "/", "root"),
        ("x.more.wild.test", "/", "wilder"),
        ("one.wild.test", "/", "wild-one"),
    ],
)
def test_a_host_is_matched_before_a_path(table, host, target, route):
    assert taken(table, target, host=host) == route


def test_the_host_of_an_absolute_target_counts(table):
    assert taken(table, "http://a.test/", host="any.test") == "host"


def test_methods_choose_a_route(table):
    assert taken(table, "/posts", "POST") == "posts"
    assert taken(table, "/posts/1", "PUT") == "posts"
    assert taken(table, "/posts", "GET") == "root", "a less specific route takes what is left"


def test_a_method_that_no_route_takes_is_405_with_allow(weir, serve):
    w = weir(serve(), route={"match": {"path": "/g", "method": ["GET", "PUT"]}})
    with w.client() as client:
        client.send(request("DELETE", "/g/x"))
        answer = client.read_response()
    expect_problem(answer, 405)
    assert sorted(m.strip() for m in answer.fields.get("allow").split(",")) == ["GET", "PUT"]


def test_a_method_that_a_route_does_not_take_may_fit_a_less_specific_one(table):
    assert taken(table, "/g/x", "DELETE", host="strict.test") == "root"


def test_methods_of_one_path_may_go_different_ways(table):
    assert taken(table, "/g", "GET", host="strict.test") == "get-only"
    assert taken(table, "/g", "PUT", host="strict.test") == "put-only"


def test_a_header_chooses_a_route(table):
    assert taken(table, "/", fields=["X-Key: secret"]) == "key"
    assert taken(table, "/", fields=["X-Key: wrong"]) == "root"
    assert taken(table, "/", fields=["X-Key: Secret"]) == "root"
    assert taken(table, "/api/x", fields=["X-Debug: anything"]) == "debug"
    assert taken(table, "/api/x", fields=["X-Debug:"]) == "debug"


def test_a_longer_path_beats_a_header(table):
    assert taken(table, "/api/v2", fields=["X-Key: secret", "X-Debug: 1"]) == "api-v2"


def test_listeners_have_their_own_routes(table):
    assert taken(table, "/other", listener="other") == "other"
    assert taken(table, "/other") == "root"


def test_what_no_route_takes_is_404(table):
    with table.client("other") as client:
        client.send(request(target="/api"))
        answer = client.read_response()
        expect_problem(answer, 404, errors={"destination_not_found"})
        client.send(request(target="/other"))
        assert client.read_response().status == 200, "the connection lives on"


def test_404_with_content_keeps_the_connection_usable_or_closes_it(table):
    with table.client("other") as client:
        client.send(request("POST", "/nowhere", body=b"x" * 1000))
        answer = client.read_response()
        expect_problem(answer, 404)
        if "close" in answer.fields.list("connection"):
            client.expect_end()
        else:
            client.send(request(target="/other"))
            assert client.read_response().status == 200


def test_a_route_without_a_listener_is_for_all(weir, up):
    ports = [free_port(), free_port()]
    w = weir(
        config={
            "server": {"threads": 1},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
            "listener": [{"name": f"l{p}", "listen": f"127.0.0.1:{p}"} for p in ports],
            "pipeline": [{"name": "up", "endpoints": [up.endpoint]}],
            "route": [{"match": {"path": "/"}, "pipeline": "up"}],
        }
    )
    for port in ports:
        with w.client(f"l{port}") as client:
            client.send(request(target="/both"))
            with up.accept() as server:
                assert server.read_request().target == "/both"
                server.send(response(fields=["Connection: close"]))
                assert client.read_response().status == 200


def test_routes_are_counted_by_name(table):
    from harness.env import wait_for

    before = table.metrics().sum("weir_requests_total", route="api-exact")
    assert taken(table, "/api/v2/status") == "api-exact"
    wait_for(
        "the route's counter moves",
        lambda: table.metrics().sum("weir_requests_total", route="api-exact") == before + 1,
    )
