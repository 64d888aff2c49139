"""Random changes of installed environments, for :mod:`benchmarks.drift`, and how to undo them."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagesync.core.names import canonical_name
from tests.environments import LocalEnvironment
from tests.indexes import make_wheel


@dataclass(frozen=True)
class Change:
    """A change that was made, and how to see it.

    Parameters
    ----------
    package
        The canonical name of the changed distribution, or of a conda package of another build; empty if the
        file is nobody's.
    file
        The changed file.
    member
        The path of the file in a wheel of the package; empty where only a name can tell.
    content
        Its content now; ``None`` if it is gone.
    version
        The version or build that the plan must have, of another build and of a replaced package.
    """

    package: str
    file: Path
    member: str = ""
    content: bytes | None = None
    version: str = ""


@dataclass(frozen=True)
class Installed:
    """An environment to change.

    Parameters
    ----------
    conda
        The names of the conda packages that an image gets; pip may have replaced others.
    owners
        By canonical name of a distribution that an image gets, its conda name, or its own name.
    from_folders
        The names of packages that are installed from a folder.
    """

    environment: LocalEnvironment
    conda: frozenset[str]
    owners: Mapping[str, str]
    from_folders: frozenset[str]


class Undo:
    """Puts files back, with their times."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._saved = Path(tempfile.mkdtemp(prefix="imagesync-undo-"))
        self._changed: list[tuple[Path, Path | None]] = []
        self._whole = False

    def __enter__(self) -> Undo:
        return self

    def save(self, path: Path) -> None:
        """Remember *path* as it is, or that it isn't there."""
        copy = None
        if path.exists():
            copy = self._saved / str(len(self._changed))
            shutil.copy2(path, copy)
        self._changed.append((path, copy))

    def save_all(self) -> None:
        """Remember the whole environment."""
        self._whole = True
        shutil.copytree(self.prefix, self._saved / "env", symlinks=True)

    def __exit__(self, *error: object) -> None:
        if self._whole:
            shutil.rmtree(self.prefix)
            shutil.copytree(self._saved / "env", self.prefix, symlinks=True)
        for path, copy in reversed(self._changed):
            path.unlink(missing_ok=True)
            if copy is not None:
                shutil.copy2(copy, path)
        shutil.rmtree(self._saved)


MakeChange = Callable[[Installed, random.Random, Undo], Change]


def _distributions(installed: Installed) -> list[Path]:
    """Return the metadata folders of the packages that an image gets."""
    found = sorted(installed.environment.site_packages.glob("*.dist-info"))
    return [path for path in found if _name(path) in installed.owners]


def _name(dist_info: Path) -> str:
    return canonical_name(dist_info.name.removesuffix(".dist-info").rpartition("-")[0])


def _files(dist_info: Path) -> list[str]:
    """Return the files of a distribution that an installer has copied from a wheel."""
    rows = (
        line.rpartition(",")[0].rpartition(",") for line in (dist_info / "RECORD").read_text().splitlines()
    )
    paths = [path.strip('"') for path, _, digest in rows if digest.startswith("sha256=")]
    unwanted = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
    return [p for p in paths if not p.endswith((".pyc", *unwanted)) and (dist_info.parent / p).is_file()]


def _pick(installed: Installed, source: random.Random) -> tuple[Path, str]:
    dist_info = source.choice(_distributions(installed))
    return dist_info, source.choice(_files(dist_info))


def _member(path: str) -> str:
    return "" if path.startswith("..") else path


def _edit(installed: Installed, source: random.Random, undo: Undo) -> Change:
    dist_info, path = _pick(installed, source)
    file = dist_info.parent / path
    undo.save(file)
    content = bytearray(file.read_bytes() or b"\0")
    content[source.randrange(len(content))] ^= 1  # of the same size
    file.write_bytes(content)
    return Change(_name(dist_info), file.resolve(), _member(path), bytes(content))


def _add(installed: Installed, source: random.Random, undo: Undo) -> Change:
    site, prefix = installed.environment.site_packages, installed.environment.prefix
    name = f"drift{source.randrange(10**6)}"
    content = f"value = {source.random()}\n".encode()
    places = ["package"] * 4 + ["module", "pth", "startup", "share", "etc", "bin"]
    place = source.choice(places)
    dist_info, path = _pick(installed, source)
    inside = Path(path).parent.as_posix()
    if place == "package" and inside not in (".", dist_info.name) and not path.startswith(".."):
        file = site / inside / f"{name}{source.choice(['.py', '.csv'])}"
    else:
        file = {
            "module": site / f"{name}.py",
            "pth": site / f"{name}.pth",
            "startup": site / source.choice(["sitecustomize.py", "usercustomize.py"]),
            "share": prefix / "share" / name / "table.csv",
            "etc": prefix / "etc" / f"{name}.cfg",
            "bin": prefix / "bin" / name,
        }.get(place, site / f"{name}.py")
        inside = ""
    content = b"import sys; sys.drift = 1\n" if file.suffix == ".pth" else content
    undo.save(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    package = _name(dist_info) if inside else ""
    if not package:
        return Change("", file)
    return Change(package, file, f"{inside}/{file.name}", content)


def _delete(installed: Installed, source: random.Random, undo: Undo) -> Change:
    dist_info, path = _pick(installed, source)
    while path.endswith((".dist-info/METADATA", ".dist-info/WHEEL")):
        dist_info, path = _pick(installed, source)
    file = dist_info.parent / path
    undo.save(file)
    file.unlink()
    return Change(_name(dist_info), file, _member(path), None)


def _edit_metadata(installed: Installed, source: random.Random, undo: Undo) -> Change:
    dist_info = source.choice(_distributions(installed))
    file = dist_info / "METADATA"
    undo.save(file)
    line = source.choice(
        [b"Keywords: drift\n", b"Requires-Dist: click; extra == 'drift'\n", b"Home-page: x\n"]
    )
    head, _, rest = file.read_bytes().partition(b"\n")
    content = head + b"\n" + line + rest
    file.write_bytes(content)
    return Change(_name(dist_info), file, f"{dist_info.name}/METADATA", content)


def _rebuild(installed: Installed, source: random.Random, undo: Undo) -> Change:
    """Make a package another build, as its own installer would record it."""
    if installed.conda and source.random() < 0.7:
        records = sorted((installed.environment.prefix / "conda-meta").glob("*-*-*.json"))
        record = source.choice([path for path in records if _conda_name(path) in installed.conda])
        document = json.loads(record.read_text())
        other = record.with_name(f"{document['name']}-{document['version']}-drift_7.json")
        undo.save(record)
        undo.save(other)
        old = f"{document['name']}-{document['version']}-{document['build']}"
        changed = {"build": "drift_7", "build_number": 7, "sha256": "7" * 64, "md5": "7" * 32}
        text = json.dumps({**document, **changed}, indent=2).replace(old, other.stem)
        record.unlink()
        other.write_text(text)
        return Change(document["name"], other, version="drift_7")
    # What is installed from a folder is built from the folder again: the image has that build.
    found = [path for path in _distributions(installed) if _name(path) not in installed.from_folders]
    dist_info = source.choice([path for path in found if _is_pip(path)] or found)
    file, record = dist_info / "WHEEL", dist_info / "RECORD"
    undo.save(file)
    undo.save(record)
    content = b"".join(
        line if not line.startswith(b"Tag:") else line.rpartition(b"-")[0] + b"-linux_x86_64\n"
        for line in file.read_bytes()
        .replace(b"Root-Is-Purelib: true", b"Root-Is-Purelib: false")
        .splitlines(True)
    )
    file.write_bytes(content)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    lines = [
        line
        if not line.startswith(f"{dist_info.name}/WHEEL,")
        else f"{dist_info.name}/WHEEL,sha256={digest},{len(content)}"
        for line in record.read_text().splitlines()
    ]
    record.write_text("\n".join(lines) + "\n")
    return Change(_name(dist_info), file, f"{dist_info.name}/WHEEL", content)


def _conda_name(record: Path) -> str:
    return record.stem.rsplit("-", 2)[0]


def _is_pip(dist_info: Path) -> bool:
    return (dist_info / "INSTALLER").read_text().strip() in ("pip", "uv")


def _replace(installed: Installed, source: random.Random, undo: Undo) -> Change:
    """Install another wheel in place of a package: one of the same version, or one that no index has."""
    dist_info = source.choice(_distributions(installed))
    name, _, version = dist_info.name.removesuffix(".dist-info").rpartition("-")
    undo.save_all()
    with tempfile.TemporaryDirectory(prefix="imagesync-wheel-") as folder:
        same = source.random() < 0.5
        content = f"value = {source.random()}\n".encode()
        filename, wheel = make_wheel(
            name, version if same else f"{version}.post7", files={f"{name.lower()}_drift.py": content}
        )
        path = Path(folder, filename)
        path.write_bytes(wheel)
        wanted = [str(path)] if same else ["--no-index", "--find-links", folder, f"{name}=={version}.post7"]
        installed.environment.install("--no-deps", "--reinstall", *wanted)
    member = f"{name.lower()}_drift.py" if same else ""
    return Change(_name(dist_info), dist_info, member, content, "" if same else f"{version}.post7")


CHANGES: Mapping[str, MakeChange] = {
    "edited": _edit,
    "added": _add,
    "deleted": _delete,
    "metadata": _edit_metadata,
    "another build": _rebuild,
    "replaced": _replace,
}
