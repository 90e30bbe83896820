"""The handlers that come with weir, in front of a real upstream, over HTTP and gRPC; and the example."""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import grpc
import pytest
from harness.env import BINARY, ROOT, free_port, scaled, wait_for
from harness.grpc_echo import Service
from harness.handlers import problem, start
from harness.http2 import Http2Client
from harness.upstream import answering
from harness.weir import run_cli
from harness.wire import request, response

HTTP2 = {"protocol": "http2"}
SECRET = "a secret that is long enough for HMAC"
JSON = "Content-Type: application/json"


def plugin(kind, name=None, config=None, **more):
    """By the bare name, as users write it."""
    return {"name": name or kind, "plugin": kind, "config": config or {}, "timeout": f"{scaled(2):.0f}s", **more}


def events(w, name, event):
    return w.metrics().sum("weir_handler_events_total", handler=name, event=event)


def hashed(**keys):
    return "".join(f"{hashlib.sha256(key.encode()).hexdigest()} {name}\n" for name, key in keys.items())


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(secret=SECRET, **claims):
    parts = [{"alg": "HS256"}, {"exp": int(time.time()) + 600} | claims]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{base64url(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def get(w, *fields, target="/", method="GET", body=b""):
    return w.exchange(request(method, target, fields=list(fields), body=body), method)


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(hashed(alice="alice-key"))
    return file


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


def grpc_call(w, *metadata, message=b"hi"):
    with grpc.insecure_channel(f"127.0.0.1:{w.port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        return channel.unary_unary("/weir.test.Echo/Echo").with_call(message, timeout=scaled(10), metadata=metadata)


def grpc_failure(w, *metadata, **more):
    with pytest.raises(grpc.RpcError) as caught:
        grpc_call(w, *metadata, **more)
    return caught.value


def grpc_start(weir, service, *handlers, **more):
    return start(weir, service, *handlers, listener=HTTP2, pipeline=HTTP2, **more)


@pytest.fixture(params=["thread", "process"])
def isolation(request):
    return request.param


# api_key.


def test_api_key(weir, serve, keys):
    upstream = serve()
    w = start(weir, upstream, plugin("api_key", config={"file": str(keys), "query": "key"}))
    reply = get(w)
    assert reply.status == 401 and reply.fields.get("www-authenticate") == "ApiKey"
    assert problem(reply)["title"] == "no API key"
    assert get(w, "X-API-Key: bob-key").status == 401
    assert upstream.accepted == 0
    assert get(w, "X-API-Key: alice-key", "X-API-Key-Name: root").status == 200
    seen = upstream.requests[0].fields
    assert "x-api-key" not in seen and seen.all("x-api-key-name") == ["alice"]
    assert get(w, target="/a?key=alice-key&b=1").status == 200
    assert upstream.requests[1].target == "/a?b=1"
    assert {"api_key": "alice"} in w.variables_of(4)
    assert (events(w, "api_key", "accepted"), events(w, "api_key", "unknown")) == (2, 1)


def test_api_keys_change_without_a_restart(weir, serve, keys, isolation):
    w = start(weir, serve(), plugin("api_key", config={"file": str(keys)}, isolation=isolation),
              server={"handler_threads": 3})
    gateway = w.gateway
    assert get(w, "X-API-Key: bob-key").status == 401
    keys.write_text(hashed(bob="bob-key"))
    wait_for("bob is let in", lambda: get(w, "X-API-Key: bob-key").status == 200)
    assert get(w, "X-API-Key: alice-key").status == 401
    keys.write_text("this is no list of keys\n")
    wait_for("the mistake is told", lambda: get(w, "X-API-Key: bob-key").status == 200
             and "is not used: line 1: expected 64 hexadecimal digits" in w.log())
    keys.unlink()
    wait_for("the loss is told", lambda: "its last content stays" in w.log())
    assert get(w, "X-API-Key: bob-key").status == 200
    assert w.gateway == gateway


def test_a_gateway_that_dies_while_keys_are_broken_is_replaced(weir, serve, keys):
    """Requests of other routes are served; the handler is back as soon as its file is mended."""
    w = start(weir, serve(), plugin("api_key", config={"file": str(keys)}, fault={"quarantine_share": 0}),
              routes=[{"name": "open", "match": {"path": "/open"}, "pipeline": "up"}])
    gateway = w.gateway
    keys.write_text("broken\n")
    os.kill(gateway, signal.SIGKILL)
    wait_for("another gateway serves", lambda: any(pid != gateway for pid in w.gateways()))
    assert get(w, target="/open").status == 200
    for _ in range(20):
        assert get(w, "X-API-Key: alice-key").status == 500
    assert "'api_key' fails until that is mended: its plugin refuses its config: file: " in w.log()
    keys.write_text(hashed(bob="bob-key"))
    wait_for("the handler is back", lambda: get(w, "X-API-Key: bob-key").status == 200)
    w.file.write_text(w.text)
    keys.write_text("broken\n")
    w.signal(signal.SIGHUP)  # but a reload wants all to be right
    w.await_metric("weir_config_reloads_total", 1, result="refused")
    assert get(w, "X-API-Key: bob-key").status == 200


def test_api_key_over_grpc(weir, service, keys):
    w = grpc_start(weir, service, plugin("api_key", config={"file": str(keys)}))
    assert grpc_failure(w).code() == grpc.StatusCode.UNAUTHENTICATED
    reply, _ = grpc_call(w, ("x-api-key", "alice-key"))
    assert reply == b"hi" and service.seen["x-api-key-name"] == "alice" and "x-api-key" not in service.seen


# jwt.


def test_jwt(weir, serve, secret):
    upstream = serve()
    w = start(weir, upstream, plugin("jwt", config={
        "secret": str(secret), "issuers": ["me"], "fields": {"x-user": "sub"}, "variables": {"user": "sub"}}))
    reply = get(w)
    assert reply.status == 401 and reply.fields.get("www-authenticate") == "Bearer"
    reply = get(w, f"Authorization: Bearer {token(iss='me', exp=int(time.time()) - 60)}")
    assert reply.status == 401 and problem(reply)["title"] == "it has expired"
    assert reply.fields.get("www-authenticate") == \
        'Bearer error="invalid_token", error_description="it has expired"'
    assert get(w, f"Authorization: Bearer {token(iss='other')}").status == 401
    assert get(w, f"Authorization: Bearer {token('another secret that is long enough', iss='me')}").status == 401
    assert upstream.accepted == 0
    assert get(w, f"Authorization: Bearer {token(iss='me', sub='alice')}", "X-User: root").status == 200
    assert upstream.requests[0].fields.all("x-user") == ["alice"]
    assert {"user": "alice"} in w.variables_of(5)


def make_key(directory, *options):
    """A private key by OpenSSL."""
    file = directory / f"{options[1].replace(':', '-')}.pem"
    subprocess.run(["openssl", "genpkey", *options, "-out", file], check=True, capture_output=True)
    return file


def signed(file, header, claims):
    """RS256, or ES256 (r and s side by side)."""
    text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    made = subprocess.run(["openssl", "dgst", "-sha256", "-sign", file], input=text.encode(), check=True,
                          capture_output=True).stdout
    if header["alg"] == "ES256":
        r, rest = made[4:4 + made[3]], made[4 + made[3]:]
        made = b"".join(number[-32:].rjust(32, b"\0") for number in (r, rest[2:]))
    return f"{text}.{base64url(made)}"


def jwk(file, kind, kid):
    der = subprocess.run(["openssl", "pkey", "-in", file, "-pubout", "-outform", "DER"], check=True,
                         capture_output=True).stdout
    if kind == "EC":
        return {"kty": "EC", "crv": "P-256", "kid": kid, "x": base64url(der[-64:-32]), "y": base64url(der[-32:])}
    text = subprocess.run(["openssl", "rsa", "-in", file, "-noout", "-modulus"], check=True,
                          capture_output=True, text=True).stdout
    return {"kty": "RSA", "kid": kid, "n": base64url(bytes.fromhex(text.strip().partition("=")[2])), "e": "AQAB"}


def test_jwt_by_a_set_of_keys_that_changes(weir, serve, tmp_path, isolation):
    """Another implementation signs: the openssl program."""
    rsa = make_key(tmp_path, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    ec = make_key(tmp_path, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(rsa, "RSA", "r")]}))
    w = start(weir, serve(), plugin("jwt", config={"jwks": str(file)}, isolation=isolation))
    claims = {"exp": int(time.time()) + 600}
    by_rsa = f"Authorization: Bearer {signed(rsa, {'alg': 'RS256', 'kid': 'r'}, claims)}"
    by_ec = f"Authorization: Bearer {signed(ec, {'alg': 'ES256', 'kid': 'e'}, claims)}"
    assert get(w, by_rsa).status == 200 and get(w, by_ec).status == 401
    file.write_text(json.dumps({"keys": [jwk(ec, "EC", "e")]}))
    wait_for("the new key counts", lambda: get(w, by_ec).status == 200)
    assert get(w, by_rsa).status == 401
    for _ in range(20):
        assert get(w, by_ec).status == 200


def test_jwt_over_grpc(weir, service, secret):
    w = grpc_start(weir, service, plugin("jwt", config={"secret": str(secret), "require": {"scope": ["echo"]}}))
    assert grpc_failure(w).code() == grpc.StatusCode.UNAUTHENTICATED
    told = grpc_failure(w, ("authorization", f"Bearer {token(scope='other')}"))
    assert told.code() == grpc.StatusCode.PERMISSION_DENIED and "the token does not allow this" in told.details()
    assert grpc_call(w, ("authorization", f"Bearer {token(scope='other echo')}"))[0] == b"hi"


# rate_limit.


def test_rate_limit(weir, serve):
    upstream = serve()
    w = start(weir, upstream, plugin("rate_limit", config={"limit": 3, "window": "1h", "name": "api"}))
    for left in (2, 1, 0):
        reply = get(w)
        assert reply.status == 200 and reply.fields.get("ratelimit-policy") == '"api";q=3;w=3600'
        assert reply.fields.get("ratelimit").startswith(f'"api";r={left};t=')
    reply = get(w)
    assert reply.status == 429 and problem(reply)["title"] == "too many requests"
    assert 1190 < int(reply.fields.get("retry-after")) <= 1200
    assert reply.fields.get("ratelimit").startswith('"api";r=0;t=')
    assert len(upstream.requests) == 3
    assert (events(w, "rate_limit", "allowed"), events(w, "rate_limit", "limited")) == (3, 1)


@pytest.mark.parametrize("fields, calls", [(True, 4), (False, 2)])
def test_rate_limit_is_called_for_responses_only_where_it_tells_them_something(weir, serve, fields, calls):
    w = start(weir, serve(), plugin("rate_limit", config={"limit": 3, "fields": fields}))
    for _ in range(2):
        assert ("ratelimit" in get(w).fields) == fields
    w.await_metric("weir_handler_calls_total", calls, handler="rate_limit", outcome="continue")


@pytest.mark.threads
def test_all_workers_share_one_rate_and_reloads_keep_it(weir, serve, isolation):
    w = start(weir, serve(), plugin("rate_limit", config={"limit": 40, "window": "24h", "key": "field:X-Tenant"},
                                    isolation=isolation),
              server={"handler_threads": 4})
    statuses = []

    def ask(tenant, times):
        with w.client() as client:
            for _ in range(times):
                client.send(request(fields=[f"X-Tenant: {tenant}"]))
                statuses.append(client.read_response().status)

    threads = [threading.Thread(target=ask, args=("a", 15)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 40 + [429] * 80
    gateway = w.gateway
    w.signal(signal.SIGHUP)
    w.await_metric("weir_config_reloads_total", 1, result="ok")
    wait_for("another gateway serves", lambda: w.gateway != gateway)
    assert get(w, "X-Tenant: a").status == 429
    assert get(w, "X-Tenant: b").status == 200


def test_a_rate_outlives_a_gateway_that_dies(weir, serve):
    w = start(weir, serve(), plugin("rate_limit", config={"limit": 2, "window": "24h"}))
    assert [get(w).status for _ in range(3)] == [200, 200, 429]
    gateway = w.gateway
    os.kill(gateway, signal.SIGKILL)
    wait_for("another gateway serves", lambda: any(pid != gateway for pid in w.gateways()))
    assert get(w).status == 429


def test_rate_limit_over_grpc(weir, service):
    w = grpc_start(weir, service, plugin("rate_limit", config={"limit": 1, "window": "1h"}))
    _, done = grpc_call(w)
    assert dict(done.initial_metadata())["ratelimit"].startswith('"default";r=0;')
    told = grpc_failure(w)
    assert told.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "too many requests" in told.details()
    assert 3590 < int(dict(told.trailing_metadata())["retry-after"]) <= 3600


def test_a_rate_for_each_holder_of_a_key(weir, serve, keys):
    keys.write_text(hashed(alice="alice-key", bob="bob-key"))
    w = start(weir, serve(), plugin("api_key", config={"file": str(keys)}),
              plugin("rate_limit", config={"limit": 2, "window": "1h", "key": "variable:api_key"}))
    assert [get(w, "X-API-Key: alice-key").status for _ in range(3)] == [200, 200, 429]
    assert [get(w, "X-API-Key: bob-key").status for _ in range(3)] == [200, 200, 429]
    assert get(w).status == 401


# json_guard.


def test_json_guard(weir, serve):
    upstream = serve()
    w = start(weir, upstream, plugin("json_guard", config={"max_depth": 5, "required": ["id"]}))

    def post(body, kind=JSON):
        return get(w, kind, method="POST", body=body)

    assert post(b'{"id": [1, {"a": "b"}]}').status == 200
    assert upstream.requests[0].body == b'{"id": [1, {"a": "b"}]}'
    for body, status, title in [
        (b'{"id": 1, "id": 2}', 400, "the content is no JSON: line 1, column "),
        (b'{"id": NaN}', 400, "the content is no JSON"),
        (b'{"id": "\xff"}', 400, "the content is no JSON"),
        (b"[" * 100000, 413, "the JSON is nested too deeply"),
        (b"{}", 400, 'the key "id" is missing'),
    ]:
        reply = post(body)
        assert reply.status == status and problem(reply)["title"].startswith(title)
    assert post(b"{}", "Content-Type: text/plain").status == 415
    assert get(w).status == 200
    assert len(upstream.requests) == 2
    assert events(w, "json_guard", "malformed") == 5 and events(w, "json_guard", "too_large") == 1


def test_json_guard_in_front_of_mcp(weir, serve, isolation):
    upstream = serve()
    w = start(weir, upstream, plugin("json_guard", config={"json_rpc": {
        "methods": ["initialize", "tools/*"], "tools": ["read_*"]}}, isolation=isolation))

    def rpc(method, **params):
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        return get(w, JSON, method="POST", body=json.dumps(message).encode())

    assert rpc("initialize").status == 200
    assert rpc("tools/call", name="read_file").status == 200
    reply = rpc("tools/call", name="delete_file")
    assert reply.status == 403 and reply.fields.get("content-type") == "application/json"
    assert json.loads(reply.body) == {"jsonrpc": "2.0", "id": 7, "error": {
        "code": -32601, "message": "this tool may not be called", "data": "delete_file"}}
    assert rpc("resources/read").status == 403
    reply = get(w, JSON, method="POST", body=b"{")
    assert reply.status == 400 and json.loads(reply.body)["error"]["code"] == -32700
    assert {"rpc_method": "tools/call", "rpc_tool": "read_file"} in w.variables_of(5)
    assert len(upstream.requests) == 2


# headers.


def test_headers(weir, serve):
    upstream = serve(answering(response(fields=["Server: secret/1.2", "X-A: 1"], body=b"ok")))
    w = start(weir, upstream, plugin("headers", config={
        "request": {"remove": ["x-internal-*"], "set": {"x-internal-client": "${client_address}"},
                    "add": {"x-seen": "${request_id} ${route}"}},
        "response": {"set": {"x-a": "2"}, "add": {"x-b": "3"}, "remove": ["server"]}}))
    reply = get(w, "X-Internal-Client: forged", "X-Internal-Other: forged", "X-Request-Id: abc")
    assert reply.status == 200 and reply.body == b"ok" and "server" not in reply.fields
    assert reply.fields.all("x-a") == ["2"] and reply.fields.get("x-b") == "3"
    seen = upstream.requests[0].fields
    assert seen.all("x-internal-client") == ["127.0.0.1"] and "x-internal-other" not in seen
    assert seen.get("x-seen") == f"{seen.get('x-request-id')} all"


def test_cors_stands_in_front_of_keys(weir, serve, keys):
    upstream = serve()
    w = start(weir, upstream,
              plugin("headers", "cors", {"cors": {"origins": ["https://app.example"], "methods": ["PUT"],
                                                  "headers": ["x-api-key"], "credentials": True}}),
              plugin("api_key", config={"file": str(keys)}))
    asked = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-api-key"]
    reply = get(w, "Origin: https://app.example", *asked, method="OPTIONS")
    assert reply.status == 204 and reply.body == b""
    assert reply.fields.get("access-control-allow-origin") == "https://app.example"
    assert reply.fields.get("access-control-allow-methods") == "PUT"
    assert reply.fields.get("access-control-allow-headers") == "x-api-key"
    assert get(w, "Origin: https://evil.example", *asked, method="OPTIONS").status == 403
    assert upstream.accepted == 0
    reply = get(w, "Origin: https://app.example", "X-API-Key: alice-key", method="PUT", body=b"x")
    assert reply.status == 200 and reply.fields.get("access-control-allow-origin") == "https://app.example"
    assert reply.fields.get("access-control-allow-credentials") == "true" and reply.fields.get("vary") == "Origin"
    assert "access-control-allow-origin" not in get(w, "Origin: https://evil.example",
                                                    "X-API-Key: alice-key").fields


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_page_can_read_why_it_was_refused(weir, listen, keys, isolation):
    """By weir, by a handler behind; but no page of another origin can."""
    dead = listen()
    w = start(weir, dead,
              plugin("headers", "cors", {"cors": {"origins": ["https://app.example"], "expose": ["retry-after"]}},
                     isolation=isolation),
              plugin("api_key", config={"file": str(keys)}), pipeline={"hold": 0})
    dead.close()
    key = "X-API-Key: alice-key"
    for origin, allowed in (("https://app.example", ["https://app.example"]), ("https://evil.example", [])):
        for fields, status in (([], 401), ([key], 502)):
            reply = get(w, f"Origin: {origin}", *fields)
            assert reply.status == status and reply.fields.get("content-type") == "application/problem+json"
            assert reply.fields.all("access-control-allow-origin") == allowed
            assert ("access-control-expose-headers" in reply.fields) == bool(allowed)
            assert reply.fields.all("vary") == ["Origin"]


def test_headers_over_grpc_and_http2(weir, service):
    w = grpc_start(weir, service, plugin("headers", config={
        "request": {"set": {"x-a": "${method} ${path}"}}, "response": {"set": {"x-b": "b"}}}))
    _, done = grpc_call(w)
    assert service.seen["x-a"] == "POST /weir.test.Echo/Echo" and dict(done.initial_metadata())["x-b"] == "b"


def test_all_of_them_over_http2(weir, serve, keys):
    w = start(weir, serve(answering(response(body=b"ok"))),
              plugin("headers", config={"response": {"set": {"x-b": "b"}}}),
              plugin("rate_limit", config={"limit": 100, "window": "1h"}),
              plugin("api_key", config={"file": str(keys)}),
              plugin("json_guard"), listener=HTTP2)
    with Http2Client(w.port) as client:
        for status, fields, body in [(200, (("x-api-key", "alice-key"),), b'{"a": 1}'),
                                     (401, (), b'{"a": 1}'), (400, (("x-api-key", "alice-key"),), b'{"a": 1')]:
            sid = client.ask("POST", "/", (("content-type", "application/json"), *fields), body=body)
            assert client.response(sid).status == status


# Configuration.


def examples():
    """The configurations in plugins/README.md."""
    return re.findall(r"^```toml\n(.*?)^```", (ROOT / "plugins" / "README.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("example", examples(), ids=lambda text: re.search('plugin = "(.*)"', text)[1])
def test_the_examples_can_be_copied(tmp_path, example):
    (tmp_path / "api-keys").write_text(hashed(alice="alice-key"))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": base64url(bytes(32))}]}))
    name = re.search('name = "(.*)"', example)[1]
    if "[[route]]" not in example:
        example += f'\n[[route]]\nhandlers = ["{name}"]\npipeline = "app"\n'
    file = tmp_path / "weir.toml"
    file.write_text(f'[[listener]]\nname = "http"\nlisten = "127.0.0.1:{free_port()}"\n'
                    f'[[pipeline]]\nname = "app"\nendpoints = ["127.0.0.1:9"]\n{example}')
    status, out, err = run_cli("check", file)
    assert status == 0, err
    assert f"through {name}" in out


def test_each_plugin_has_an_example():
    named = [re.search('plugin = "(.*)"', text)[1] for text in examples()]
    built = {file.stem for file in (BINARY.parent / "plugins").glob("*.so")} - {"maintenance"}
    assert sorted(named) == sorted(built)


@pytest.mark.parametrize("handler, expected", [
    (plugin("api_key"), "file: is missing"),
    (plugin("jwt", config={"secret": "none"}), "secret: 'none' cannot be read"),
    (plugin("rate_limit", config={"limit": 5, "windw": "1s"}), "windw: is not a setting; there are limit, window"),
    (plugin("json_guard", config={"max_depth": 100}), "max_depth: found 100, expected an integer from 1 to 64"),
    (plugin("headers", config={"cors": {"origins": ["*"], "credentials": True}}), "cors.credentials: expected false"),
], ids=lambda value: value["name"] if isinstance(value, dict) else "")
def test_check_says_what_is_wrong(weir, serve, handler, expected):
    w = start(weir, serve(), handler, wait=False)
    w.expect_status = 2
    assert w.await_exit() == 2
    assert expected in w.log()
    status, _, err = run_cli("check", w.file)
    assert status == 2 and expected in err


def test_the_example_is_built_where_it_is(tmp_path):
    """In the source, with nothing installed."""
    folder = tmp_path / "plugins" / "example"
    shutil.copytree(ROOT / "plugins" / "example", folder)
    (tmp_path / "include").symlink_to(ROOT / "include")
    subprocess.run(["make", "-B"], cwd=folder, check=True, timeout=scaled(30))
    assert (folder / "maintenance.so").exists()


def test_the_example_is_built_and_runs_where_weir_is_installed(weir, serve, tmp_path):
    root, folder = tmp_path / "root", tmp_path / "mine"
    subprocess.run(["meson", "install", "-C", str(BINARY.parent), "--no-rebuild", "--tags", "devel",
                    "--destdir", str(root)], check=True, capture_output=True, timeout=scaled(30))
    pc, = root.rglob("weir-handler.pc")
    example, = (file.parent for file in root.rglob("maintenance.c"))
    assert (example / "maintenance.c").read_text() == (ROOT / "plugins" / "example" / "maintenance.c").read_text()
    shutil.copytree(example, folder)
    env = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(root)}
    env["PKG_CONFIG_PATH"] = str(pc.parent)
    header, = root.rglob("handler.h")
    env["CFLAGS"] = f"-O2 -I{header.parent.parent}"
    subprocess.run(["make"], cwd=folder, env=env, check=True, timeout=scaled(30))
    (folder / "maintenance.txt").write_text("")
    w = start(weir, serve(), {"name": "maintenance", "plugin": str(folder / "maintenance.so"), "config": {
        "file": str(folder / "maintenance.txt"), "retry_after": 120}})
    assert get(w).status == 200
    (folder / "maintenance.txt").write_text("new disks\n")
    wait_for("it is closed", lambda: get(w).status == 503)
    reply = get(w)
    assert problem(reply)["title"] == "new disks" and reply.fields.get("retry-after") == "120"
    (folder / "maintenance.txt").write_text("")
    wait_for("it is open", lambda: get(w).status == 200)
    assert events(w, "maintenance", "refused") >= 1
