"""``python -m benchmarks.drift``: random changes of installed environments, each shipped or named.

Ten environments of ``tests/cases`` are made, and each is changed at random, one change at a time: a file of a
package is edited, added or deleted, metadata are edited, a package becomes another build, or is replaced. A
change is *shipped* if the environment hash differs and the wheel that the image gets has it, *named* if the
output of a build says its file or package, and *unsaid* otherwise. After each change the environment is put
back, and must have its first hash again. Needs the index, and no engine.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.changes import CHANGES, Change, Installed, Undo
from benchmarks.scripts import run_script
from imagesync.core.files import parse_toml
from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import ImagesyncError
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import VendoredPackage
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
from tests.integration.test_cases import prepare, prepare_conda
from tests.progress import RecordedLines

CASES = (
    *("plain", "extras", "dask", "code", "vcs", "archive", "directory"),
    *("conda", "conda-mixed", "conda-pip-over"),
)
KINDS = tuple(CHANGES)
_FOLDER = Path(__file__).parents[1] / "tests" / "cases"
_BASE = BaseInputs("sha256:" + "0" * 64, "sha256:" + "0" * 64)


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
        for case in arguments.cases:
            number = arguments.changes // len(arguments.cases)
            subject = Subject.of(case, Path(work), python=arguments.python)
            source = random.Random(f"{arguments.seed} {case}")
            for turn in range(number):
                kind = KINDS[(turn + CASES.index(case)) % len(KINDS)]
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
    """An environment of a case, and what is known of it as it is."""

    installed: Installed
    folder: Path
    cache: Path
    first_hash: str = ""
    first_known: KnownHash | None = None
    first_lines: frozenset[str] = frozenset()

    @classmethod
    def of(cls, case: str, work: Path, *, python: Path) -> Subject:
        """Make the environment of a case."""
        folder = work / case
        shutil.copytree(_FOLDER / case, folder)
        wanted = parse_toml((folder / "case.toml").read_text(encoding="utf-8"))
        folder = folder if "folder" not in wanted else folder.rename(work / wanted["folder"])
        if "conda" in wanted:
            # A prefix that stands in the files as it is: a moved one is another case.
            wanted["conda"].pop("written_prefix", None)
            environment: LocalEnvironment = prepare_conda(wanted, folder, channel=ensure_channel())
        else:
            environment = prepare(wanted, folder, python=python)
        subject = cls(Installed(environment, frozenset(), {}, frozenset()), folder, work / "cache")
        inputs, lines = subject.look()
        subject.first_hash, subject.first_lines = inputs.input_hash(_BASE), frozenset(lines)
        subject.first_known = inputs.known_hash(_base_of(inputs))
        packages = [p for p in inputs.plan.packages if p.installed and not p.source.editable]
        owners = {str(package.name): str(package.name) for package in packages}
        owners |= {str(package.name): package.conda for package in inputs.plan.provided}
        conda = frozenset(package.name for package in inputs.plan.conda)
        from_folders = frozenset(str(p.name) for p in packages if p.source.kind == "directory")
        subject.installed = Installed(environment, conda, owners, from_folders)
        return subject

    def look(self) -> tuple[EnvironmentInputs, list[str]]:
        """Return the inputs of a build, and the lines that it prints before anything is fetched."""
        progress = RecordedLines()
        with _in_folder(self.folder):
            environ = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGESYNC_", "CONDA_"))}
            flags = {"cache_dir": self.cache}
            context = Context(load_settings(cwd=self.folder, environ=environ, flags=flags), environ, progress)
            session = Session(context, python=self.installed.environment.python)
            inputs = session.inputs()
            found = (*inputs.environment.findings, *image_findings(inputs.plan, inputs.environment, context))
        lines = [*progress.lines, *(finding.message for finding in (*inputs.plan.findings, *found))]
        return inputs, lines

    def try_change(self, kind: str, source: random.Random) -> tuple[str, str]:
        """Make a change of that kind, and return the verdict and a description; the change is undone."""
        with Undo(self.installed.environment.prefix) as undo:
            change = CHANGES[kind](self.installed, source, undo)
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
        return change.package in line or bool(
            change.package and self.installed.owners.get(change.package, "-") in line
        )

    def _wheel_has(self, change: Change, inputs: EnvironmentInputs) -> bool:
        """Return True if the wheel of the package is made here, and has the change."""
        planned = next((p for p in inputs.plan.packages if p.name == change.package and p.vendored), None)
        if planned is None:
            return False
        sources = inputs.artifact_sources()
        target = Target(LINUX_AMD64, inputs.plan.python.version, (2, 99))
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


def _base_of(inputs: EnvironmentInputs) -> BaseInputs:
    return _BASE._replace(python_version=inputs.plan.python.version)


if __name__ == "__main__":
    run_script(main)
