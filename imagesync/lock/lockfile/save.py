"""Saving locks, one a platform, with their local files.

The forms are conda-lock's, explicit files, requirements files, and PEP 751.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from imagesync.core.credentials import strip_credentials
from imagesync.core.files import copy_file, write_text
from imagesync.errors import LockError, UsageError
from imagesync.lock.conda.locked_records import topological_order
from imagesync.lock.lockfile.custom_metadata import to_metadata
from imagesync.lock.lockfile.write import Bundle
from imagesync.lock.resolve_installed import pin

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile

    from imagesync.core.platforms import Platform
    from imagesync.lock.lock import Lock
    from imagesync.store.store import StoredFile

Form = Literal["conda-lock", "explicit", "requirements", "pylock"]
FORMS: tuple[Form, ...] = get_args(Form)
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")  # PEP 751, "File Name"
_NAMES: dict[Form, str] = {
    "conda-lock": "conda-lock.yml",
    "explicit": "explicit.txt",
    "requirements": "requirements.txt",
    "pylock": "pylock.toml",
}
_OF_PIP = (".whl", ".tar.gz", ".zip")
_EXPLICIT = """\
{pip}# Written by `imagesync lock`. An environment of it:
#   micromamba create --name YOURENV --file {name}
# platform: {platform}
@EXPLICIT
"""
# micromamba takes the lines of pip's packages for comments.
_PIP = """\
# pip's packages, in the environment: sed -n 's/^# pip //p' {name} | pip install --no-deps -r /dev/stdin
"""


def form_of(path: Path) -> Form:
    """Return the form of a lock file by its name.

    Raises
    ------
    UsageError
        The name is that of no form.

    >>> form_of(Path("conda-lock.yml")), form_of(Path("pylock.dev.toml")), form_of(Path("requirements.txt"))
    ('conda-lock', 'pylock', 'requirements')
    """
    if path.suffix in (".yml", ".yaml"):
        return "conda-lock"
    if _PYLOCK.fullmatch(path.name):
        return "pylock"
    if path.suffix == ".txt":
        return "requirements"
    raise UsageError(
        f"What kind of lock {path.name} is to be can't be told from its name.",
        hint=f"Say it (--export {'|'.join(FORMS)}), or name it conda-lock.yml, pylock.toml or x.txt.",
    )


def require(form: Form, path: Path | None, platforms: Sequence[Platform] = ()) -> None:
    """Check early that a lock of this form can be written for *platforms*.

    Raises
    ------
    UsageError
        The folder of *path* doesn't exist, or the form is for one platform and there are several.
    LockError
        conda-lock isn't installed.
    """
    if path is not None and not path.parent.is_dir():
        raise UsageError(
            f"The folder {path.parent}, where the lock is to go, doesn't exist.",
            hint="Make it, or name another one.",
        )
    if form == "explicit" and len(platforms) > 1:
        raise UsageError(
            f"An explicit file is for one platform, and not for {' and '.join(map(str, platforms))}.",
            hint=f"Write one for each: --platform {platforms[0]} --export explicit -o FILE; or one "
            "conda-lock.yml for all.",
        )
    if form == "conda-lock":
        from imagesync.lock.conda.conda_lock_file import require_conda_lock

        require_conda_lock()


def render(bundles: Sequence[Bundle], form: Form, *, name: str | None = None) -> str:
    """Return locks, one a platform, in one of the forms, as text.

    *name* is that of the file, for its comments.
    """
    name = name or _NAMES[form]
    if form == "conda-lock":
        return _conda_lock_text(bundles, name)
    if form == "requirements":
        return render_requirements([bundle.lock for bundle in bundles])
    if form == "pylock":
        from imagesync.lock.lockfile.write_pylock import render_pylock

        return render_pylock(bundles)
    (bundle,) = bundles
    return render_explicit(bundle, name=name)


def _conda_lock_text(bundles: Sequence[Bundle], name: str, kept: Lockfile | None = None) -> str:
    from imagesync.lock.conda.conda_lock_file import to_text
    from imagesync.lock.lockfile.write import to_lockfile

    return to_text(to_lockfile(bundles, kept), name=name)


def save(bundles: Sequence[Bundle], path: Path, form: Form) -> tuple[str, ...]:
    """Write locks, one a platform, to *path*, and the files that they name beside it.

    The files are written first, so that the lock never exists without them. A ``conda-lock.yml`` keeps the
    sections of other platforms that imagesync wrote.

    Returns
    -------
    tuple of str
        The platforms of the sections that were kept, by their subdirectories of channels.

    Raises
    ------
    UsageError
        The folder doesn't exist, or can't be written to.
    LockError
        A section of another platform can't stay, or a wheel differs between platforms.
    """
    files = _files_of(bundles, form)
    kept = None
    if form == "conda-lock":
        from imagesync.lock.lockfile.kept_sections import kept_sections

        kept = kept_sections(path, bundles)
        text = _conda_lock_text(bundles, path.name, kept)
    else:
        text = render(bundles, form, name=path.name)
    for name, file in sorted(files.items()):
        copy_file(file.path, path.parent / name)
    write_text(path, text)
    return () if kept is None else tuple(kept.metadata.platforms)


def named_files(bundles: Sequence[Bundle], form: Form) -> tuple[str, ...]:
    """Return the files that a lock file of this *form* refers to, by path relative to it."""
    return tuple(_files_of(bundles, form))


def _files_of(bundles: Sequence[Bundle], form: Form) -> dict[str, StoredFile]:
    files: dict[str, StoredFile] = {}
    for bundle in bundles:
        for path, file in bundle.files.items():
            if form == "requirements" or (form == "pylock" and not path.endswith(_OF_PIP)):
                continue
            if files.setdefault(path, file).digest != file.digest:
                raise LockError(
                    f"{path} isn't the same for each platform: its build gives other bytes each time.",
                    hint="Lock for each into a folder of its own: --platform PLATFORM -o FOLDER/FILE",
                )
    return files


def left_out(bundles: Sequence[Bundle], form: Form) -> tuple[str, ...]:
    """Return the names of the packages that the *form* can't express, sorted."""
    locks = [bundle.lock for bundle in bundles]
    conda = {p.name for lock in locks for p in lock.conda} if form in ("requirements", "pylock") else set()
    local = {str(p.name) for lock in locks for p in lock.vendored} if form == "requirements" else set()
    return tuple(sorted({*conda, *local}))


def render_explicit(bundle: Bundle, *, name: str) -> str:
    """Return the conda packages as an explicit file, each with its sha256 in micromamba's syntax.

    pip's packages follow as comments, which conda-lock reads, and conda and micromamba ignore. *name* is that
    of the file, for its comments.
    """
    lock = bundle.lock
    paths = bundle.paths
    lines = [
        # micromamba refuses file URLs without a leading slash.
        f"{paths.get(package.artifact.digest) or strip_credentials(package.artifact.url)}"
        f"#{package.artifact.digest}"
        for package in topological_order((*lock.conda, *bundle.pip))
    ]
    pip = [f"# pip {line}" for line in _pip_lines(bundle)]
    header = _EXPLICIT.format(
        name=name, platform=lock.target.platform.subdir, pip=_PIP.format(name=name) if pip else ""
    )
    metadata = to_metadata(bundle.plan, lock, not_in_image=[package.name for package in bundle.pip])
    facts = [f"# {key}: {value}" for key, value in metadata.items()]
    return header + "".join(f"{line}\n" for line in (*lines, *pip, *facts))


def _pip_lines(bundle: Bundle) -> Iterator[str]:
    paths = bundle.paths
    for package in bundle.lock.packages:
        digest = package.artifact.digest
        if digest in paths:
            yield _beside(paths[digest], digest)
        else:
            url = strip_credentials(package.artifact.url)
            yield f"{package.name} @ {url}#{digest.replace(':', '=')}"
    for vendored in bundle.lock.vendored:
        wheel = bundle.wheels[vendored.name]
        yield _beside(paths[wheel.digest], wheel.digest)


def _beside(path: str, digest: str) -> str:
    # pip before 24 reads no `NAME @ file:wheels/...`.
    return f"./{path} --hash={digest}"


def render_requirements(locks: Sequence[Lock]) -> str:
    """Return a requirements file of the packages from indexes, each with its digests.

    It is for ``pip install --no-deps --require-hashes -r``, and for uv. Vendored packages are omitted,
    because no index has them. What isn't the same on each of several platforms gets a marker.
    """
    wanted: dict[tuple[str, str], dict[str, list[str]]] = {}
    for lock in locks:
        for package in lock.packages:
            digests = wanted.setdefault((package.name, pin(package.name, package.version)), {})
            digests.setdefault(package.artifact.digest, []).append(lock.target.platform.machine)
    lines = []
    for (_, requirement), digests in sorted(wanted.items()):
        machines = sorted({machine for found in digests.values() for machine in found})
        marker = "" if len(machines) == len(locks) else f" ; {_machine_marker(machines)}"
        hashes = "".join(f" \\\n    --hash={digest}" for digest in sorted(digests))
        lines.append(f"{requirement}{marker}{hashes}\n")
    return "".join(lines)


def _machine_marker(machines: Iterable[str]) -> str:
    return " or ".join(f"platform_machine == '{machine}'" for machine in machines)
