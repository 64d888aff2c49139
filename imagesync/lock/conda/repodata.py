"""Repodata of channels, and solutions from it, by a separate process that uses py-rattler."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from imagesync.core.credentials import redact, strip_credentials
from imagesync.core.installation import own_installation
from imagesync.core.limits import limit_memory
from imagesync.core.names import canonical_name
from imagesync.core.platforms import Platform
from imagesync.core.progress import REQUEST_EVENT
from imagesync.errors import LockError, UnsolvableError
from imagesync.indexes.conda.channel_access import ChannelSettings
from imagesync.lock.conda.solver import CondaRequest
from imagesync.lock.locked_packages import Artifact, LockedConda
from imagesync.lock.wheel_tags import filename_of

_WORKER = Path(__file__).with_name("rattler_worker.py")
_URL = re.compile(r"https?://[^\s()]+|file://[^\s()]+")
_PYPI = "pkg:pypi/"


class Repodata:
    """The repodata of channels; its process starts with the first question.

    Parameters
    ----------
    settings
        URLs, credentials and TLS settings of the channels.
    environ
        The environment variables of the process: certificates and proxies.
    """

    def __init__(self, settings: ChannelSettings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self._environ = environ
        self._process: _Process | None = None

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str]
    ) -> dict[str, tuple[LockedConda, ...]]:
        """Return the packages of the channels by name, oldest first; unknown names are omitted."""
        requested = sorted(set(names))
        found: dict[str, list[LockedConda]] = {name: [] for name in requested}
        for record in self._ask({"names": requested, "subdirs": subdirs})["records"]:
            found[record["name"]].append(locked(record))
        return {name: tuple(records) for name, records in found.items() if records}

    def solve(
        self, request: CondaRequest, *, platform: Platform, strict: bool = True
    ) -> tuple[LockedConda, ...]:
        """Return the packages that satisfy *request*, sorted by name; those of *request* as the same values.

        Parameters
        ----------
        request
            The request.
        platform
            The platform to solve for.
        strict
            Take each name from its first channel only.

        Raises
        ------
        UnsolvableError
            There is no solution; the message is the solver's explanation.
        LockError
            A channel doesn't answer, a match spec is invalid, or the time is over.
        """
        answer = self._ask(
            {
                "specs": request.specs,
                "constraints": request.constraints,
                "strict": strict,
                "subdirs": platform.subdirs,
                "frozen": [_fields(package) for package in (*request.frozen, *request.externally_provided)],
                "preferred": [_fields(package) for package in request.preferred],
                "virtual_packages": [[v.name, v.version, v.build] for v in request.virtual_packages],
                "timeout": request.timeout,
            }
        )
        if "unsolvable" in answer:
            raise UnsolvableError(readable(answer["unsolvable"]))
        if "late" in answer:
            raise LockError(
                f"The solver for conda packages found no answer within {request.timeout:g} s.",
                hint='Fewer versions are searched sooner: levels = { NAME = "critical" } in [tool.imagesync] '
                "keeps a package as it is here.",
            )
        known = {package.artifact.url: package for package in (*request.preferred, *request.frozen)}
        external = {package.name for package in request.externally_provided}
        found = (locked(record) for record in answer["records"] if record["name"] not in external)
        return tuple(sorted((known.get(p.artifact.url, p) for p in found), key=lambda package: package.name))

    def close(self) -> None:
        """End the process; the next question starts another one."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        sys.audit(REQUEST_EVENT, f"py-rattler asks {' '.join(self.settings.channels)}")
        if self._process is None:
            self._process = _Process(self.settings, self._environ)
        try:
            answer = self._process.ask(question)
        except BaseException:
            # Interrupted or failed: a later answer would be taken for that of the next question.
            self.close()
            raise
        if "silent" in answer:
            mirrors = (strip_credentials(url) for tried in self.settings.places.values() for url in tried)
            raise channel_error(answer["silent"], (*self.settings.channels, *mirrors))
        if "unreadable" in answer:
            raise LockError(f"A conda requirement can't be read: {redact(answer['unreadable'])}")
        return answer


class _Process:
    def __init__(self, settings: ChannelSettings, environ: Mapping[str, str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environ),
            encoding="utf-8",
        )
        limit_memory(self._process.pid)
        self.end = weakref.finalize(self, _end, self._process, self._errors)
        self._write(asdict(settings))

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self._write(question)
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _write(self, value: Mapping[str, Any]) -> None:
        if self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def _failure(self) -> LockError:
        self._process.wait()
        self._errors.seek(0)
        output = redact(self._errors.read()[-2000:].decode(errors="replace")).strip()
        if "memory allocation" in output:
            return LockError(
                "The conda channels give more than fits into memory.",
                hint="Look at what they are: `conda config --show channels`.",
            )
        return LockError(
            f"Reading the conda channels ended with {self._process.returncode}: {output}",
            hint=f"Is py-rattler whole? {own_installation().reinstall('py-rattler')}",
        )


def _end(process: subprocess.Popen[str], errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, errors):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                continue  # unwritten data has no reader any more


def locked(record: Mapping[str, Any]) -> LockedConda:
    """Return an entry of a channel's ``repodata.json`` as a package of a lock.

    Its distributions are known from its archive only. Until that is fetched, the purls of the entry name
    them; without purls, a package that depends on Python is assumed to provide one of its own name.
    """
    digest = record.get("sha256")
    return LockedConda(
        name=record["name"],
        version=record["version"],
        build=record["build"],
        channel=strip_credentials(record["channel"] or "").rstrip("/"),
        subdir=record["subdir"],
        artifact=Artifact(
            filename=filename_of(record["url"], record["fn"]),
            url=strip_credentials(record["url"]),
            digest=f"sha256:{digest}" if digest else "",
            size=record.get("size"),
        ),
        build_number=record.get("build_number", 0),
        md5=record.get("md5") or "",
        noarch=record.get("noarch") or "",
        depends=tuple(record.get("depends", ())),
        constrains=tuple(record.get("constrains", ())),
        distributions=tuple(map(canonical_name, _distributions(record))),
    )


def _distributions(record: Mapping[str, Any]) -> list[str]:
    if purls := [purl for purl in record.get("purls") or () if purl.startswith(_PYPI)]:
        return [re.split(r"[@?#]", purl.removeprefix(_PYPI))[0] for purl in purls]
    names = {line.partition(" ")[0] for line in record.get("depends", ())}
    return [record["name"]] if names & {"python", "python_abi"} else []


def _fields(package: LockedConda) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": package.build_number,
        "subdir": package.subdir,
        "noarch": package.noarch,
        "depends": package.depends,
        "constrains": package.constrains,
        "sha256": package.artifact.digest.removeprefix("sha256:"),
        "md5": package.md5,
        "size": package.artifact.size,
        "fn": package.artifact.filename,
        "url": package.artifact.url,
        "channel": package.channel,
    }


def readable(message: str) -> str:
    """Return the explanation of the solver without its first words and without credentials."""
    # There may be candidates that other requirements exclude.
    text = redact(message).strip().replace("for which no candidates were found", "which nothing satisfies")
    return text.removeprefix("Cannot solve the request because of: ").strip()


def channel_error(message: str, channels: Iterable[str]) -> LockError:
    """Return the error for a channel that doesn't answer or refuses, from py-rattler's *message*."""
    text = redact(message)
    urls = [strip_credentials(url) for url in _URL.findall(text)]
    known = (channel for channel in channels if any(url.startswith(channel) for url in urls))
    concerned = next((f"channel {channel}" for channel in known), "conda channel")
    reason = text.strip().splitlines()[-1].removeprefix("Caused by:").strip()
    if re.search(r"\b(401|403|407)\b", text):
        return LockError(
            f"The {concerned} refuses to be read: {reason}",
            hint="Look at the channel's token or password: `conda config --show channels channel_alias`, "
            "`anaconda login`, `pixi auth login`, `mamba auth login`, or netrc.",
        )
    if "certificate" in text.lower():
        return LockError(
            f"The certificate of the {concerned} isn't trusted: {reason}",
            hint="Name your company's certificates: `conda config --set ssl_verify /path/to/ca.pem`.",
        )
    return LockError(
        f"The {concerned} doesn't answer: {reason}",
        hint="Look at the network, the proxy and the channel's URL (`conda config --show channels`).",
    )
