"""Git repositories over HTTP, by git's own ``http-backend``, for who knows the password."""

from __future__ import annotations

import http.server
import os
import subprocess
from pathlib import Path

from tests.passwords import Password
from tests.running_server import RunningServer


class GitServer(RunningServer):
    """Serves the bare repositories in a folder on a port of its own, on loopback.

    Parameters
    ----------
    folder
        Holds the repositories: ``<folder>/<name>.git`` is ``url/<name>.git``.
    password
        Without it a request is answered with 401.
    """

    def __init__(self, folder: Path, password: Password) -> None:
        self.password = password
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"folder": folder, "owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        super().__init__(self._server)

    @property
    def host(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Return the URL of the folder, without a password."""
        return f"http://{self.host}"

    @property
    def url_with_credentials(self) -> str:
        """Return the URL of the folder, with user and password."""
        return f"http://{self.password.in_url}@{self.host}"


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request, given to ``git http-backend`` as a web server gives it to a CGI program (RFC 3875)."""

    folder: Path
    owner: GitServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorized = self.headers.get("Authorization") == self.owner.password.authorization
        self.owner.requests.append(f"{self.command} {self.path}{'' if authorized else ' (refused)'}")
        if not authorized:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": self.owner.password.user,
            "REMOTE_ADDR": self.client_address[0],
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environ, input=body, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200" if headers else "500").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None: ...
