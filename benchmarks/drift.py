"""``python -m benchmarks.drift``: random changes of installed environments, each shipped or named.

Ten environments of ``tests/cases`` are made, and each is changed at random, one change at a time: a file of a
package is edited, added or deleted, metadata are edited, a package becomes another build, or is replaced. A
change is *shipped* if the environment hash differs and the wheel that the image gets has it, *named* if the
output of a build says its file or package, and *unsaid* otherwise. After each change the environment is put
back, and must have its first hash again. Needs the index, and no engine.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagesync.core.names import canonical_name
from imagesync.errors import ImagesyncError
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Target, VendoredPackage
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_hash import BaseInputs
from imagesync.pipeline.environment_inputs import EnvironmentInputs
from imagesync.pipeline.environment_plan import image_findings
from imagesync.pipeline.known_hashes import KnownHash
from imagesync.session import Session
from imagesync.settings.load import load_settings
from imagesync.wheels.vendor import vendor
from tests.channels.channel import ensure_channel
from tests.environments import LocalEnvironment
from tests.indexes import make_wheel
from tests.integration.test_cases import prepare, prepare_conda
from tests.progress import RecordedLines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CASES = (
    *("plain", "extras", "dask", "code", "vcs", "archive", "directory"),
    *("conda", "conda-mixed", "conda-pip-over"),
)
KINDS = ("edited", "added", "deleted", "metadata", "another build", "replaced")
_FOLDER = Path(__file__).parents[1] / "tests" / "cases"
_BASE = BaseInputs("sha256:" + "0" * 64, "sha256:" + "0" * 64)


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


def main() -> int:
    """Change the environments, print a table, and return 1 if a change is unsaid."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("cases", nargs="*", default=CASES)
    arguments = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    unsaid: list[str] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="imagesync-drift-") as work:
        for position, case in enumerate(arguments.cases):
            number = arguments.changes // len(arguments.cases)
            subject = Subject.of(case, Path(work), python=arguments.python)
            source = random.Random(f"{arguments.seed} {case}")
            for turn in range(number):
                kind = KINDS[(turn + position) % len(KINDS)]
                verdict, description = subject.try_change(kind, source)
                counts[kind, verdict] += 1
                print(f"{case} {turn + 1}: {verdict}: {description}", file=sys.stderr)
                if verdict == "unsaid":
                    unsaid.append(f"{case} {turn + 1}: {description}")
    _print(counts, unsaid, seed=arguments.seed, seconds=time.perf_counter() - start)
    return 1 if unsaid else 0


def _print(counts: Counter[tuple[str, str]], unsaid: list[str], *, seed: int, seconds: float) -> None:
    print("| change | tried | shipped | named | unsaid |\n|---|---|---|---|---|")
    verdicts = ("shipped", "named", "unsaid")
    for kind in (*KINDS, "all"):
        found = [
            sum(n for (k, v), n in counts.items() if v == verdict and kind in (k, "all"))
            for verdict in verdicts
        ]
        print(f"| {kind} | {sum(found)} | {' | '.join(map(str, found))} |")
    print(f"\nseed {seed}, {seconds:.0f} s", *unsaid, sep="\n")


@dataclass
class Subject:
    """An environment to change, and what is known of it as it is.

    Parameters
    ----------
    owners
        By canonical name of a distribution that an image gets, its conda name, or its own name.
    from_folders
        The names of packages that are installed from a folder.
    """

    environment: LocalEnvironment
    folder: Path
    cache: Path
    is_conda: bool
    first_hash: str = ""
    first_known: KnownHash | None = None
    first_lines: frozenset[str] = frozenset()
    owners: Mapping[str, str] = field(default_factory=dict)
    from_folders: frozenset[str] = frozenset()

    @classmethod
    def of(cls, case: str, work: Path, *, python: Path) -> Subject:
        """Make the environment of a case."""
        folder = work / case
        shutil.copytree(_FOLDER / case, folder)
        wanted = tomllib.loads((folder / "case.toml").read_text(encoding="utf-8"))
        folder = folder if "folder" not in wanted else folder.rename(work / wanted["folder"])
        if "conda" in wanted:
            # A prefix that stands in the files as it is: a moved one is another case.
            wanted["conda"].pop("written_prefix", None)
            environment: LocalEnvironment = prepare_conda(wanted, folder, channel=ensure_channel())
        else:
            environment = prepare(wanted, folder, python=python)
        subject = cls(environment, folder, work / "cache", "conda" in wanted)
        inputs, lines = subject.look()
        subject.first_hash, subject.first_lines = inputs.input_hash(_BASE), frozenset(lines)
        subject.first_known = inputs.known_hash(_base_of(inputs))
        packages = [p for p in inputs.plan.packages if p.installed and not p.source.editable]
        subject.owners = {str(package.name): str(package.name) for package in packages}
        subject.from_folders = frozenset(str(p.name) for p in packages if p.source.kind == "directory")
        subject.owners |= {str(package.name): package.conda for package in inputs.plan.provided}
        return subject

    def look(self) -> tuple[EnvironmentInputs, list[str]]:
        """Return the inputs of a build, and the lines that it prints before anything is fetched."""
        progress = RecordedLines()
        with _in_folder(self.folder):
            environ = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGESYNC_", "CONDA_"))}
            flags = {"cache_dir": self.cache}
            context = Context(load_settings(cwd=self.folder, environ=environ, flags=flags), environ, progress)
            session = Session(context, python=self.environment.python)
            inputs = session.inputs()
            found = (*inputs.environment.findings, *image_findings(inputs.plan, inputs.environment, context))
        lines = [*progress.lines, *(finding.message for finding in (*inputs.plan.findings, *found))]
        return inputs, lines

    def try_change(self, kind: str, source: random.Random) -> tuple[str, str]:
        """Make a change of that kind, and return the verdict and a description; the change is undone."""
        with _Undo(self.environment.prefix) as undo:
            change = _CHANGES[kind](self, source, undo)
            description = f"{kind}: {change.package or 'no package'}, {change.file.name}"
            try:
                inputs, lines = self.look()
                verdict = self._verdict(change, inputs, lines)
            except ImagesyncError as error:
                said = f"{error.message} {error.hint}"
                names = self._names_package(change, said) or change.file.stem in said
                verdict = "named" if names else "unsaid"
        inputs, _ = self.look()
        if inputs.input_hash(_BASE) != self.first_hash:
            raise AssertionError(f"{description}: the environment isn't what it was before")
        return verdict, description

    def _verdict(self, change: Change, inputs: EnvironmentInputs, lines: list[str]) -> str:
        known = inputs.known_hash(_base_of(inputs))
        moved = inputs.input_hash(_BASE) != self.first_hash and (known is None or known != self.first_known)
        if moved and change.member and self._wheel_has(change, inputs):
            return "shipped"
        new = [line for line in lines if line not in self.first_lines]
        if any(change.file.stem in line and self._names_package(change, line) for line in new):
            return "named"
        if moved and not change.member:
            return "shipped" if change.version in self._planned(change.package, inputs) else "unsaid"
        # What an index has is known once it is asked.
        said = self._lock_lines(change, inputs)
        return "named" if any(self._names_package(change, line) for line in said) else "unsaid"

    def _names_package(self, change: Change, line: str) -> bool:
        return change.package in line or bool(change.package and self.owners.get(change.package, "-") in line)

    def _wheel_has(self, change: Change, inputs: EnvironmentInputs) -> bool:
        """Return True if the wheel of the package is made here, and has the change."""
        planned = next((p for p in inputs.plan.packages if p.name == change.package and p.vendored), None)
        if planned is None:
            return False
        sources = inputs.artifact_sources()
        target = Target("linux/amd64", inputs.plan.python.version, (2, 99))
        content = inputs.source_digests[planned.name]
        (made,) = vendor(
            [VendoredPackage(planned.name, planned.version, content, planned)],
            python=inputs.plan.python,
            target=target,
            store=inputs.context.store,
            indexes=sources.build_indexes,
            progress=inputs.context.progress,
        )
        with zipfile.ZipFile(made.wheel.path) as archive:
            names = archive.namelist()
            if change.content is None:
                return change.member not in names
            return change.member in names and archive.read(change.member) == change.content

    def _planned(self, name: str, inputs: EnvironmentInputs) -> tuple[str, ...]:
        """Return the version of a package in the plan, and the build of a conda package."""
        conda = next(((p.version, p.build) for p in inputs.plan.conda if p.name == name), ())
        return (*conda, *(p.version for p in inputs.plan.packages if p.name == name))

    def _lock_lines(self, change: Change, inputs: EnvironmentInputs) -> list[str]:
        version = inputs.plan.python.version
        base = BaseImage("base", "base", "", "", version, "", (2, 99), _BASE.base_hash)
        packages = tuple(p for p in inputs.plan.packages if p.name in (change.package, "python"))
        small = replace(inputs, plan=replace(inputs.plan, packages=packages, conda=(), interpreter="base"))
        try:
            lock = small.lock(base, small.artifact_sources())
        except ImagesyncError as error:
            return [error.message]
        deviations = [f"{deviation.name} {deviation.reason}" for deviation in lock.deviations]
        return [*deviations, *(f"{package.name} {package.repacked}" for package in lock.repacked)]


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class _Undo:
    """Puts files back, with their times."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._saved = Path(tempfile.mkdtemp(prefix="imagesync-undo-"))
        self._changed: list[tuple[Path, Path | None]] = []
        self._whole = False

    def __enter__(self) -> _Undo:
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


def _distributions(subject: Subject) -> list[Path]:
    """Return the metadata folders of the packages that an image gets."""
    found = sorted(subject.environment.site_packages.glob("*.dist-info"))
    return [path for path in found if _name(path) in subject.owners]


def _base_of(inputs: EnvironmentInputs) -> BaseInputs:
    return _BASE._replace(python_version=inputs.plan.python.version)


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


def _pick(subject: Subject, source: random.Random) -> tuple[Path, str]:
    dist_info = source.choice(_distributions(subject))
    return dist_info, source.choice(_files(dist_info))


def _member(path: str) -> str:
    return "" if path.startswith("..") else path


def _edit(subject: Subject, source: random.Random, undo: _Undo) -> Change:
    dist_info, path = _pick(subject, source)
    file = dist_info.parent / path
    undo.save(file)
    content = bytearray(file.read_bytes() or b"\0")
    content[source.randrange(len(content))] ^= 1  # of the same size
    file.write_bytes(content)
    return Change(_name(dist_info), file.resolve(), _member(path), bytes(content))


def _add(subject: Subject, source: random.Random, undo: _Undo) -> Change:
    site, prefix = subject.environment.site_packages, subject.environment.prefix
    name = f"drift{source.randrange(10**6)}"
    content = f"value = {source.random()}\n".encode()
    places = ["package"] * 4 + ["module", "pth", "startup", "share", "etc", "bin"]
    place = source.choice(places)
    dist_info, path = _pick(subject, source)
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


def _delete(subject: Subject, source: random.Random, undo: _Undo) -> Change:
    dist_info, path = _pick(subject, source)
    while path.endswith((".dist-info/METADATA", ".dist-info/WHEEL")):
        dist_info, path = _pick(subject, source)
    file = dist_info.parent / path
    undo.save(file)
    file.unlink()
    return Change(_name(dist_info), file, _member(path), None)


def _edit_metadata(subject: Subject, source: random.Random, undo: _Undo) -> Change:
    dist_info = source.choice(_distributions(subject))
    file = dist_info / "METADATA"
    undo.save(file)
    line = source.choice(
        [b"Keywords: drift\n", b"Requires-Dist: click; extra == 'drift'\n", b"Home-page: x\n"]
    )
    head, _, rest = file.read_bytes().partition(b"\n")
    content = head + b"\n" + line + rest
    file.write_bytes(content)
    return Change(_name(dist_info), file, f"{dist_info.name}/METADATA", content)


def _rebuild(subject: Subject, source: random.Random, undo: _Undo) -> Change:
    """Make a package another build, as its own installer would record it."""
    if subject.is_conda and source.random() < 0.7:
        record = source.choice(sorted((subject.environment.prefix / "conda-meta").glob("*-*-*.json")))
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
    found = [path for path in _distributions(subject) if _name(path) not in subject.from_folders]
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


def _is_pip(dist_info: Path) -> bool:
    return (dist_info / "INSTALLER").read_text().strip() in ("pip", "uv")


def _replace(subject: Subject, source: random.Random, undo: _Undo) -> Change:
    """Install another wheel in place of a package: one of the same version, or one that no index has."""
    dist_info = source.choice(_distributions(subject))
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
        subject.environment.install("--no-deps", "--reinstall", *wanted)
    member = f"{name.lower()}_drift.py" if same else ""
    return Change(_name(dist_info), dist_info, member, content, "" if same else f"{version}.post7")


_CHANGES: dict[str, Callable[[Subject, random.Random, _Undo], Change]] = {
    "edited": _edit,
    "added": _add,
    "deleted": _delete,
    "metadata": _edit_metadata,
    "another build": _rebuild,
    "replaced": _replace,
}


if __name__ == "__main__":
    sys.exit(main())
