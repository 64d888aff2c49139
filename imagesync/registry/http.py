"""HTTP to one registry: TLS and authentication as the engine does them.

Not by ``oras``, whose client takes no identity tokens, and reports a registry's errors as log lines.

Source: the OCI distribution specification 1.1; for tokens
https://distribution.github.io/distribution/spec/auth/.
"""

from __future__ import annotations

import base64
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from imagesync.core.credentials import redact
from imagesync.core.image_reference import is_loopback
from imagesync.core.limits import LONGEST_PAUSE, SILENCE, SILENCES, bounded, is_silence, retry_after
from imagesync.core.strict_json import load_json
from imagesync.core.tls import Patience, TLSAdapter, system_context
from imagesync.errors import RegistryError
from imagesync.registry.authentication import Authorization, Session, challenges
from imagesync.registry.responses import TRANSIENT, hint, is_dropped, reason, refusal

_CONNECT_SECONDS = 5.0
# Bytes that are sent at once; the timeout of a socket is for all of them.
_PIECE = 64 << 10
ATTEMPTS = 5
"""How often a request is sent at most, if the registry is busy or drops the connection."""
_DOCKER_HUB = "registry-1.docker.io"
# Where engines look for a registry's own certificates, by its host and port.
_CERTIFICATES = (
    Path("/etc/docker/certs.d"),
    Path("~/.config/docker/certs.d"),
    Path("~/.docker/certs.d"),
    Path("/etc/containers/certs.d"),
)


class Body:
    """The body of a request, read anew for each attempt.

    Parameters
    ----------
    chunks
        Returns the chunks from the first one on.
    size
        Of all of them, in bytes.
    """

    def __init__(self, chunks: Callable[[], Iterable[bytes]], size: int) -> None:
        self._chunks = chunks
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        pieces = (
            chunk[start : start + _PIECE]
            for chunk in self._chunks()
            for start in range(0, len(chunk), _PIECE)
        )
        # Speed counts, too: a piece may wait for a registry that takes a byte now and then.
        return bounded(pieces)

    def __len__(self) -> int:
        # With it requests sends a Content-Length, without which several registries refuse a blob.
        return self._size


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    scope: str
    headers: Mapping[str, str] | None
    data: bytes | Body
    stream: bool


class Connection:
    """Requests to one registry, with the user's credentials where it asks for them; for several threads.

    Parameters
    ----------
    registry
        Its host, with a port where it has one, as in references.
    credentials
        From :func:`imagesync.registry.login.registry_credentials`; sent only to the registry itself, and to
        the token service that it names.
    insecure
        Whether certificates aren't checked and plain HTTP is allowed, as engines do for loopback.
    timeout
        Seconds without a byte.
    pause
        Waits between two attempts, for a number of seconds.
    """

    def __init__(
        self,
        registry: str,
        credentials: Mapping[str, Any],
        *,
        insecure: bool = False,
        timeout: float = SILENCE,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.registry = registry
        self._host = _DOCKER_HUB if registry == "docker.io" else registry
        self._credentials = credentials
        self._insecure = insecure or is_loopback(registry)
        self._timeout = timeout
        self._pause = pause
        self._session = Session(insecure=self._insecure)
        self._session.headers["User-Agent"] = "imagesync"
        # Where plain HTTP is tried next, its server may take TLS for a request that isn't complete.
        patience = Patience(_CONNECT_SECONDS if self._insecure else timeout, timeout)
        context = _tls_context(registry, check=not self._insecure)
        adapter = TLSAdapter(context, check=not self._insecure, patience=patience)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._scheme = ""
        self._authorizations: dict[str, str] = {}
        self._login = threading.Lock()
        if self._insecure:
            # The user configured that the certificate isn't checked. For the process, because
            # warnings.catch_warnings isn't safe with several threads.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | Body = b"",
        stream: bool = False,
        attempts: int = ATTEMPTS,
    ) -> requests.Response:
        """Return the response to a request, whatever its status.

        Parameters
        ----------
        method, headers, data
            As in :func:`requests.request`.
        path
            Below the registry, such as ``/v2/team/env/manifests/1``, or a URL from an earlier response.
        scope
            The scope of a token, such as ``repository:team/env:pull``; several with spaces between them.
        stream
            Whether the caller reads the body from ``response.raw``, and closes the response.
        attempts
            How often the request is sent at most, if the registry is busy, fails or drops the connection;
            :data:`~imagesync.core.limits.SILENCES` times if it is silent.

        Raises
        ------
        RegistryError
            The registry can't be reached, or the token service refuses.
        """
        request = _Request(method, path, scope, headers, data, stream)
        silences = 0
        for attempt in range(1, attempts):
            try:
                response = self._authorized(request)
            except RegistryError as error:  # noqa: PERF203  each attempt on its own
                silences += is_silence(error)
                if error.__cause__ is None or not is_dropped(error.__cause__) or silences == SILENCES:
                    raise
                self.wait(attempt)
            else:
                if response.status_code not in TRANSIENT:
                    return response
                response.close()
                self.wait(attempt, retry_after(response))
        return self._authorized(request)

    def wait(self, attempt: int, seconds: float | None = None) -> None:
        """Wait before another attempt.

        Parameters
        ----------
        attempt
            How many there were: each pause is about twice the one before.
        seconds
            What the registry asks for.
        """
        if seconds is None:
            seconds = 0.25 * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311  no secret
        self._pause(min(seconds, LONGEST_PAUSE))

    def refused(self, action: str, response: requests.Response) -> RegistryError:
        """Return the error for an unexpected response; see :func:`~imagesync.registry.responses.refusal`."""
        return refusal(self.registry, action, response)

    def _authorized(self, request: _Request) -> requests.Response:
        used = self._authorizations.get(request.scope)
        response = self._send(request, used)
        asked = challenges(response.headers) if response.status_code == 401 else {}
        # A password goes to no token service that another host names.
        if not asked or not self._is_own(response.url):
            return response
        with self._login:
            authorization = self._authorizations.get(request.scope)
            # Another thread may have logged in meanwhile.
            if authorization == used:
                authorization = self._authorize(asked, request.scope)
                if authorization is None:
                    return response
                self._authorizations[request.scope] = authorization
        response.close()
        return self._send(request, authorization)

    def _send(self, request: _Request, authorization: str | None) -> requests.Response:
        last: Exception | None = None
        for scheme in self._schemes():
            url = self._url(scheme, request.path)
            own = authorization if self._is_own(url) else None
            try:
                response = self._fetch(
                    request.method, url, own, request.headers, request.data, stream=request.stream
                )
            except requests.RequestException as error:
                last = error
            else:
                self._scheme = scheme
                return response
        raise RegistryError(
            f"The registry {self.registry} can't be reached: {reason(last)}.",
            hint=hint(self.registry, last),
        ) from last

    def _url(self, scheme: str, path: str) -> str:
        """Return the URL of *path*, which may be a location that the registry named."""
        try:
            url = urljoin(f"{scheme}://{self._host}", path)
            leads_to = urlsplit(url).scheme
        except ValueError as error:
            raise RegistryError(
                f"The registry {self.registry} leads to {redact(path)!r}, which is no URL."
            ) from error
        if not self._insecure and leads_to != "https":
            raise RegistryError(f"The registry {self.registry} leads to {redact(url)!r}, without TLS.")
        return url

    def _is_own(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.netloc == self._host and parts.scheme in self._schemes()

    def _schemes(self) -> tuple[str, ...]:
        if self._scheme:
            return (self._scheme,)
        return ("https", "http") if self._insecure else ("https",)

    def _fetch(
        self,
        method: str,
        url: str,
        authorization: str | None,
        headers: Mapping[str, str] | None = None,
        data: bytes | Body | Mapping[str, str] = b"",
        **options: Any,  # noqa: ANN401  as in requests
    ) -> requests.Response:
        return self._session.request(
            method,
            url,
            headers=headers,
            data=data or None,
            auth=Authorization(authorization),
            timeout=(min(_CONNECT_SECONDS, self._timeout), self._timeout),
            **options,
        )

    def _authorize(self, asked: Mapping[str, Mapping[str, str]], scope: str) -> str | None:
        """Return the ``Authorization`` header for a challenge, or ``None`` without credentials."""
        if "bearer" in asked:
            return f"Bearer {self._token(asked['bearer'], scope)}"
        return self._basic()

    def _basic(self) -> str | None:
        name, password = (self._credentials.get(key) for key in ("username", "password"))
        if not name or password is None:
            return None
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

    def _token(self, challenge: Mapping[str, str], scope: str) -> str:
        realm = challenge.get("realm", "")
        schemes = ("https://", "http://") if self._insecure else ("https://",)
        if not realm.lower().startswith(schemes):
            # A forged challenge would have the password sent in the clear.
            raise RegistryError(
                f"The registry {self.registry} wants the password sent to {redact(realm)!r}, without TLS."
            )
        wanted: dict[str, Any] = {
            "scope": scope,
            "service": challenge.get("service", ""),
            "client_id": "imagesync",
        }
        ask: Callable[[], requests.Response]
        if identity := self._credentials.get("identitytoken"):
            form = {**wanted, "grant_type": "refresh_token", "refresh_token": identity}
            # A redirect would send the form with the identity token to wherever it leads.
            ask = partial(self._fetch, "POST", realm, None, data=form, allow_redirects=False)
        else:
            # Docker's token services take each scope as a parameter of its own.
            ask = partial(self._fetch, "GET", realm, self._basic(), params={**wanted, "scope": scope.split()})
        try:
            response = ask()
            for attempt in range(1, ATTEMPTS):
                if response.status_code not in TRANSIENT:
                    break
                self.wait(attempt, retry_after(response))
                response = ask()
            content = load_json(response.content) if response.status_code < 300 else {}
        except ValueError:
            content = {}
        except requests.RequestException as error:
            raise RegistryError(
                f"The token service of {self.registry} can't be used: {reason(error)}.",
                hint=hint(self.registry, error),
            ) from error
        token = content.get("token") or content.get("access_token") if isinstance(content, dict) else None
        if not token:
            raise self.refused("log in", response)
        return str(token)


def _tls_context(registry: str, *, check: bool) -> ssl.SSLContext:
    """Return a context of the system's authorities and of the engines' certificates for *registry*."""
    context = system_context(check=check)
    for path in _CERTIFICATES:
        folder = path.expanduser() / registry
        try:
            for file in sorted(folder.glob("*.crt")):
                context.load_verify_locations(file)
            for file in sorted(folder.glob("*.cert")):
                context.load_cert_chain(file, file.with_suffix(".key"))
        except OSError as error:
            raise RegistryError(
                f"The certificates in {folder} can't be used: {error}.",
                hint="`docker` uses them, too: *.crt is an authority, *.cert with *.key the client's own.",
            ) from error
    return context
