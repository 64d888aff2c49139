"""The sources that a package was installed from: a commit is fetched, an archive unpacked.

Archives aren't trusted: nothing is written outside of their folder.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath

from imagesync.core.credentials import redact
from imagesync.errors import WheelError
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.distributions.direct_url import refusal
from imagesync.scan.environment import Source
from imagesync.wheels.sources.source_digests import has_record, source_folder
from imagesync.wheels.sources.source_tree import NO_COMMANDS

# The protocols by which sources and their submodules may be fetched.
_PROTOCOLS = "https:http:ssh:git"
# Errors of the two libraries for archives that are truncated, corrupt, encrypted or inconsistent.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, RuntimeError)


def fetch_source(package: PlannedPackage, into: Path) -> Path:
    """Return the folder of the sources that *package* was installed from, fetched into the folder *into*.

    git runs with the user's own configuration and credential helpers, and never prompts.

    Raises
    ------
    WheelError
        The sources can't be fetched.
    """
    source = package.source
    _refuse_unsafe(package, source)
    if source.kind == "vcs" and source.url and source.commit:
        checkout = _checkout(package, source, into)
    elif source.kind == "archive" and source.url and source.url.startswith("file://"):
        checkout = unpack_sdist(source_folder(package), into, name=package.name)
    else:
        installed = package.installed
        recorded = installed is not None and has_record(installed)
        raise WheelError(
            f"{package.name} {package.version} was installed from {source.url}; "
            + ("the installed files don't hold for the image" if recorded else "no RECORD lists its files")
            + ", and its sources can't be fetched from there.",
            hint="Install it from a folder: clone or download it, and install that folder.",
        )
    folder = checkout / source.subdirectory if source.subdirectory else checkout
    if not folder.resolve().is_relative_to(checkout.resolve()) or not folder.is_dir():
        raise WheelError(
            f"{package.name} {package.version}: its sources have no folder {source.subdirectory!r}."
        )
    return folder


def _refuse_unsafe(package: PlannedPackage, source: Source) -> None:
    reason = source.refused
    if reason is None and source.kind == "vcs":
        # A scan has checked it, but a plan may come from elsewhere.
        reason = refusal(source.vcs or "", source.url or "", source.commit or "", source.subdirectory)
    if reason is not None:
        raise WheelError(
            f"{package.name} {package.version} isn't fetched from where it was installed from: "
            f"{redact(reason)}. And its installed files don't hold for the image.",
            hint=f"Install it from an index, a folder or a git URL; or leave it out: --ignore {package.name}",
        )


def _checkout(package: PlannedPackage, source: Source, into: Path) -> Path:
    into.mkdir(parents=True)
    url, commit = source.url or "", source.commit or ""
    # Local files only if the package was installed from one: no submodule may name any.
    protocols = f"{_PROTOCOLS}:file" if url.startswith("file:") else _PROTOCOLS
    _git(package, into, "init", "--quiet", "--template=")
    # One commit is enough if the server offers it; otherwise everything is fetched.
    fetch = ("fetch", "--quiet", "--no-recurse-submodules")
    if not _git(package, into, *fetch, "--depth=1", "--", url, commit, protocols=protocols, may_fail=True):
        heads = "+refs/heads/*:refs/remotes/origin/*"
        _git(package, into, *fetch, "--tags", "--", url, heads, protocols=protocols)
    # `git checkout` takes a revision only before the dashes. The commit may be given as an annotated tag.
    _git(package, into, "update-ref", "--no-deref", "--", "HEAD", f"{commit}^{{commit}}")
    _git(package, into, "reset", "--quiet", "--hard", "--no-recurse-submodules")
    update = ("submodule", "--quiet", "update", "--init", "--recursive", "--checkout", "--depth=1")
    _git(package, into, *update)
    return into


def _git(
    package: PlannedPackage,
    folder: Path,
    *arguments: str,
    protocols: str = _PROTOCOLS,
    may_fail: bool = False,
) -> bool:
    environ = {key: value for key, value in os.environ.items() if key not in ("GIT_DIR", "GIT_WORK_TREE")}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
    environ["GIT_ALLOW_PROTOCOL"] = protocols
    environ.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        done = subprocess.run(
            ["git", *NO_COMMANDS, *arguments],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise WheelError(
            f"{package.name} {package.version} must be fetched with git, "
            f"and git can't be run: {error.strerror}.",
            hint="Install git, or install the package from a folder.",
        ) from error
    if done.returncode == 0 or may_fail:
        return done.returncode == 0
    raise WheelError(
        f"{package.name} {package.version}: git can't get commit {package.source.commit} of "
        f"{package.source.url}: {redact(done.stderr.strip())}",
        hint="Check that `git fetch` works there without a password prompt (credential helper, SSH agent).",
    )


def unpack_sdist(archive: Path, into: Path, *, name: str) -> Path:
    """Unpack the sdist *archive* (``.tar.gz`` or ``.zip``) into *into*, and return the project's folder.

    Raises
    ------
    WheelError
        The archive is damaged, or has paths or links that lead out of the folder.
    """
    into.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, into)
        else:
            _unpack_tar(archive, into)
            _check_links(into)
    except (*_DAMAGE, OSError, ValueError) as error:
        raise WheelError(
            f"{name}: the source archive {archive.name} can't be unpacked: {error}",
            hint="It may be damaged; fetch it again with --no-cache.",
        ) from error
    # PEP 625: one folder at the top, as in the archives of forges.
    inside = list(into.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else into


def _unpack_tar(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as source:
        for member in source:
            where = _inside(into, member.name)
            if member.isdir():
                where.mkdir(parents=True, exist_ok=True)
            elif member.issym():
                _inside(into, str(PurePosixPath(member.name).parent / member.linkname))
                where.parent.mkdir(parents=True, exist_ok=True)
                where.symlink_to(member.linkname)
            elif member.isfile() or member.islnk():
                where.parent.mkdir(parents=True, exist_ok=True)
                stream = source.extractfile(member)
                if stream is not None:
                    where.unlink(missing_ok=True)
                    with stream, where.open("xb") as target:
                        shutil.copyfileobj(stream, target)
                    where.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
            else:
                raise ValueError(f"{member.name!r} is neither a file, a folder nor a link")


def _check_links(into: Path) -> None:
    """Raise an error if a link leads out of *into*; a link may lead elsewhere once a later one exists."""
    top = into.resolve()
    for folder, folders, files in os.walk(into):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if not path.is_symlink():
                continue
            if not path.resolve().is_relative_to(top):
                raise ValueError(f"the link {path.relative_to(into).as_posix()!r} leads out of the archive")
            with suppress(FileNotFoundError, NotADirectoryError):
                path.stat()  # refuses links in a circle, which resolve() takes from Python 3.13 on


def _unpack_zip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            where = _inside(into, member.filename)
            if member.is_dir():
                where.mkdir(parents=True, exist_ok=True)
                continue
            where.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as stream, where.open("xb") as target:
                shutil.copyfileobj(stream, target)
            where.chmod(0o755 if (member.external_attr >> 16) & stat.S_IXUSR else 0o644)


def _inside(folder: Path, name: str) -> Path:
    """Return the path of *name* below *folder*, following links that were unpacked before."""
    where = folder / name.replace("\\", "/")
    if PurePosixPath(name).is_absolute() or not where.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of the archive")
    if PurePosixPath(name).name == "..":
        raise ValueError(f"{name!r} leads out of the archive")
    return where
