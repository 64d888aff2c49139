"""HTTP to one registry: TLS and authentication as the engine does them.

Not by ``oras``, whose client takes no identity tokens, and reports a registry's errors as log lines.

Source: the OCI distribution specification 1.1; for tokens
https://distribution.github.io/distribution/spec/auth/.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import ssl
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from imagesync.core.credentials import redact
from imagesync.core.tls import TLSAdapter, system_context
from imagesync.errors import RegistryError

TIMEOUT = (5.0, 30.0)
"""Seconds to wait for a connection, and between two parts of a response."""
_DOCKER_HUB = "registry-1.docker.io"
# Where engines look for a registry's own certificates, by its host and port.
_CERTIFICATES = (
    Path("/etc/docker/certs.d"),
    Path("~/.config/docker/certs.d"),
    Path("~/.docker/certs.d"),
    Path("/etc/containers/certs.d"),
)
# RFC 9110, section 11.6.1: a header may hold several challenges, of which each has parameters.
_CHALLENGE = re.compile(r'(?i)\b(bearer|basic)\b((?:\s*,?\s*[a-z_]+=(?:"[^"]*"|[^\s",]+))*)')
_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"([^"]*)"|([^\s",]+))')


class Connection:
    """Requests to one registry, with the user's credentials where it asks for them.

    Parameters
    ----------
    registry
        Its host, with a port where it has one, as in references.
    credentials
        From :func:`imagesync.registry.login.registry_credentials`; sent only to the registry itself, and to
        the token service that it names.
    insecure
        Whether certificates aren't checked and plain HTTP is allowed, as engines do for loopback.
    """

    def __init__(self, registry: str, credentials: Mapping[str, Any], *, insecure: bool = False) -> None:
        self.registry = registry
        self._host = _DOCKER_HUB if registry == "docker.io" else registry
        self._credentials = credentials
        self._insecure = insecure or is_loopback(registry)
        self._session = _Session()
        self._session.headers["User-Agent"] = "imagesync"
        self._session.mount("https://", TLSAdapter(_tls_context(registry), check=not self._insecure))
        self._session.mount("http://", HTTPAdapter())
        self._scheme = ""
        self._authorizations: dict[str, str] = {}

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
        data: bytes = b"",
    ) -> requests.Response:
        """Return the response to a request, whatever its status.

        Parameters
        ----------
        method, headers, data
            As in :func:`requests.request`.
        path
            Below the registry, such as ``/v2/team/env/manifests/1``, or a URL from an earlier response.
        scope
            The scope of a token, such as ``repository:team/env:pull``.

        Raises
        ------
        RegistryError
            The registry can't be reached, or the token service refuses.
        """
        response = self._send(method, path, scope, headers, data)
        challenges = _challenges(response.headers) if response.status_code == 401 else {}
        # A password goes to no token service that another host names.
        if challenges and self._is_own(response.url):
            authorization = self._authorize(challenges, scope)
            if authorization is not None:
                self._authorizations[scope] = authorization
                response = self._send(method, path, scope, headers, data)
        return response

    def refused(self, action: str, response: requests.Response) -> RegistryError:
        """Return the error for an unexpected response.

        Parameters
        ----------
        action
            What was tried, to follow "doesn't let you": ``push to team/env``.
        response
            The registry's, or its token service's.
        """
        message, status = explanation(response), response.status_code
        if status in {401, 403}:
            return RegistryError(
                f"The registry {self.registry} doesn't let you {action}: {message} (HTTP {status}).",
                hint=f"Log in with an account that has the permission: `docker login {self.registry}`;"
                " or correct the image's name.",
            )
        return RegistryError(
            f"The registry {self.registry} fails to {action}: {message} (HTTP {status}).",
            hint="Try again; if the error persists, ask the operator of the registry.",
        )

    def _send(
        self, method: str, path: str, scope: str, headers: Mapping[str, str] | None, data: bytes
    ) -> requests.Response:
        last: Exception | None = None
        for scheme in self._schemes():
            url = urljoin(f"{scheme}://{self._host}", path)
            authorization = self._authorizations.get(scope) if self._is_own(url) else None
            try:
                response = self._fetch(method, url, authorization, headers, data)
            except requests.RequestException as error:
                last = error
            else:
                self._scheme = scheme
                return response
        raise RegistryError(
            f"The registry {self.registry} can't be reached: {reason(last)}.",
            hint=hint(self.registry, last),
        ) from last

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
        data: bytes | Mapping[str, str] = b"",
        **options: Any,  # noqa: ANN401  as in requests
    ) -> requests.Response:
        with warnings.catch_warnings():
            # The user configured that the certificate isn't checked.
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            return self._session.request(
                method,
                url,
                headers=headers,
                data=data or None,
                auth=_Authorization(authorization),
                timeout=TIMEOUT,
                **options,
            )

    def _authorize(self, challenges: Mapping[str, Mapping[str, str]], scope: str) -> str | None:
        """Return the ``Authorization`` header for a challenge, or ``None`` without credentials."""
        if "bearer" in challenges:
            return f"Bearer {self._token(challenges['bearer'], scope)}"
        return self._basic()

    def _basic(self) -> str | None:
        name, password = (self._credentials.get(key) for key in ("username", "password"))
        if not name or password is None:
            return None
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

    def _token(self, challenge: Mapping[str, str], scope: str) -> str:
        realm = challenge.get("realm", "")
        if urlsplit(realm).scheme != "https" and not (self._insecure and realm.startswith("http://")):
            # A forged challenge would have the password sent in the clear.
            raise RegistryError(
                f"The registry {self.registry} wants the password sent to {redact(realm)!r}, without TLS."
            )
        wanted = {"scope": scope, "service": challenge.get("service", ""), "client_id": "imagesync"}
        try:
            if identity := self._credentials.get("identitytoken"):
                form = {**wanted, "grant_type": "refresh_token", "refresh_token": identity}
                response = self._fetch("POST", realm, None, data=form)
            else:
                response = self._fetch("GET", realm, self._basic(), params=wanted)
            content = response.json() if response.ok else {}
        except requests.RequestException as error:
            raise RegistryError(
                f"The token service of {self.registry} can't be used: {reason(error)}.",
                hint=hint(self.registry, error),
            ) from error
        token = content.get("token") or content.get("access_token") if isinstance(content, dict) else None
        if not token:
            raise self.refused("log in", response)
        return str(token)


class _Authorization(requests.auth.AuthBase):
    """Sets the ``Authorization`` header, and keeps requests from reading netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class _Session(requests.Session):
    """A session whose redirects carry no credentials to another host, not even those of netrc."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        before = response.request.url or ""
        after = prepared_request.url or ""
        if self.should_strip_auth(before, after):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def _challenges(headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the parameters of each authentication scheme in the headers of a 401.

    >>> _challenges({"WWW-Authenticate": 'Bearer realm="https://a.example/token",service="r"'})
    {'bearer': {'realm': 'https://a.example/token', 'service': 'r'}}
    >>> _challenges({"WWW-Authenticate": 'Basic realm="registry", charset="UTF-8"'})
    {'basic': {'realm': 'registry', 'charset': 'UTF-8'}}
    """
    return {
        scheme.lower(): {
            key.lower(): quoted or plain for key, quoted, plain in _PARAMETER.findall(parameters)
        }
        for scheme, parameters in _CHALLENGE.findall(headers.get("WWW-Authenticate", ""))
    }


def is_loopback(registry: str) -> bool:
    """Return True if a registry is on this machine, where engines require no TLS.

    >>> is_loopback("127.0.0.1:5000"), is_loopback("localhost"), is_loopback("[::1]:5000")
    (True, True, True)
    >>> is_loopback("registry.example.com")
    False
    """
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_context(registry: str) -> ssl.SSLContext:
    """Return a context of the system's authorities and of the engines' certificates for *registry*."""
    context = system_context()
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


def explanation(response: requests.Response) -> str:
    """Return a registry's own message (OCI distribution specification, "Error Codes"), in one line."""
    try:
        content = response.json()
        errors = content.get("errors") or [content]
        messages = [
            str(entry.get("message") or entry.get("details") or entry.get("code")) for entry in errors
        ]
        message = ", ".join(dict.fromkeys(messages))
    except (ValueError, AttributeError, TypeError):
        message = (
            response.text[:200].strip() if "html" not in response.headers.get("Content-Type", "") else ""
        )
    return " ".join(redact(message or response.reason or "no explanation").split()).rstrip(".")


def reason(error: BaseException | None) -> str:
    """Return the reason of a failed request, from the innermost exception."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    inner = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate isn't trusted ({inner.verify_message})"
        if isinstance(inner, OSError) and inner.strerror and not isinstance(inner, requests.RequestException):
            return inner.strerror.lower()
        inner = inner.__context__
    return redact(str(error)).rstrip(".")


def hint(registry: str, error: BaseException | None) -> str:
    """Return the hint for a failed request."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "Put the certificate of its authority where engines look for it:"
            f" /etc/docker/certs.d/{registry}/ca.crt; or name a bundle in REQUESTS_CA_BUNDLE."
        )
    return "Check the registry's name, the network, and the proxy (HTTPS_PROXY, NO_PROXY)."
