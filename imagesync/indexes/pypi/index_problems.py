"""Problems of indexes: no answer, an untrusted certificate, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from imagesync.core.credentials import redact, strip_credentials
from imagesync.errors import LockError
from imagesync.indexes.pypi.access import get, open_session
from imagesync.indexes.pypi.index_configuration import PYPI, binding_of

if TYPE_CHECKING:
    import requests

    from imagesync.indexes.pypi.access import Access
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

REFUSALS: Final = frozenset({401, 403, 407})
"""HTTP statuses of an index or a proxy that requires authentication."""
WITHOUT_INDEX: Final = (
    "To take everything as it is installed here and ask no index: PIP_NO_INDEX=1 imagesync build"
)


@dataclass(frozen=True)
class IndexProblem:
    """An index that can't be used.

    Parameters
    ----------
    url
        Without credentials.
    reason
        The predicate of a sentence about the URL: ``doesn't answer (connection refused)``.
    hint
        The way to solve it.
    refuses
        It answers, and requires another user name or password.
    """

    url: str
    reason: str
    hint: str
    refuses: bool = False


def find_problems(indexes: IndexConfiguration, project: str, access: Access) -> tuple[IndexProblem, ...]:
    """Return the problems of the configured indexes and find-links pages, or of PyPI if there are none.

    A server error (500 and above) is a problem; a missing project isn't. A refusal is a problem only if
    *project* comes from that index.

    Parameters
    ----------
    indexes
        The configured indexes.
    project
        The project to ask for.
    access
        Their credentials, certificates and proxy.
    """
    pages = {url: url for url in map(strip_credentials, indexes.find_links)}
    asked = set(pages)
    if not indexes.no_index:
        # An index isn't asked for packages that are bound to another one.
        for bound in reversed(indexes.bound):
            page = project if "*" in bound.package else bound.package
            pages |= {url: _page(url, page) for url in bound.public_urls}
        urls = indexes.public_urls or (PYPI,)
        binding = binding_of(indexes.bound, project)
        pages |= {url: _page(url, project if binding is None else "pip") for url in urls}
        if binding is not None:
            pages |= {url: _page(url, project) for url in binding.public_urls}
        asked |= set(urls if binding is None else binding.public_urls)
    found = _problems(pages, indexes, access)
    return tuple(problem for problem in found if problem.url in asked or not problem.refuses)


def _page(url: str, project: str) -> str:
    return f"{url.rstrip('/')}/{project}/"


def _says_missing(url: str, status: int, indexes: IndexConfiguration) -> bool:
    """Return True if the index means by the HTTP *status* that it doesn't have the project."""
    options = indexes.options.get(url)
    if options is not None and status in options.ignore_error_codes:
        return True
    # So does uv (crates/uv-client/src/base_client.rs): PyTorch's index refuses what it doesn't have.
    return status == 403 and f".{urlsplit(url).hostname}".endswith(".pytorch.org")


def _problems(pages: dict[str, str], indexes: IndexConfiguration, access: Access) -> Iterator[IndexProblem]:
    from requests.exceptions import RequestException, SSLError

    network = f"Look at the network, and at the URLs in {access.wording.settings}.\n{WITHOUT_INDEX}"
    with open_session(access) as session:
        for url, page in pages.items():
            if urlsplit(url).scheme not in {"http", "https"}:
                continue
            try:
                with get(session, page, access=access) as response:
                    if _says_missing(url, response.status_code, indexes):
                        continue
                    if response.status_code in REFUSALS:
                        yield IndexProblem(url, refusal(response), refusal_hint(url, access), refuses=True)
                    elif response.status_code >= 500:
                        yield IndexProblem(url, f"is out of order (HTTP {response.status_code})", network)
            except SSLError as error:
                yield IndexProblem(url, untrusted(error), certificate_hint(access))
            except RequestException as error:
                yield IndexProblem(url, f"doesn't answer ({innermost(error)})", network)


def unusable(problems: Sequence[IndexProblem]) -> LockError:
    """Return the error for indexes without which nothing can be locked."""
    if len(problems) == 1:
        message = f"The index {problems[0].url} {problems[0].reason}."
    else:
        message = "\n".join(
            ("None of the indexes can be used:", *(f"- {each.url} {each.reason}" for each in problems))
        )
    return LockError(message, hint="\n".join(dict.fromkeys(each.hint for each in problems)))


def refusal(response: requests.Response) -> str:
    """Return the problem of an index that refuses to answer, as the predicate of a sentence."""
    status = response.status_code
    if status == 407:
        return "can't be reached: the proxy wants a user name and a password (HTTP 407)"
    if "Authorization" in response.request.headers:
        return f"refuses the user name and password that it gets (HTTP {status})"
    return f"refuses to answer without a user name and a password (HTTP {status})"


def refusal_hint(url: str, access: Access) -> str:
    """Return the hint for a refusal: the places where credentials for *url* are looked for."""
    looked = f"They were looked for in {access.wording.logins}."
    if access.wording.place != "index":
        return f"{looked} Put them there, or correct them."
    if access.keyring is None:
        looked += (
            " Keyring wasn't asked: it isn't installed, or not enabled (uv: keyring-provider = 'subprocess')."
        )
    host = urlsplit(url).hostname
    return f"{looked} Put them there, such as into ~/.netrc: machine {host} login NAME password PASSWORD"


def untrusted(error: BaseException) -> str:
    """Return the problem of a TLS connection, as the predicate of a sentence."""
    # OpenSSL adds the line of its own source.
    reason = re.sub(r"^\[SSL[^\]]*\] |certificate verify failed: | \(_ssl\.c:\d+\)\.?$", "", innermost(error))
    if "certificate" in reason.lower():
        return f"has a certificate that isn't trusted ({reason})"
    return f"can't be spoken to by TLS ({reason})"


def certificate_hint(access: Access) -> str:
    """Return the hint for an untrusted certificate: the setting that names a CA bundle."""
    if access.ca_bundle:
        return f"Add its authority's certificate to {access.ca_bundle}, which is all that is trusted now."
    return f"Name your company's certificates: {access.wording.certificate}."


def innermost(error: BaseException) -> str:
    """Return the innermost cause as one line; the outer ones repeat it, with addresses of objects."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?", "", str(error)) or type(error).__name__
    return redact(text.splitlines()[0])
