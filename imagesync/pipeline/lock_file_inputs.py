"""A lock file in the place of an environment: nothing is scanned, and nothing solved.

Its image is named by the lock file's own content, so that a build that finds its image reads the file and no
more of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import Level
from imagesync.errors import UsageError
from imagesync.pipeline.environment_hash import FORMAT_VERSION, Foundation
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.plan.profiles import load_profiles
from imagesync.scan.environment import Environment, Interpreter

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.core.progress import Progress
    from imagesync.image_layout import BaseImage
    from imagesync.indexes.pypi.access import Access
    from imagesync.lock.lock import Lock
    from imagesync.lock.lockfile.read import ReadLock
    from imagesync.pipeline.artifact_sources import Workshop
    from imagesync.plan.loose_code import Code
    from imagesync.settings import Settings

_PLATFORM = "linux/amd64"
_REASON = "The lock file says so."


@dataclass(frozen=True)
class LockedBuild:
    """What a build knows of its lock file without an engine and without a network.

    Parameters
    ----------
    code
        What goes in of code that no package owns; it isn't part of the lock file.
    """

    path: Path
    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    code: Code

    @cached_property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` of the lock file, whatever ends its lines.

        Raises
        ------
        UsageError
            It can't be read.
        """
        try:
            content = self.path.read_bytes().replace(b"\r\n", b"\n")
        except OSError as error:
            raise UsageError(
                f"The lock file {self.path} can't be read: {error.strerror}.",
                hint=f"Write one: imagesync lock -o {self.path}",
            ) from error
        return "sha256:" + hashlib.sha256(content).hexdigest()

    @cached_property
    def read(self) -> ReadLock:
        """Return what the lock file has for the image's platform."""
        from imagesync.lock.lockfile.read import read_lock

        return read_lock(self.path, platform=_PLATFORM, environ=self.environ)

    @property
    def contents(self) -> Mapping[NormalizedName, str]:
        """Return for each wheel that the lock file brings the digest of what it was made from."""
        return {package.name: package.content for package in self.read.lock.vendored}

    @cached_property
    def environment(self) -> Environment:
        """Return an environment of which only the interpreter's version is known."""
        return Environment(self.plan.python, ())

    @cached_property
    def plan(self) -> Plan:
        """Return what the lock file says as a plan."""
        from imagesync.lock.lockfile.read import planned_packages

        lock, head = self.read.lock, self.read.custom_metadata.head
        version = self.read.interpreter_version
        names = {*(p.name for p in lock.packages), *(p.name for p in lock.vendored)}
        names |= {name for package in lock.conda for name in package.distributions}
        names |= {_canonical(package.name) for package in lock.conda}
        python = PlannedPackage(_canonical("python"), version, Level.CRITICAL, "", _REASON)
        return Plan(
            python=_interpreter(version),
            packages=tuple(sorted((python, *planned_packages(self.read)), key=lambda package: package.name)),
            code=self.code,
            profile=head.get("profile", "none"),
            critical_imports=tuple(head.get("critical_imports", _critical_imports(names))),
            strict=self.settings.strict,
            platform=_PLATFORM,
            conda=tuple(
                PlannedConda(
                    package.name,
                    package.version,
                    package.build,
                    self.read.custom_metadata.level("conda", package.name),
                    f"=={package.version}",
                    _REASON,
                )
                for package in lock.conda
            ),
            channels=lock.channels,
            interpreter="conda" if any(p.name == "python" for p in lock.conda) else "base",
            apt=tuple(sorted(set(self.settings.apt))),
        )

    @property
    def private_channels(self) -> tuple[str, ...]:
        """Return the channels of the settings and of the lock file that need credentials, with these."""
        found = (url.rpartition("/")[0].rpartition("/")[0] for url in self.read.private if _is_archive(url))
        return tuple(dict.fromkeys((*self.settings.channels, *found)))

    def access(self, access: Access) -> Access:
        """Return *access* with the credentials that the lock file's URLs have by way of variables."""
        from imagesync.indexes.pypi.access import Credential

        urls = [urlsplit(url) for url in self.read.private if not _is_archive(url)]
        found = tuple(
            Credential(
                strip_credentials(urlunsplit(parts)), unquote(parts.username), unquote(parts.password or "")
            )
            for parts in urls
            if parts.username
        )
        return replace(access, credentials=(*access.credentials, *found))

    def report(self, progress: Progress) -> None:
        """Say what of the lock file stays out of the image."""
        if self.read.left_out:
            names = ", ".join(self.read.left_out)
            progress.line(f"left out, being in categories of their own in {self.path.name}: {names}")

    def identify(
        self, settings: Settings, foundation: Foundation, contents: Mapping[NormalizedName, str] | None = None
    ) -> str:
        """Return ``sha256:<hex>`` over the lock file and all else that reaches the image.

        Parameters
        ----------
        contents
            Without effect: the lock file has the digests of what it brings.
        """
        del contents
        return _hash(
            {"locked": self.digest, "code": self.code.digest, "strict": settings.strict, **foundation}
        )

    def identify_packages(self, settings: Settings, foundation: Foundation) -> str:
        """Return ``sha256:<hex>`` over what the packages image is made from: not the wheels beside it."""
        from imagesync.lock.layers import shared_layer

        return _hash(
            {"packages": shared_layer(self.read.lock).digest, "strict": settings.strict, **foundation}
        )

    def fitted(self, base: BaseImage, workshop: Workshop) -> Lock:
        """Return the lock for the image on *base*.

        Raises
        ------
        LockError
            The lock doesn't fit the base image.
        FetchError
            Another tool wrote the lock file, and an archive that has to be looked into can't be had.
        """
        from imagesync.lock.lock import Target
        from imagesync.lock.lockfile.check_target import check_target

        lock = check_target(self.read, base, Target(_PLATFORM, base.python_version, base.glibc))
        if self.read.custom_metadata.is_ours or not lock.conda or workshop.channels is None:
            return lock
        from imagesync.lock.conda.provided_distributions import refuse_duplicates
        from imagesync.lock.lockfile.enrich import enrich

        lock = enrich(lock, workshop.channels)
        refuse_duplicates(lock.conda, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
        return lock


def _is_archive(url: str) -> bool:
    return url.endswith((".conda", ".tar.bz2"))


def _hash(covered: Mapping[str, object]) -> str:
    content = {"format": FORMAT_VERSION, **covered}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(name: str) -> NormalizedName:
    from imagesync.core.names import canonical_name

    return canonical_name(name)


def _critical_imports(names: set[NormalizedName]) -> list[str]:
    """Return what is tried in the image of a lock file that another tool wrote."""
    profiles = load_profiles().values()
    profile = next((each for each in profiles if not names.isdisjoint(each.chosen_by)), None)
    if profile is None:
        return []
    return [critical.import_name for critical in profile.critical if critical.name in names]


def own_interpreter() -> Interpreter:
    """Return the interpreter that runs this."""
    import platform
    import sys
    import sysconfig

    return Interpreter(
        implementation=sys.implementation.name,
        version=platform.python_version(),
        platform=sysconfig.get_platform(),
        abi=f"cp{sys.version_info.major}{sys.version_info.minor}",
        executable=sys.executable,
        prefix=sys.prefix,
        base_prefix=sys.base_prefix,
    )


def _interpreter(version: str) -> Interpreter:
    """Return the interpreter that wheels would be built and modules compiled with: this one, if it fits."""
    own = own_interpreter()
    minor = version.split(".")[:2]
    if own.minor.split(".") == minor and own.implementation == "cpython":
        return replace(own, version=version)
    return replace(own, implementation="cpython", version=version, abi=f"cp{''.join(minor)}", executable="")
