"""HTTP to one registry: TLS as the engine does it, and the token dance.

Not by ``oras``, whose client takes no identity tokens, and reports what a registry says as log lines.

Source: the OCI distribution specification 1.1; for tokens
https://distribution.github.io/distribution/spec/auth/.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from imagesync.core.credentials import redact
from imagesync.errors import RegistryError
from imagesync.registry.certificates import ContextAdapter, is_loopback, tls_context
from imagesync.registry.responses import hint, reason, refused

TIMEOUT = (5.0, 30.0)
"""Seconds to wait for a connection, and for each gap in an answer."""
_DOCKER_HUB = "registry-1.docker.io"
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
        As :func:`imagesync.registry.login.registry_credentials` gives them; sent only to the registry
        itself, and to the token service that it names.
    insecure
        Whether certificates aren't checked, and plain HTTP will do. Engines treat loopback like that.
    """

    def __init__(self, registry: str, credentials: Mapping[str, Any], *, insecure: bool = False) -> None:
        self.registry = registry
        self._host = _DOCKER_HUB if registry == "docker.io" else registry
        self._credentials = credentials
        self._insecure = insecure or is_loopback(registry)
        self._session = _Session()
        self._session.headers["User-Agent"] = "imagesync"
        self._session.mount("https://", ContextAdapter(tls_context(registry, check=not self._insecure)))
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
        """Return the answer to a request, whatever its status.

        Parameters
        ----------
        path
            Below the registry, such as ``/v2/team/env/manifests/1``, or a whole URL that it answered with.
        scope
            What a token has to allow, such as ``repository:team/env:pull``.

        Raises
        ------
        RegistryError
            Nobody answers, or the token service refuses.
        """
        answer = self._send(method, path, scope, headers, data)
        challenges = _challenges(answer.headers) if answer.status_code == 401 else {}
        # Whoever a registry redirects to is not asked whom to send a password.
        if challenges and self._is_own(answer.url):
            authorization = self._authorize(challenges, scope)
            if authorization is not None:
                self._authorizations[scope] = authorization
                answer = self._send(method, path, scope, headers, data)
        return answer

    def _send(
        self, method: str, path: str, scope: str, headers: Mapping[str, str] | None, data: bytes
    ) -> requests.Response:
        last: Exception | None = None
        for scheme in self._schemes():
            url = urljoin(f"{scheme}://{self._host}", path)
            authorization = self._authorizations.get(scope) if self._is_own(url) else None
            try:
                answer = self._fetch(method, url, authorization, headers, data)
            except requests.RequestException as error:
                last = error
            else:
                self._scheme = scheme
                return answer
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
        data: bytes = b"",
        **options: Any,  # noqa: ANN401  as in requests
    ) -> requests.Response:
        with warnings.catch_warnings():
            # That the certificate of an insecure registry isn't checked is what the user configured.
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            return self._session.request(
                method,
                url,
                headers=headers,
                data=data or None,
                auth=_Authorization(authorization),
                timeout=TIMEOUT,
                verify=False if self._insecure else None,
                **options,
            )

    def _authorize(self, challenges: Mapping[str, Mapping[str, str]], scope: str) -> str | None:
        """Return the header that answers a challenge, or ``None`` where there is nothing to answer with."""
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
            # Else whoever answers for the registry could have the password sent in the clear.
            raise RegistryError(
                f"The registry {self.registry} wants the password sent to {redact(realm)!r}, without TLS."
            )
        wanted = {"scope": scope, "service": challenge.get("service", ""), "client_id": "imagesync"}
        try:
            if identity := self._credentials.get("identitytoken"):
                form = {**wanted, "grant_type": "refresh_token", "refresh_token": identity}
                answer = self._session.post(realm, data=form, auth=_Authorization(None), timeout=TIMEOUT)
            else:
                answer = self._fetch("GET", realm, self._basic(), params=wanted)
            content = answer.json() if answer.ok else {}
        except requests.RequestException as error:
            raise RegistryError(
                f"The token service of {self.registry} can't be used: {reason(error)}.",
                hint=hint(self.registry, error),
            ) from error
        token = content.get("token") or content.get("access_token") if isinstance(content, dict) else None
        if not token:
            raise refused(self.registry, "log in", answer)
        return str(token)


class _Authorization(requests.auth.AuthBase):
    """One header; with it requests doesn't look into netrc, which isn't meant for registries."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class _Session(requests.Session):
    """A session whose redirects carry no credentials to another host, those of netrc included."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        before = response.request.url or ""
        after = prepared_request.url or ""
        if self.should_strip_auth(before, after):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def _challenges(headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the parameters of each scheme that a 401 asks for.

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
