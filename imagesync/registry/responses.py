"""Error responses of registries, as messages."""

from __future__ import annotations

import ssl

import requests

from imagesync.core.credentials import redact
from imagesync.errors import RegistryError


def refused(registry: str, action: str, response: requests.Response) -> RegistryError:
    """Return the error for an unexpected response.

    Parameters
    ----------
    registry
        Its host.
    action
        What was tried, to follow "doesn't let you": ``push to team/env``.
    response
        The registry's, or its token service's.
    """
    message = explanation(response)
    if response.status_code in {401, 403}:
        return RegistryError(
            f"The registry {registry} doesn't let you {action}: {message} (HTTP {response.status_code}).",
            hint=f"Log in with an account that may: `docker login {registry}`; or correct the image's name.",
        )
    return RegistryError(
        f"The registry {registry} fails to {action}: {message} (HTTP {response.status_code}).",
        hint="Try again; if it stays so, ask those who run the registry.",
    )


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
    """Return why a request got no response, from the innermost exception."""
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
    """Return the hint for a request without a response."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "Put its authority's certificate where engines look for it too:"
            f" /etc/docker/certs.d/{registry}/ca.crt; or name a bundle in REQUESTS_CA_BUNDLE."
        )
    return "Check the registry's name, the network, and the proxy (HTTPS_PROXY, NO_PROXY)."
