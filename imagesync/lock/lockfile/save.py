"""Saving a lock with its local files: for conda-lock, as an explicit file, as requirements, or by PEP 751."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from imagesync.core.credentials import strip_credentials
from imagesync.core.files import copy_file, write_text
from imagesync.core.names import canonical_name
from imagesync.errors import UsageError
from imagesync.lock.conda.locked_records import topological_order
from imagesync.lock.lockfile.custom_metadata import HEAD, to_metadata
from imagesync.lock.lockfile.write import Bundle
from imagesync.lock.resolve_installed import pin

if TYPE_CHECKING:
    from packaging.pylock import Package

    from imagesync.lock.lock import Lock

Form = Literal["conda-lock", "explicit", "requirements", "pylock"]
FORMS: tuple[Form, ...] = get_args(Form)
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")  # PEP 751, "File Name"
_NAMES: dict[Form, str] = {
    "conda-lock": "conda-lock.yml",
    "explicit": "explicit.txt",
    "requirements": "requirements.txt",
    "pylock": "pylock.toml",
}
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


def require(form: Form, path: Path | None) -> None:
    """Check early that a lock of this form can be written.

    Raises
    ------
    UsageError
        The folder of *path* doesn't exist.
    LockError
        conda-lock isn't installed.
    """
    if path is not None and not path.parent.is_dir():
        raise UsageError(
            f"The folder {path.parent}, where the lock is to go, doesn't exist.",
            hint="Make it, or name another one.",
        )
    if form == "conda-lock":
        from imagesync.lock.conda.conda_lock_file import require_conda_lock

        require_conda_lock()


def render(bundle: Bundle, form: Form, *, name: str | None = None) -> str:
    """Return a lock in one of its forms, as text.

    *name* is that of the file, for its comments.
    """
    name = name or _NAMES[form]
    if form == "conda-lock":
        from imagesync.lock.conda.conda_lock_file import to_text
        from imagesync.lock.lockfile.write import to_lockfile

        return to_text(to_lockfile(bundle), name=name)
    if form == "requirements":
        return render_requirements(bundle.lock)

    return render_explicit(bundle, name=name) if form == "explicit" else render_pylock(bundle)


def save(bundle: Bundle, path: Path, form: Form) -> None:
    """Write a lock to *path*, and the files that it names beside it.

    The files are written first, so that the lock never exists without them.

    Raises
    ------
    UsageError
        The folder doesn't exist, or can't be written to.
    """
    text = render(bundle, form, name=path.name)
    for name in sorted(named_files(bundle, form)):
        copy_file(bundle.files[name].path, path.parent / name)
    write_text(path, text)


def named_files(bundle: Bundle, form: Form) -> tuple[str, ...]:
    """Return the files that a lock of this *form* refers to, by path relative to it."""
    if form == "requirements":
        return ()
    return tuple(
        path for path in bundle.files if form != "pylock" or path.endswith((".whl", ".tar.gz", ".zip"))
    )


def left_out(bundle: Bundle, form: Form) -> tuple[str, ...]:
    """Return the names of the packages that the *form* can't express, sorted."""
    conda = [package.name for package in bundle.lock.conda] if form in ("requirements", "pylock") else []
    local = [str(package.name) for package in bundle.lock.vendored] if form == "requirements" else []
    return tuple(sorted((*conda, *local)))


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


def render_requirements(lock: Lock) -> str:
    """Return a requirements file of the packages from indexes, each with its digest.

    It is for ``pip install --no-deps --require-hashes -r``, and for uv. Vendored packages are omitted,
    because no index has them.
    """
    return "".join(
        f"{pin(package.name, package.version)} \\\n    --hash={package.artifact.digest}\n"
        for package in lock.packages
    )


def render_pylock(bundle: Bundle) -> str:
    """Return the packages of pip as ``pylock.toml`` (PEP 751)."""
    import tomli_w
    from packaging.markers import Marker
    from packaging.pylock import Pylock
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    lock = bundle.lock
    machine = lock.target.platform.machine
    packages = sorted(_pylock_packages(bundle), key=lambda package: package.name)
    pylock = Pylock(
        lock_version=Version("1.0"),
        environments=[Marker(f"sys_platform == 'linux' and platform_machine == '{machine}'")],
        requires_python=SpecifierSet(f"=={lock.target.minor}.*"),
        created_by="imagesync",
        packages=packages,
        tool={HEAD: to_metadata(replace(bundle.plan, conda=()), replace(lock, conda=(), channels=()))},
    )
    pylock.validate()
    return tomli_w.dumps(dict(pylock.to_dict()))


def _pylock_packages(bundle: Bundle) -> Iterator[Package]:
    from packaging.pylock import Package, PackageSdist, PackageWheel
    from packaging.version import Version

    paths = bundle.paths
    for package in bundle.lock.packages:
        artifact = package.artifact
        path = paths.get(artifact.digest)
        where = {"path": path} if path else {"url": strip_credentials(artifact.url)}
        file: dict[str, Any] = {
            "name": artifact.filename,
            "size": artifact.size,
            "hashes": {"sha256": artifact.digest.removeprefix("sha256:")},
            **where,
        }
        yield Package(
            name=canonical_name(package.name),
            version=Version(package.version),
            wheels=[PackageWheel(**file)] if artifact.is_wheel else None,
            sdist=None if artifact.is_wheel else PackageSdist(**file),
        )
    for vendored in bundle.lock.vendored:
        wheel = bundle.wheels[vendored.name]
        yield Package(
            name=canonical_name(vendored.name),
            version=Version(vendored.version),
            wheels=[
                PackageWheel(
                    name=wheel.filename,
                    path=paths[wheel.digest],
                    size=wheel.size,
                    hashes={"sha256": wheel.digest.removeprefix("sha256:")},
                )
            ],
        )
