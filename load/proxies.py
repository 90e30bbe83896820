"""weir and its peers, each configured as somebody who knows it well would, in front of one upstream.

Each is started for one kind of traffic: "http1" on both sides; "h2", which is HTTP/2 (h2c by prior
knowledge) from the clients and HTTP/1.1 to the upstream; "grpc", which is HTTP/2 on both sides.
Kind "handlers" is weir alone, with and without a handler that does nothing, over HTTP/1.1.

All of them get the same: one worker (or loop), keepalive to the upstream, no access log, limits far
above the load, TCP_DEFER_ACCEPT on the listener where it can be set. Buffers are those that
were measured to be the best: 64 KiB for nginx (16 x 4 KiB takes half as much CPU again on a 64 KiB
response); 18 KiB for haproxy (with its default of 16 KiB a 16 KiB content and its head do not fit into
one, which doubles the cost of a POST, and larger ones make a 64 KiB response dearer).
"""

import os
import subprocess
import tempfile
from pathlib import Path

import common
from common import Process


KINDS = ("http1", "tls", "h2", "grpc", "handlers")
HTTP2_KINDS = ("h2", "grpc")


class Proxy:
    """A running proxy: .name, .version, .port, .process; stop() ends it and removes its files.
    .tls_port: the same over TLS."""

    def __init__(self, name, port, process, folder, version="", admin=None, tls_port=None):
        self.name, self.port, self.process = name, port, process
        self.tls_port = tls_port
        self.folder, self.version, self.admin = folder, version, admin

    def stop(self):
        status = self.process.stop()
        self.folder.cleanup()
        return status


def make_certificate(folder):
    """A throw-away one for TLS listeners: the paths of chain and key, and of both in one file."""
    crt, key, pair = (Path(folder) / name for name in ("tls.crt", "tls.key", "tls.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", crt, "-subj", "/CN=localhost", "-days", "2"],
        check=True, capture_output=True, timeout=30)
    pair.write_bytes(crt.read_bytes() + key.read_bytes())
    return crt, key, pair


WEIR = """\
[server]
threads = {threads}
{server}
[admin]
listen = "127.0.0.1:{admin}"

[log]
access = "{access}"

[[listener]]
name = "http"
listen = "127.0.0.1:{port}"
{listener}
[[listener]]
name = "https"
listen = "127.0.0.1:{tls_port}"
tls = {{ cert = "tls.crt", key = "tls.key" }}

[[pipeline]]
name = "engine"
endpoints = ["127.0.0.1:{upstream}"]
{limits}
{pipeline}
[[route]]
match = {{ path = "/" }}
pipeline = "engine"
{route}{routes}"""


# For start_weir(routes=...): no request is turned away because a tracer, or the machine, is slow.
NEVER_LATE = '[admission]\nshed_at = { loop_lag = "0s" }\n'
# For start_weir(**...): of thousands that ask at once each waits for its turn, however long the others take.
PATIENT = {"queue": 16384, "max_wait": "10s", "target": "0s"}

WEIR_LIMITS = """\
limits = {{ concurrency = {concurrency}, connections = {connections} }}
queue = {{ size = {queue}, max_wait = "{max_wait}"{target} }}"""


def start_weir(upstream, core=None, kind="http1", threads=1, concurrency=1024, connections=1024, queue=4096,
               max_wait="2s", target=None, server="", listener="", pipeline="", access="off", route="", routes="", limits=None,
               nofile=None, tracer=(), binary=None):
    """Starts weir in front of 127.0.0.1:@upstream and waits until it says that it is ready.

    @server, @listener and @pipeline are further lines of those sections, @route of the route and what
    stands behind it, @routes further routes and other sections, @access is log.access, @limits the pipeline's
    limits and queue instead of those by number. @nofile is its limit on open files, @tracer a command that runs it,
    @binary another weir than common.weir_bin().
    """
    binary = binary or common.weir_bin()
    if not binary:
        raise common.Failure("there is no weir (WEIR_BIN is not set and build/weir is missing)")
    if kind in HTTP2_KINDS:
        listener += 'protocol = "http2"\n'
    if kind == "grpc":
        pipeline += 'protocol = "http2"\n'
    folder = tempfile.TemporaryDirectory(prefix="weir-load-")
    port, tls_port, admin = common.free_port(), common.free_port(), common.free_port()
    make_certificate(folder.name)
    config = Path(folder.name) / "weir.toml"
    config.write_text(WEIR.format(
        threads=threads, admin=admin, port=port, tls_port=tls_port, upstream=upstream, server=server, listener=listener,
        pipeline=pipeline, access=access, route=route, routes=routes,
        limits=WEIR_LIMITS.format(concurrency=concurrency, connections=connections, queue=queue,
                                  max_wait=max_wait, target=f', target = "{target}"' if target else "") if limits is None else limits))
    process = Process([*tracer, binary, "run", config], name="weir", core=core, cwd=folder.name,
                      nofile=nofile)
    process.wait_until(lambda: common.answers(admin, "/readyz"), seconds=60 if tracer else 10)
    return Proxy("weir", port, process, folder, admin=admin, tls_port=tls_port)


def start_weir_profiled(*arguments, **options):
    if not common.PROFILED.exists():
        raise common.Failure("it is not built: ./dev bench --release does it")
    return start_weir(*arguments, binary=common.PROFILED, **options)


# A handler that does nothing, on the way of every request.
HANDLER = """\
handlers = ["nothing"]
[[handler]]
name = "nothing"
plugin = "{plugin}"
isolation = "{isolation}"
"""


def start_weir_with_handler(isolation):
    def start(upstream, core=None, kind="handlers", **options):
        plugin = Path(common.weir_bin() or "").parent / "tests" / "plugins" / "nothing.so"
        if not plugin.exists():
            raise common.Failure(f"there is no {plugin}: build it")
        return start_weir(upstream, core, route=HANDLER.format(plugin=plugin, isolation=isolation), **options)

    return start


def start_bare(*options):
    def start(upstream, core=None, kind="handlers"):
        port = common.free_port()
        process = Process([common.tool("bare"), *options, port, upstream], name="bare", core=core)
        process.wait_until(lambda: common.is_listening(port))
        return Proxy("bare", port, process, tempfile.TemporaryDirectory(prefix="weir-load-"))

    return start


NGINX = """\
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    {http}
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    client_body_buffer_size 128k;
    upstream engine {{
        {servers}
        keepalive 1024;
        keepalive_requests 100000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096{accept}{protocol};
        listen 127.0.0.1:{tls_port} ssl reuseport backlog=4096{accept};
        ssl_certificate {folder}/tls.crt;
        ssl_certificate_key {folder}/tls.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        http2_max_concurrent_streams 1000;
        grpc_read_timeout 300s;
        location /load.Engine/ {{
            grpc_pass grpc://engine;
            {grpc_location}
        }}
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_max_temp_file_size 0;
            {buffers}
            {location}
        }}
    }}
}}
"""

NGINX_BUFFERS = "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
NGINX_OWN_FDS = 16  # logs, channels, epoll; the listening socket counts as a connection

# nginx as a plain pipe: what is compared with weir when memory is, not speed.
NGINX_STREAMING = "proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 300s;"


def start_nginx(upstream, core=None, kind="http1", http="", location="", grpc_location="", servers=None, nofile=None,
                connections=None, buffers=NGINX_BUFFERS, accept=" deferred"):
    """@http, @location and @grpc_location are further lines there, @servers those of the upstream. @nofile: its limit on open files. @connections: both sides; default: what the files allow."""
    binary = common.find_program("nginx")
    if not binary:
        raise common.Failure("nginx is not installed")
    folder = tempfile.TemporaryDirectory(prefix="weir-load-")
    port, tls_port = common.free_port(), common.free_port()
    make_certificate(folder.name)
    config = Path(folder.name) / "nginx.conf"
    connections = connections or (nofile - NGINX_OWN_FDS if nofile else 8192)
    config.write_text(NGINX.format(folder=folder.name, port=port, tls_port=tls_port, upstream=upstream,
                                   http=http, location=location, grpc_location=grpc_location,
                                   servers=servers or f"server 127.0.0.1:{upstream};", files=nofile or common.raise_fd_limit(),
                                   connections=connections, buffers=buffers, accept=accept,
                                   protocol=" http2" if kind in HTTP2_KINDS else ""))
    process = Process([binary, "-p", folder.name, "-c", config, "-e", "stderr"], core=core,
                      nofile=nofile)
    process.wait_until(lambda: common.is_listening(port) and len(process.tree()) > 1)
    return Proxy("nginx", port, process, folder, tls_port=tls_port)


def start_nginx_defaults(*arguments, **options):
    return start_nginx(*arguments, buffers="", accept="", **options)


HAPROXY = """\
global
    nbthread 1
{maxconn}    tune.bufsize 18432
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    timeout queue {queue}
    http-reuse always
    option http-keep-alive
    option forwardfor
frontend front
    bind 127.0.0.1:{port} defer-accept backlog 4096{client}
    bind 127.0.0.1:{tls_port} defer-accept backlog 4096 ssl crt {folder}/tls.pem
    default_backend engine
backend engine
{backend}    server one 127.0.0.1:{upstream} maxconn {connections} pool-max-conn -1 pool-purge-delay 300s{server}
"""


def start_haproxy(upstream, core=None, kind="http1", connections=8192, queue="60s", backend="", nofile=None):
    """@connections to the engine at once, and how long one is waited for, @backend further lines there. @nofile: its limit on open files, from which it then takes its maxconn itself."""
    binary = common.find_program("haproxy")
    if not binary:
        raise common.Failure("haproxy is not installed")
    folder = tempfile.TemporaryDirectory(prefix="weir-load-")
    port, tls_port = common.free_port(), common.free_port()
    make_certificate(folder.name)
    config = Path(folder.name) / "haproxy.cfg"
    config.write_text(HAPROXY.format(folder=folder.name, port=port, tls_port=tls_port, upstream=upstream,
                                     connections=connections, queue=queue, backend=backend,
                                     maxconn="" if nofile else "    maxconn 8192\n",
                                     client=" proto h2" if kind in HTTP2_KINDS else "",
                                     server=" proto h2" if kind == "grpc" else ""))
    process = Process([binary, "-db", "-q", "-f", config], core=core, nofile=nofile)
    process.wait_until(lambda: common.is_listening(port))
    return Proxy("haproxy", port, process, folder, tls_port=tls_port)


def start_nghttpx(upstream, core=None, kind="http1", options=()):
    """It speaks either protocol with either side, found out by itself on the clients'."""
    binary = common.find_program("nghttpx")
    if not binary:
        raise common.Failure("nghttpx is not installed")
    if kind == "tls":
        raise common.Failure("it has no TLS here")
    folder = tempfile.TemporaryDirectory(prefix="weir-load-")
    port = common.free_port()
    protocol = "h2" if kind == "grpc" else "http/1.1"
    process = Process([binary, "--conf=/dev/null", f"--frontend=127.0.0.1,{port};no-tls",
                       f"--backend=127.0.0.1,{upstream};/;proto={protocol}", "--workers=1",
                       "--single-process", "--backlog=4096", "--log-level=FATAL",
                       "--frontend-http2-max-concurrent-streams=1000",
                       "--backend-http2-max-concurrent-streams=1000",
                       "--frontend-keep-alive-timeout=300s", "--backend-keep-alive-timeout=300s",
                       "--add-x-forwarded-for", "--no-ocsp", *options], core=core, cwd=folder.name)
    process.wait_until(lambda: common.is_listening(port))
    return Proxy("nghttpx", port, process, folder)


H2O = """\
{user}num-threads: 1
num-name-resolution-threads: 1
max-connections: 8192
pid-file: {folder}/h2o.pid
error-log: /dev/null
http1-request-timeout: 300
http2-idle-timeout: 300
http2-max-concurrent-requests-per-connection: 1000
listen:
  host: 127.0.0.1
  port: {port}
hosts:
  default:
    paths:
      /:
        proxy.reverse.url: "http://127.0.0.1:{upstream}"
        proxy.preserve-host: ON
        proxy.timeout.keepalive: 300000
        proxy.timeout.io: 300000
"""


def start_h2o(upstream, core=None, kind="http1"):
    binary = common.find_program("h2o")
    if not binary:
        raise common.Failure("h2o is not installed")
    if kind == "tls":
        raise common.Failure("it has no TLS here")
    if kind == "grpc":
        raise common.Failure("this h2o speaks no HTTP/2 with upstreams")
    folder = tempfile.TemporaryDirectory(prefix="weir-load-")
    port = common.free_port()
    config = Path(folder.name) / "h2o.yaml"
    config.write_text(H2O.format(
        folder=folder.name, port=port, upstream=upstream,
        user="user: root\n" if os.geteuid() == 0 else ""))
    process = Process([binary, "-m", "worker", "-c", config], core=core)
    process.wait_until(lambda: common.is_listening(port))
    return Proxy("h2o", port, process, folder)


START = {"weir": start_weir, "nginx": start_nginx, "haproxy": start_haproxy,
         "nghttpx": start_nghttpx, "h2o": start_h2o}

# The build of profiled.py, beside the plain one.
WITH_RELEASE = {"weir": start_weir, "weir --release": start_weir_profiled}

# Who takes part in the rows of kind "handlers", where weir is measured against itself.
# "bare" is what a proxy, and a hand-over, cost at the least on this machine.
WITH_HANDLERS = {"weir": start_weir, "weir, thread": start_weir_with_handler("thread"),
                 "weir, process": start_weir_with_handler("process"),
                 "bare": start_bare(), "bare, thread": start_bare("--hand-over")}

# Who can be asked for beside the peers, and is not one of them: nginx with the buffers that it has by itself and
# without deferred accepts, as most people run it; and the least that a proxy costs on this machine.
REFERENCES = {"nginx, defaults": start_nginx_defaults, "bare": start_bare(), "bare, one each": start_bare("--one-each")}
# It passes bytes on as they are, and has one connection upstream for each of the clients', which stay; or knows that
# a connection brings one request.
BARE_ROWS = {"bare": ("small", "small-1000", "64k", "post", "handler-1", "handler-8", "handler-64"),
             "bare, one each": ("new",)}


def start_engine(core=None, *options, program="engine"):
    """Starts the test upstream, "engine" or "h2engine"; returns (port, process)."""
    port = common.free_port()
    process = Process([common.tool(program), "--listen", f"127.0.0.1:{port}", *options], core=core)
    process.wait_until(lambda: common.is_listening(port))
    return port, process
