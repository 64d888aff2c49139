"""HTTP authentication: what a registry asks for, and a session that keeps credentials with their host.

The session reads no more of an answer than it may have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import requests

from imagesync.core.credentials import redact
from imagesync.core.limits import TooMuch, TooSlow, arriving, bounded
from imagesync.errors import RegistryError
from imagesync.registry.manifest import MAX_MANIFEST

# RFC 9110, section 11.6.1: a header may hold several challenges, of which each has parameters.
_CHALLENGE = re.compile(r'(?i)\b(bearer|basic)\b((?:\s*,?\s*[a-z_]+=(?:"[^"]*"|[^\s",]+))*)')
_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"([^"]*)"|([^\s",]+))')


class Authorization(requests.auth.AuthBase):
    """Sets the ``Authorization`` header, and keeps requests from reading netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Return *request* with the header."""
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class Session(requests.Session):
    """A session whose redirects carry no credentials to another host, not even those of netrc.

    Answers that the caller doesn't stream are read up to the size of the largest manifest.

    Parameters
    ----------
    insecure
        Whether redirects may lead from TLS to plain HTTP.
    """

    def __init__(self, *, insecure: bool = False) -> None:
        super().__init__()
        self._insecure = insecure
        self.hooks["response"].append(_read)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a response redirects to, or ``None``."""
        target: str | None = super().get_redirect_target(resp)
        if target is not None:
            try:
                leads_to = urljoin(resp.url, target)
            except ValueError as error:
                resp.close()
                raise requests.exceptions.InvalidURL(f"it redirects to {redact(target)!r}") from error
            if self._insecure:
                return target
            if urlsplit(resp.url).scheme == "https" and urlsplit(leads_to).scheme != "https":
                resp.close()
                raise requests.exceptions.InvalidURL(f"it redirects to {redact(leads_to)!r}, without TLS")
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove the credentials if the redirect leads to another host."""
        before = response.request.url or ""
        after = prepared_request.url or ""
        if self.should_strip_auth(before, after):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def _read(response: requests.Response, *_: object, stream: bool = False, **__: object) -> None:
    """Read the body of a response, unless the caller does: a document, or a refusal."""
    if stream and response.ok and not response.is_redirect:
        return
    content = bytearray()
    try:
        for chunk in bounded(arriving(response, decode=True), most=MAX_MANIFEST):
            content += chunk
    except TooMuch as error:
        response.close()
        raise RegistryError(
            f"{urlsplit(response.url).netloc} answers with more than the {MAX_MANIFEST} bytes that a"
            " manifest, a token or a message may have.",
            hint="Check the registry's name.",
        ) from error
    except TooSlow as error:
        response.close()
        raise requests.ReadTimeout(error) from error
    # There is no public way: requests itself reads without a limit.
    response._content = bytes(content)


def challenges(headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the parameters of each authentication scheme in the headers of a 401.

    >>> challenges({"WWW-Authenticate": 'Bearer realm="https://a.example/token",service="r"'})
    {'bearer': {'realm': 'https://a.example/token', 'service': 'r'}}
    >>> challenges({"WWW-Authenticate": 'Basic realm="registry", charset="UTF-8"'})
    {'basic': {'realm': 'registry', 'charset': 'UTF-8'}}
    """
    return {
        scheme.lower(): {
            key.lower(): quoted or plain for key, quoted, plain in _PARAMETER.findall(parameters)
        }
        for scheme, parameters in _CHALLENGE.findall(headers.get("WWW-Authenticate", ""))
    }
