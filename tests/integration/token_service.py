"""A token service, as the large registries have: it grants scopes by tokens that the registry verifies."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import load_pem_x509_certificate

from tests.integration.local_registry import PASSWORD, USER
from tests.running_server import RunningServer

IDENTITY_TOKEN = "identity-3c9e8f"
SERVICE = "tests"
ISSUER = "imagesync tests"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        authorization = self.headers.get("Authorization")
        if authorization is not None and authorization != f"Basic {login}":
            self._answer(401, {"details": "incorrect username or password"})
            return
        self._grant("anonymous" if authorization is None else "password", query)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("grant_type") != ["refresh_token"] or form.get("refresh_token") != [IDENTITY_TOKEN]:
            self._answer(401, {"details": "invalid refresh token"})
            return
        self._grant("identity", form)

    def _grant(self, who: str, asked: dict[str, list[str]]) -> None:
        (scope,) = asked["scope"]
        assert asked["service"] == [SERVICE]
        self.server.asked.append((who, scope))
        kind, name, actions = scope.split(":")
        # Services grant what they like of what was asked, without a word.
        granted = [action for action in actions.split(",") if action in self.server.grants[who]]
        token = self.server.sign([{"type": kind, "name": name, "actions": granted}])
        self._answer(200, {"access_token" if who == "identity" else "token": token})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: str) -> None:
        self.grants = {"anonymous": {"pull"}, "password": {"pull", "push"}, "identity": {"pull", "push"}}
        self.asked: list[tuple[str, str]] = []
        self._key = key
        self._certificate = certificate
        super().__init__(("127.0.0.1", 0), _Handler)

    def sign(self, access: list[dict[str, object]]) -> str:
        """Return a token (https://distribution.github.io/distribution/spec/auth/jwt/)."""
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [self._certificate]}
        claims = {
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "jti": str(time.monotonic_ns()),
            "iat": now, "nbf": now - 10, "exp": now + 300, "access": access,
        }  # fmt: skip
        content = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(content.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{content}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class TokenService(RunningServer):
    """A token service on loopback.

    ::

        with TokenService(tmp_path) as tokens, LocalRegistry(tmp_path, auth=tokens.configuration):
            tokens.grants["password"]    # what it allows; to be changed

    Parameters
    ----------
    tls
        Its certificate and key; plain HTTP without.
    """

    def __init__(self, folder: Path, *, tls: tuple[Path, Path] | None = None) -> None:
        self._certificate, key = folder / "token.pem", folder / "token.key"
        ec_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command = ["openssl", "req", "-x509", *ec_key, "-subj", f"/CN={ISSUER}"]
        subprocess.run(
            [*command, "-keyout", str(key), "-out", str(self._certificate)], check=True, capture_output=True
        )
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        der = load_pem_x509_certificate(self._certificate.read_bytes()).public_bytes(
            serialization.Encoding.DER
        )
        self._server = _Server(private, base64.b64encode(der).decode())
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        super().__init__(self._server)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/token"

    @property
    def grants(self) -> dict[str, set[str]]:
        """Return what each kind of user may do."""
        return self._server.grants

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Return who asked for which scope."""
        return self._server.asked

    @property
    def configuration(self) -> dict[str, object]:
        """Return what the registry's configuration says of it, below ``auth``."""
        return {
            "token": {
                "realm": self.url, "service": SERVICE, "issuer": ISSUER,
                "rootcertbundle": str(self._certificate),
            }
        }  # fmt: skip
