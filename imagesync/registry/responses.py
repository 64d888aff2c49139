"""What registries answer when they don't give what was asked for, in words for a person."""

from __future__ import annotations

import ssl

import requests

from imagesync.core.credentials import redact
from imagesync.errors import RegistryError


def refused(registry: str, doing: str, answer: requests.Response) -> RegistryError:
    """Return the error for an answer that isn't the one hoped for.

    Parameters
    ----------
    doing
        What was tried, to follow "doesn't let you": ``push to team/env``.
    """
    said = explanation(answer)
    if answer.status_code in {401, 403}:
        return RegistryError(
            f"The registry {registry} doesn't let you {doing}: {said} (HTTP {answer.status_code}).",
            hint=f"Log in with an account that may: `docker login {registry}`; or correct the image's name.",
        )
    return RegistryError(
        f"The registry {registry} fails to {doing}: {said} (HTTP {answer.status_code}).",
        hint="Try again; if it stays so, ask those who run the registry.",
    )


def explanation(answer: requests.Response) -> str:
    """Return a registry's own words (OCI distribution specification, "Error Codes"), in one line."""
    try:
        content = answer.json()
        errors = content.get("errors") or [content]
        words = [str(entry.get("message") or entry.get("details") or entry.get("code")) for entry in errors]
        said = ", ".join(dict.fromkeys(words))
    except (ValueError, AttributeError, TypeError):
        said = answer.text[:200].strip() if "html" not in answer.headers.get("Content-Type", "") else ""
    return " ".join(redact(said or answer.reason or "no explanation").split()).rstrip(".")


def reason(error: BaseException | None) -> str:
    """Return why a request has no answer, without the layers of exceptions that it is wrapped in."""
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
    """Return what to do about a request without an answer."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "Put its authority's certificate where engines look for it too:"
            f" /etc/docker/certs.d/{registry}/ca.crt; or name a bundle in REQUESTS_CA_BUNDLE."
        )
    return "Check the registry's name, the network, and the proxy (HTTPS_PROXY, NO_PROXY)."
