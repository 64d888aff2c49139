"""What responses of a registry say: its message, when to try again, and the error for a refusal."""

from __future__ import annotations

import ssl

import requests
import urllib3.exceptions

from imagesync.core.credentials import redact
from imagesync.core.strict_json import load_json
from imagesync.errors import RegistryError

_MESSAGES = ("message", "details", "code")
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


def refusal(registry: str, action: str, response: requests.Response) -> RegistryError:
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
            f"The registry {registry} doesn't let you {action}: {message} (HTTP {status}).",
            hint=f"Log in with an account that has the permission: `docker login {registry}`;"
            " or correct the image's name.",
        )
    if status == 429:
        return RegistryError(
            f"The registry {registry} limits how often you may {action}: {message} (HTTP 429).",
            hint=f"Wait, or log in, which raises the limit with most registries: `docker login {registry}`.",
        )
    return RegistryError(
        f"The registry {registry} fails to {action}: {message} (HTTP {status}).",
        hint="Try again; if the error persists, ask the operator of the registry.",
    )


def is_dropped(error: BaseException) -> bool:
    """Return True if a connection that had been made was lost, so that another one may hold."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (ssl.SSLCertVerificationError, urllib3.exceptions.NewConnectionError)):
            return False
        seen = seen.__cause__ or seen.__context__
    return isinstance(
        error,
        (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            urllib3.exceptions.HTTPError,
            ConnectionError,
            TimeoutError,
        ),
    ) and not isinstance(
        error, (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    )


def explanation(response: requests.Response) -> str:
    """Return a registry's own message (OCI distribution specification, "Error Codes"), in one line."""
    is_page = "html" in response.headers.get("Content-Type", "")
    try:
        content = load_json(response.content)
    except ValueError:
        message = "" if is_page else response.text[:200].strip()
    else:
        entries = content.get("errors") or [content] if isinstance(content, dict) else []
        texts = (
            next((entry[key] for key in _MESSAGES if entry.get(key)), "")
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict)
        )
        message = ", ".join(dict.fromkeys(str(text)[:1000] for text in texts if text))
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
