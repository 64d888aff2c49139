"""Reading ``requirements.txt`` with hashes, as pip-compile, uv, poetry and imagesync write it.

Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from imagesync.core.credentials import redact, strip_credentials_in
from imagesync.core.names import canonical_name
from imagesync.errors import LockError, UsageError
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.lockfile.lock_entries import (
    EntryUrls,
    check_entry,
    local_package,
    marker_values,
    refuse_choice,
    refuse_duplicates,
    version_of,
)
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, read_text
from imagesync.plan.requirements import applies, parse_requirement
from imagesync.scan.environment import Source

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_HASH = re.compile(r"\s--hash(?:=|\s+)(\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
# Options that say where packages are, which the user's own configuration says.
_OF_INDEXES = re.compile(
    r"(-[if])\s*(\S+)|(--(?:index-url|extra-index-url|find-links|trusted-host))(?:=|\s+)(\S+)|(--no-index)\b"
)
# Options that change nothing where each package has a version and digests.
_OF_FORM = re.compile(r"--(prefer-binary|pre|no-binary|only-binary|require-hashes|use-feature)\b")
_REMEDY = "uv pip compile --generate-hashes requirements.in -o requirements.txt"


def read(request: ReadRequest) -> ReadLock:
    """Return the lock of a requirements file with hashes; an index has to say whose they are."""
    path = request.path
    for what, names in (
        ("group", request.selection.groups),
        ("extra", request.selection.extras),
        ("environment", (request.selection.environment,) if request.selection.environment else ()),
    ):
        refuse_choice(path, what, names)
    text, urls = read_text(path), EntryUrls(path, request.environ)
    packages, vendored, hashes = [], [], {}
    for requirement, digests in _requirements(path, text):
        if requirement.marker is not None and not applies(requirement, _markers(request)):
            continue
        name, version = canonical_name(requirement.name), _version(path, requirement)
        check_entry(path, name, version)
        if not requirement.url:
            packages.append(LockedPackage(name, version, Artifact("", "", "")))
            hashes[name] = digests
            continue
        if len(digests) > 1:
            raise LockError(
                f"{path}: {name} has {len(digests)} digests, and its URL names one file.",
                hint="Keep the digest of that file.",
            )
        artifact = urls.artifact(name, requirement.url, *digests)
        if artifact.is_wheel:
            source = Source("archive", url=artifact.url, hash=artifact.digest)
            vendored.append(local_package(name, version_of(artifact.filename), source))
        else:
            packages.append(LockedPackage(name, version, artifact))
    refuse_duplicates(path, [*(p.name for p in packages), *(p.name for p in vendored)])
    if not packages and not vendored:
        raise UsageError(
            f"{path} isn't a lock file that imagesync knows: it names no package.",
            hint="It reads conda-lock.yml, pylock.toml, uv.lock, pixi.lock, explicit files and requirements "
            "with hashes.",
        )
    lock = Lock(
        target=Target(request.platform, "", (0, 0)),
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        vendored=tuple(sorted(vendored, key=lambda package: package.name)),
    )
    return ReadLock(
        path=path,
        lock=lock,
        private=urls.private,
        hashes=hashes,
        is_pip_only=True,
        index_options=tuple(_index_options(text)),
    )


def _markers(request: ReadRequest) -> dict[str, str]:
    return cast("dict[str, str]", marker_values(request.target()))


def _requirements(path: Path, text: str) -> Iterator[tuple[Requirement, frozenset[str]]]:
    """Yield each requirement with its sha256 digests; every line is one, or an option about indexes."""
    for line in _logical_lines(text):
        if line.startswith("-"):
            _check_option(path, line)
            continue
        digests = frozenset(found.lower() for found in _HASH.findall(line))
        requirement = parse_requirement(_HASH.sub("", line).strip())
        if requirement is None:
            raise UsageError(
                f"{path} isn't a lock file that imagesync can read: {redact(line)[:80]!r} is no requirement.",
                hint="It reads conda-lock.yml, pylock.toml, uv.lock, pixi.lock, explicit files and "
                "requirements with hashes.",
            )
        if requirement.url and (match := re.search(r"#(?:.*&)?sha256=([0-9a-f]{64})", requirement.url)):
            digests = frozenset({f"sha256:{match[1]}"})
        strong = frozenset(digest for digest in digests if _SHA256.fullmatch(digest))
        if not strong:
            raise LockError(
                f"{path}: {requirement.name} has no sha256, so what an index gives can't be checked.",
                hint=f"Write it with hashes: {_REMEDY}. Or solve it now: imagesync lock --from {path} -o "
                "pylock.toml",
            )
        yield requirement, strong


def _logical_lines(text: str) -> Iterator[str]:
    parts: list[str] = []
    for line in text.splitlines():
        bare = _COMMENT.sub("", line) if not parts or not line.lstrip().startswith("#") else ""
        parts.append(bare.rstrip().removesuffix("\\"))
        if bare.rstrip().endswith("\\"):
            continue
        joined = " ".join(part.strip() for part in parts).strip()
        parts = []
        if joined:
            yield joined
    if joined := " ".join(part.strip() for part in parts).strip():
        yield joined


def _index_options(text: str) -> Iterator[str]:
    """Yield the options that say where packages are, each with its value, without credentials."""
    for line in _logical_lines(text):
        if line.startswith("-") and (match := _OF_INDEXES.match(line)):
            yield strip_credentials_in(" ".join(filter(None, match.groups())))


def _check_option(path: Path, line: str) -> None:
    if _OF_INDEXES.match(line) or _OF_FORM.match(line):
        return
    option = line.split("=", maxsplit=1)[0].split(maxsplit=1)[0]
    raise UsageError(
        f"{path} has the option {option[:40]}, and a lock file names each package itself.",
        hint=f"Compile it into one file with hashes: {_REMEDY}",
    )


def _version(path: Path, requirement: Requirement) -> str:
    if requirement.url:
        return ""
    pins = [each.version for each in requirement.specifier if each.operator in ("==", "===")]
    if len(pins) != 1 or len(requirement.specifier) != 1 or pins[0].endswith("*"):
        raise LockError(
            f"{path}: {requirement} isn't pinned to one version.", hint=f"Write it with hashes: {_REMEDY}"
        )
    return pins[0]
