"""Specifiers: from an installed version to the versions that the image may hold.

Distributions have specifiers of PEP 440, conda packages have match specs
(https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html#package-match-specifications).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.version import Version

from imagesync.core.names import MOST_LETTERS

_SERIES = re.compile(r"(?:\d+!)?\d+\.\d+\.\d+[a-z0-9]*(?:\.[a-z0-9]+)*", re.IGNORECASE)
# Versions become parts of requirements, of file names and of messages.
_ARBITRARY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!*~-]*")


def parse_version(text: str) -> Version | None:
    """Return *text* as a version, or ``None`` if it isn't valid under PEP 440.

    >>> parse_version("1.04")
    <Version('1.4')>
    >>> parse_version("2004d-final") is None
    True
    """
    try:
        return Version(text)
    except ValueError:  # InvalidVersion, or more digits than Python reads
        return None


def exact(version: Version) -> str:
    """Return the specifier that admits *version* alone, with its local label.

    >>> exact(Version("2.1.0+cu121"))
    '==2.1.0+cu121'
    """
    return f"=={version}"


def compatible(version: Version) -> str:
    """Return the compatible-release specifier (PEP 440 ``~=``) for *version*.

    Versions of fewer than three components are pinned, because ``~=2.2`` would admit every version below 3.
    A local label is dropped, because ``~=`` takes none. Pre-releases are admitted only if *version* is one,
    because a specifier admits them only if it names one.

    >>> compatible(Version("1.4.3"))
    '~=1.4.3'
    >>> compatible(Version("2.2"))
    '==2.2'
    >>> compatible(Version("2.1.0+cu121"))
    '~=2.1.0'
    >>> compatible(Version("1!2.0.0rc1"))
    '~=1!2.0.0rc1'
    """
    return f"{'~=' if len(version.release) > 2 else '=='}{version.public}"


def arbitrary(version: str) -> str | None:
    r"""Return the specifier that compares *version* as a string, or ``None`` if no specifier can express it.

    >>> arbitrary("2004d-final")
    '===2004d-final'
    >>> arbitrary("1.0\x1b[31mRED") is None, arbitrary("1.0$HOME") is None, arbitrary("1'") is None
    (True, True, True)
    >>> arbitrary("1.0 (beta)") is None, arbitrary("--pre") is None, arbitrary("1/../../x") is None
    (True, True, True)
    """
    return f"==={version}" if len(version) <= MOST_LETTERS and _ARBITRARY.fullmatch(version) else None


def nearest_releases(version: Version) -> Iterator[str]:
    """Yield specifiers for versions other than *version*, nearest first: its series, then older, then newer.

    >>> list(nearest_releases(Version("1.26.4")))
    ['==1.26.*', '==1.*,<1.26.4', '==1.*', '<1.26.4', '']
    """
    epoch = f"{version.epoch}!" if version.epoch else ""
    yield f"=={epoch}{version.major}.{version.minor}.*"
    yield f"=={epoch}{version.major}.*,<{version.public}"
    yield f"=={epoch}{version.major}.*"
    yield f"<{version.public}"
    yield ""


def conda_exact(version: str) -> str:
    """Return the version specifier of a match spec that admits *version* alone.

    >>> conda_exact("1.1.1w")
    '==1.1.1w'
    """
    return f"=={version}"


def conda_compatible(version: str) -> str:
    """Return the version specifier of a match spec that admits later fixes of the same release series.

    As for distributions, versions of fewer than three components are pinned: they name no series, and many
    aren't numbers at all. A local label is dropped.

    >>> conda_compatible("3.2.1"), conda_compatible("1.1.1w"), conda_compatible("2.1.0+cu121")
    ('~=3.2.1', '~=1.1.1w', '~=2.1.0')
    >>> conda_compatible("2024a"), conda_compatible("9e"), conda_compatible("2.40")
    ('==2024a', '==9e', '==2.40')
    """
    public = version.partition("+")[0]
    return f"~={public}" if _SERIES.fullmatch(public) else f"=={version}"
