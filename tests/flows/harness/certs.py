"""An authority of the test's own and what it signs, made by openssl."""

import os
import ssl
import subprocess
import threading
from pathlib import Path

from .env import scaled
from .wire import Wire, connect


def openssl(*args, input=b"", check=True):
    done = subprocess.run(
        ["openssl", *map(str, args)], input=input, capture_output=True, timeout=scaled(30)
    )
    if check:
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done


class Authority:
    def __init__(self, directory, name="test authority"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.crt, self.key = self.directory / "ca.crt", self.directory / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.crt, "-subj", f"/CN={name}", "-days", "2")  # fmt: skip

    def issue(self, file, *names, days=1):
        """The paths of a certificate for @names (DNS names, or "IP:..."), and of its key. Whoever
        reads them never sees half of one. @days < 0: it has expired."""
        crt, key = self.directory / f"{file}.crt", self.directory / f"{file}.key"
        request = self.directory / f"{file}.csr"
        extension = self.directory / f"{file}.ext"
        alt = ",".join(n if n.startswith("IP:") else f"DNS:{n}" for n in names)
        extension.write_text(f"subjectAltName={alt}\n" if alt else "")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{key}.new", "-out", request, "-subj", f"/CN={names[0] if names else file}")  # fmt: skip
        openssl("x509", "-req", "-in", request, "-CA", self.crt, "-CAkey", self.key,
                "-CAcreateserial", "-days", str(days), "-extfile", extension, "-out", f"{crt}.new")  # fmt: skip
        os.replace(f"{crt}.new", crt)
        os.replace(f"{key}.new", key)
        return crt, key

    def expired(self, file, *names):
        """openssl x509 makes none of the past; openssl ca does."""
        crt, key = self.issue(file, *names)
        (self.directory / "index").write_text("")
        (self.directory / "ca.conf").write_text(
            "[ca]\ndefault_ca=d\n[d]\n"
            f"database={self.directory}/index\nnew_certs_dir={self.directory}\n"
            "default_md=sha256\npolicy=p\nunique_subject=no\nrand_serial=yes\n"
            "[p]\ncommonName=supplied\n"
        )
        openssl("ca", "-batch", "-config", self.directory / "ca.conf", "-cert", self.crt, "-keyfile",
                self.key, "-in", self.directory / f"{file}.csr", "-out", crt, "-notext",
                "-startdate", "20200101000000Z", "-enddate", "20200201000000Z",
                "-extfile", self.directory / f"{file}.ext")  # fmt: skip
        return crt, key

    def client(self, cert=None, alpn=None, most=None):
        """A context that believes this authority alone."""
        context = ssl.create_default_context(cafile=str(self.crt))
        if cert:
            context.load_cert_chain(*map(str, cert))
        if alpn:
            context.set_alpn_protocols(alpn)
        if most:
            context.maximum_version = most
        return context

    def server(self, cert, wants_client=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, cert))
        if wants_client:
            context.load_verify_locations(str(self.crt))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def secure(wire, context, name="a.test", session=None):
    """The wire, behind a handshake."""
    wire.sock = context.wrap_socket(wire.sock, server_hostname=name, session=session)
    return wire


def secure_client(weir, context, name="a.test", listener=None, session=None):
    wire = connect(weir.ports[listener] if listener else weir.port)
    weir.clients.append(wire)
    return secure(wire, context, name, session)


def over_tls(context, serve, names=None):
    """A serve function (harness.upstream) behind TLS; handshakes that fail are the client's affair.
    @names: a list that gets the name asked for in each handshake."""
    lock = threading.Lock()

    def note(_, name, __):
        with lock:
            names.append(name)

    if names is not None:
        context.sni_callback = note

    def run(wire):
        wire.sock = context.wrap_socket(wire.sock, server_side=True)
        serve(wire)
        wire.sock.unwrap()

    return run


__all__ = ["Authority", "Wire", "openssl", "over_tls", "secure", "secure_client"]
