"""Access to artifacts over HTTP: credentials by URL, certificates, proxy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from imagesync.core.limits import SILENCE

if TYPE_CHECKING:
    import requests
    from requests.auth import AuthBase

_KEYRING_SECONDS = 30


@dataclass(frozen=True)
class Credential:
    """A login at an index.

    Parameters
    ----------
    url
        The URL of the index, without credentials; they are sent only to its scheme, host and port.
    username
        ``None`` if none is configured.
    password
        ``None`` if only a user name is configured: keyring may have it.
    keyring_services
        Service names in keyring besides the index's URL and host.
    username_in_keyring
        Ask keyring without a user name, too: it has both.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    keyring_services: tuple[str, ...] = ()
    username_in_keyring: bool = False


@dataclass(frozen=True)
class Wording:
    """The terms of hints for the user's configuration.

    Parameters
    ----------
    place
        An index, or a channel.
    settings
        The configuration of URLs, certificates and proxies.
    logins
        The sources of user names, passwords and tokens.
    certificate
        The command or variable that sets a CA bundle.
    """

    place: str = "index"
    settings: str = "`pip config list`"
    logins: str = "the index URLs in pip's configuration, netrc and keyring"
    certificate: str = "`pip config set global.cert /path/to/ca.pem`"


@dataclass(frozen=True)
class Access:
    """The parameters of connections to indexes or channels.

    Parameters
    ----------
    credentials
        The logins of the configured indexes, in their order.
    ca_bundle
        A PEM file to trust instead of the system's authorities; ``None`` for these.
    client_certificate
        A PEM file with certificate and key, or two files.
    trusted_hosts
        ``host`` or ``host:port`` whose certificate isn't checked.
    proxy
        The proxy's URL; ``None`` for that of the environment variables.
    timeout
        In seconds, for connecting and for each gap in a response.
    keyring
        The ``keyring`` executable, or ``None``.
    tokens
        Conda channels with a token in the path: the channel's URL without and with it
        (``https://conda.example.com/team``, ``https://conda.example.com/t/<token>/team``).
    bearers
        Channels with a token in a header: the channel's URL, and the token.
    mirrors
        The beginning of a URL, and its replacements in the order to try.
    wording
        The terms of hints.
    """

    credentials: tuple[Credential, ...] = ()
    ca_bundle: str | None = None
    client_certificate: str | tuple[str, str] | None = None
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    timeout: float = SILENCE
    keyring: str | None = None
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    bearers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    wording: Wording = field(default_factory=Wording)

    def places(self, url: str) -> tuple[str, ...]:
        """Return the URLs of the file of *url* in the order to try; only *url* if it has no mirrors.

        >>> Access(mirrors=(("https://a/x", ("https://b/x", "https://a/x")),)).places("https://a/x/f")
        ('https://b/x/f', 'https://a/x/f')
        """
        matching = [pair for pair in self.mirrors if url.startswith(f"{pair[0]}/")]
        if not matching:
            return (url,)
        beginning, places = max(matching, key=lambda pair: len(pair[0]))
        return tuple(place + url.removeprefix(beginning) for place in places)

    def bearer(self, url: str) -> str | None:
        """Return the bearer token for *url*, or ``None``."""
        matching = [pair for pair in self.bearers if url.startswith(f"{pair[0].rstrip('/')}/")]
        return max(matching, key=lambda pair: len(pair[0]))[1] if matching else None

    def with_token(self, url: str) -> str:
        """Return *url* with the token of its channel, if there is one."""
        matching = [pair for pair in self.tokens if url.startswith(f"{pair[0].rstrip('/')}/")]
        if not matching:
            return url
        public, private = (part.rstrip("/") for part in max(matching, key=lambda pair: len(pair[0])))
        return private + url.removeprefix(public)

    def authentication(self, url: str) -> tuple[str, str] | None:
        """Return user name and password for *url* from the configured indexes, or ``None``."""
        for credential in self._matching(url):
            if credential.username is not None and credential.password is not None:
                return credential.username, credential.password
            if credential.username is not None and self.keyring is None:
                # A token in the place of the user name.
                return credential.username, ""
        return None

    def ask_keyring(self, url: str) -> tuple[str, str] | None:
        """Return user name and password for *url* from keyring, or ``None``.

        Like pip, by the index's URL first, then by its host, with the user name in the index's URL.
        """
        if self.keyring is None:
            return None
        for credential in self._matching(url):
            if credential.username is None and not credential.username_in_keyring:
                continue
            host = urlsplit(credential.url).netloc
            for service in (*credential.keyring_services, credential.url, host):
                if (found := _from_keyring(self.keyring, service, credential.username)) is not None:
                    return found
        return None

    def _matching(self, url: str) -> Iterator[Credential]:
        asked = urlsplit(url)
        same = [c for c in self.credentials if _origin(urlsplit(c.url)) == _origin(asked)]
        # Several indexes on one host differ in the path that they share with the file.
        yield from sorted(same, key=lambda c: -_shared_path(urlsplit(c.url).path, asked.path))


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _shared_path(one: str, other: str) -> int:
    shared = 0
    for left, right in zip(one.strip("/").split("/"), other.strip("/").split("/"), strict=False):
        if left != right:
            break
        shared += 1
    return shared


def _from_keyring(executable: str, service: str, username: str | None) -> tuple[str, str] | None:
    """Return user name and password from keyring; without *username* it returns both."""
    question = ["--", service, username] if username is not None else ["--mode", "creds", "--", service]
    try:
        found = subprocess.run(
            [executable, "get", *question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_KEYRING_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode != 0 or not found.stdout.strip():
        return None
    if username is not None:
        return username, found.stdout.rstrip("\r\n")
    name, _, password = found.stdout.rstrip("\r\n").partition("\n")
    return (name.rstrip("\r"), password) if password else None


def open_session(access: Access) -> requests.Session:
    """Return an HTTP session with the certificates of *access*; netrc is read, as by pip."""
    import requests

    from imagesync.core.steady_responses import SteadyAdapter
    from imagesync.core.tls import TLSAdapter

    session = requests.Session()
    session.mount("http://", SteadyAdapter())
    session.mount("https://", TLSAdapter() if access.ca_bundle is None else SteadyAdapter())
    for host in access.trusted_hosts:
        for end in ("/",) if ":" in host else ("/", ":"):
            session.mount(f"https://{host}{end}", TLSAdapter(check=False))
    session.cert = access.client_certificate
    # Artifacts are compressed already, and the digest is that of the file on the server.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _bearer(token: str) -> AuthBase:
    from requests import PreparedRequest
    from requests.auth import AuthBase

    class Bearer(AuthBase):
        def __call__(self, request: PreparedRequest) -> PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

    return Bearer()


def get(
    session: requests.Session, url: str, *, access: Access, headers: dict[str, str] | None = None
) -> requests.Response:
    """Return the streamed response to a GET of *url*.

    Keyring is asked after a 401. On a redirect to another host, requests drops the credentials.

    Raises
    ------
    requests.RequestException
        There is no response, or it redirects to what is no URL.
    """
    from requests.exceptions import InvalidURL, RequestException

    def send(authentication: tuple[str, str] | AuthBase | None) -> requests.Response:
        try:
            return session.get(
                access.with_token(url),
                stream=True,
                auth=authentication,
                headers=headers,
                timeout=access.timeout,
                proxies={"http": access.proxy, "https": access.proxy} if access.proxy else None,
                verify=access.ca_bundle or True,
            )
        except RequestException:
            raise
        except ValueError as error:
            raise InvalidURL(f"{error}, to which it redirects") from error

    token = access.bearer(url)
    response = send(access.authentication(url) if token is None else _bearer(token))
    if response.status_code == 401 and (found := access.ask_keyring(url)) is not None:
        response.close()
        response = send(found)
    return response
