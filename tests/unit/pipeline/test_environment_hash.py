"""Which inputs count in the input hash and in the environment hash, by the table of ``docs/hashes.md``."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_ARM64
from imagesync.image_layout import BaseImage, CopiedFile, CopiedFiles, ImageOptions, image_tag
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.save import form_of, save
from imagesync.lock.lockfile.write import Bundle
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_hash import (
    BaseInputs,
    has_only_interpreter,
    lock_content,
    packages_hash,
    plan_content,
)
from imagesync.pipeline.input_hash import input_hash, packages_input_hash
from imagesync.pipeline.lock_file_inputs import LockFileInputs
from imagesync.plan.loose_code import Code, CodeFile, CodePath
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Interpreter, Package, Source
from imagesync.scan.modifications.modification import Modification
from imagesync.settings.model import Settings
from imagesync.store.store import StoredFile
from imagesync.wheels.wheel_contents import content_digest

TABLE = Path(__file__).parents[3] / "docs" / "hashes.md"
ONE, TWO, THREE, NINE = ("sha256:" + digit * 64 for digit in "1239")
PYTHON = PlannedPackage(canonicalize_name("python"), "3.11.7", Level.CRITICAL, "==3.11.*", "", requested=True)
TOOLZ = PlannedPackage(
    name=canonicalize_name("toolz"),
    version="1.1.0",
    level=Level.COMPATIBLE,
    specifier="~=1.1.0",
    reason="Later fixes will do.",
    installed=Package(name=canonicalize_name("toolz"), version="1.1.0", location="/here/site-packages"),
)
MINE = PlannedPackage(
    name=canonicalize_name("mine"),
    version="0.1",
    level=Level.EXACT,
    specifier="==0.1",
    reason="Its wheel is made here.",
    source=Source(kind="directory", url="file:///here/mine", editable=True),
)
PLAN = Plan(
    python=Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/here/bin/python", "/here", "/usr"),
    packages=(MINE, PYTHON, TOOLZ),
)
CHANGED = Modification("toolz", "pip", edited={"toolz/a.py": "00"})
LOOSE = Code((CodePath("/here/lib", "/here/lib", (CodeFile("a.py", "/here/lib/a.py", 3),), TWO),))
CHANNEL = "https://conda.example.com/main"


def conda_package(name: str, version: str, build: str) -> PlannedConda:
    filename = f"{name}-{version}-{build}.conda"
    url = f"{CHANNEL}/linux-64/{filename}"
    record = CondaRecord(name, version, build, 0, CHANNEL, "linux-64", filename, url, sha256=ONE)
    return PlannedConda(name, version, build, Level.EXACT, f"=={version}", "", record=record)


BASE = BaseInputs(TWO, THREE, "3.11.2")
BASE_IMAGE = BaseImage(
    reference="imagesync-base:1",
    root="debian:bookworm-slim",
    digest=ONE,
    image_id=ONE,
    python_version="3.11.2",
    python_executable="/usr/bin/python3",
    glibc=(2, 36),
    base_hash=TWO,
)
BLAS = conda_package("libblas", "3.9.0", "20_openblas")
CONDA_PYTHON = PlannedConda("python", "3.11.7", "", Level.CRITICAL, "==3.11.7", "")


@dataclass(frozen=True)
class Case:
    """Everything that the hashes are made from, of an environment on the image's own platform."""

    plan: Plan = PLAN
    sources: Mapping[Any, str] = field(default_factory=lambda: {MINE.name: ONE})
    wheels: Mapping[Any, str] = field(default_factory=lambda: {MINE.name: TWO})
    built_here: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[str, ...] = ("https://pypi.org/simple",)
    base: BaseInputs = BASE
    settings: Settings = field(default_factory=Settings)

    @property
    def input_hash(self) -> str:
        return input_hash(
            self.plan,
            source_digests=self.sources,
            indexes=self.indexes,
            built_here=self.built_here,
            base=self.base,
            settings=self.settings,
        )

    @property
    def scanned(self) -> str | None:
        content = plan_content(self.plan, wheels=self.wheels, modified=self.built_here, base=self.base)
        return None if content is None else content.digest

    @property
    def lock(self) -> Lock:
        from_conda = any(package.name == "python" for package in self.plan.conda)
        indexed = [p for p in self.plan.packages if not p.vendored and p.name != "python"]
        conda = tuple(locked_conda(package) for package in self.plan.conda)
        if has_only_interpreter(self.plan) and from_conda:
            conda = (replace(locked_conda(conda_package("openssl", "3.3.1", "h1")), planned=None), *conda)
        return Lock(
            target=Target(
                self.plan.platform,
                self.plan.python.version if from_conda else self.base.python_version,
                (2, 36),
            ),
            packages=tuple(
                LockedPackage(p.name, p.version, artifact(f"{p.name}-{p.version}-py3-none-any.whl"), p)
                for p in indexed
                if p.name not in self.built_here
            ),
            vendored=tuple(
                VendoredPackage(p.name, p.version, self.built_here.get(p.name, ONE), p, repacked)
                for p in self.plan.packages
                if (repacked := "built here" if p.name in self.built_here else "") or p.vendored
            ),
            conda=conda,
        )

    @property
    def locked(self) -> str:
        return lock_content(
            self.lock,
            wheels=self.wheels,
            code=self.plan.code.digest,
            options=self.plan.options.digest,
            base=self.base,
            only_interpreter=has_only_interpreter(self.plan),
        ).digest

    def with_plan(self, **changed: Any) -> Case:
        return replace(self, plan=replace(self.plan, **changed))

    def with_settings(self, **changed: Any) -> Case:
        return replace(self, settings=Settings(**changed))

    def with_base(self, **changed: Any) -> Case:
        return replace(self, base=self.base._replace(**changed))


def locked_conda(package: PlannedConda) -> LockedConda:
    record = package.record
    subdir, digest = ("linux-64", NINE) if record is None else (record.subdir, record.sha256)
    filename = f"{package.name}-{package.version}-{package.build or 'h7'}.conda"
    return LockedConda(
        package.name,
        package.version,
        package.build or "h7",
        CHANNEL,
        subdir,
        Artifact(filename, f"{CHANNEL}/{subdir}/{filename}", digest),
        planned=package,
    )


def artifact(filename: str) -> Artifact:
    return Artifact(filename, f"https://files.example.com/{filename}", NINE)


PIP = Case()
CONDA = PIP.with_plan(
    conda=(BLAS, conda_package("python", "3.11.7", "h0")), interpreter="conda", channels=(CHANNEL,)
)
FROM_CHANNEL = PIP.with_plan(conda=(CONDA_PYTHON,), interpreter="conda", channels=(CHANNEL,))
UNISOLATED = PIP.with_settings(no_isolation=("Mine",))
CYTHON = LeftOut("cython", "3.0", Level.IGNORE, "")
SOLVED = PIP.with_plan(conda=(replace(BLAS, record=None),), python=replace(PLAN.python, platform="win-amd64"))


def with_toolz(case: Case, **changed: Any) -> Case:
    return case.with_plan(packages=(MINE, PYTHON, replace(TOOLZ, **changed)))


def with_blas(**changed: Any) -> Case:
    record = BLAS.record
    assert record is not None
    record = replace(record, **changed)
    blas = replace(BLAS, version=record.version, build=record.build, record=record)
    return CONDA.with_plan(conda=(blas, CONDA.plan.conda[1]))


def with_python(case: Case, version: str) -> Case:
    conda = tuple(replace(p, version=version) if p.name == "python" else p for p in case.plan.conda)
    packages = (MINE, replace(PYTHON, version=version), TOOLZ)
    return case.with_plan(packages=packages, conda=conda, python=replace(PLAN.python, version=version))


# For each row of the table: what it is changed from, and the changed cases.
CHANGES: dict[str, tuple[Case, Callable[[], tuple[Case, ...]]]] = {
    "a package from an index, or its version": (
        PIP,
        lambda: (with_toolz(PIP, version="1.1.1"), PIP.with_plan(packages=(MINE, PYTHON))),
    ),
    "a package's level or specifier": (
        PIP,
        lambda: (with_toolz(PIP, level=Level.EXACT), with_toolz(PIP, specifier="==1.1.0")),
    ),
    "the sources of a local package, where its wheel stays the same: a README, a notebook, a commit": (
        PIP,
        lambda: (replace(PIP, sources={MINE.name: NINE}),),
    ),
    "the files or the metadata in the wheel of a local package": (
        PIP,
        lambda: (replace(PIP, wheels={MINE.name: NINE}),),
    ),
    "installed files that were changed since their installation, in the image": (
        PIP,
        lambda: (
            replace(
                with_toolz(PIP, modification=CHANGED, as_installed=True),
                sources={MINE.name: ONE, TOOLZ.name: NINE},
                wheels={MINE.name: TWO, TOOLZ.name: NINE},
            ),
        ),
    ),
    "installed files that were changed, where the image doesn't get that": (
        PIP,
        lambda: (with_toolz(PIP, modification=CHANGED),),
    ),
    "whether a package of an index was built on this machine": (
        PIP,
        lambda: (replace(PIP, built_here={"toolz": NINE}),),
    ),
    "loose code: names, executable bits and bytes": (PIP, lambda: (PIP.with_plan(code=LOOSE),)),
    "`env`, `labels`, `cmd`, `workdir`, `user`, `run`, `run-network`; names and bytes of `files`": (
        PIP,
        lambda: tuple(
            PIP.with_plan(options=ImageOptions(**changed))
            for changed in (
                {"env": {"A": "1"}},
                {"labels": {"A": "1"}},
                {"cmd": ("bash",)},
                {"workdir": "/srv"},
                {"user": "0:0"},
                {"run": ("true",)},
                {"run": ("true",), "run_network": True},
                {"files": (CopiedFiles("/srv/a", (CopiedFile("/srv/a", "/here/a", 1),), ONE),)},
                {"files": (CopiedFiles("/srv/a", (CopiedFile("/srv/a", "/here/a", 1),), TWO),)},
            )
        ),
    ),
    "version, build or subdirectory of a conda package": (
        CONDA,
        lambda: (with_blas(version="3.9.1"), with_blas(build="20_mkl"), with_blas(subdir="noarch")),
    ),
    "the digest of a conda package's archive": (CONDA, lambda: (with_blas(sha256=NINE),)),
    "where Python comes from: the base image or a channel": (PIP, lambda: (FROM_CHANNEL,)),
    "the version of the local Python, with the base image's Python in the image": (
        PIP,
        lambda: (with_python(PIP, "3.11.8"),),
    ),
    "the version of Python from a channel": (
        FROM_CHANNEL,
        lambda: (with_python(FROM_CHANNEL, "3.11.8"),),
    ),
    "the version of the base image's Python": (PIP, lambda: (PIP.with_base(python_version="3.11.9"),)),
    "a channel's silence, for which the image has the base image's Python": (
        PIP,
        lambda: (PIP.with_plan(interpreter_reason="nobody answers"),),
    ),
    "the base: the root image's digest, `Dockerfile.base`, `apt`, `toolchain`": (
        PIP,
        lambda: (PIP.with_base(base_hash=NINE),),
    ),
    "templates, the user's own included, and the programs of a build": (
        PIP,
        lambda: (PIP.with_base(templates_digest=NINE),),
    ),
    "the image's platform": (
        PIP,
        lambda: (PIP.with_plan(platform=LINUX_ARM64, python=replace(PLAN.python, platform="linux-aarch64")),),
    ),
    "`strict`": (PIP, lambda: (PIP.with_plan(strict=True),)),
    "the imports that a profile has verified": (
        PIP,
        lambda: (PIP.with_plan(critical_imports=("distributed",)),),
    ),
    "`allow-inconsistent`": (PIP, lambda: (PIP.with_settings(allow_inconsistent=True),)),
    "`resolver`": (PIP, lambda: (PIP.with_settings(resolver="pip-tools"),)),
    "`solver`, `cuda`": (
        CONDA,
        lambda: (CONDA.with_settings(solver="conda-lock"), CONDA.with_settings(cuda="12.4")),
    ),
    "`no-isolation` for a local package": (PIP, lambda: (PIP.with_settings(no_isolation=("Mine",)),)),
    "any installed version, where a local package is or may be built without isolation": (
        UNISOLATED,
        lambda: (UNISOLATED.with_plan(left_out=(CYTHON,)),),
    ),
    "`no-build`": (PIP, lambda: (PIP.with_settings(no_build=True),)),
    "pins of conda and `channel_priority`, where versions are chosen": (
        SOLVED,
        lambda: (
            SOLVED.with_plan(pinned=("libblas *=*openblas",)),
            SOLVED.with_plan(channel_priority="strict"),
        ),
    ),
    "indexes, find-links, and how they are asked: strategy, bound packages, restrictions": (
        PIP,
        lambda: (replace(PIP, indexes=(*PIP.indexes, "https://mirror.example.com/simple")),),
    ),
    "channels, where conda versions are chosen": (
        SOLVED,
        lambda: (SOLVED.with_plan(channels=("https://mirror.example.com/main",)),),
    ),
    "channels, where the installed conda packages are the lock": (
        CONDA,
        lambda: (CONDA.with_plan(channels=("https://mirror.example.com/main",)),),
    ),
    "paths of this machine, and the order of packages": (
        PIP,
        lambda: (
            PIP.with_plan(packages=(TOOLZ, MINE, PYTHON)),
            PIP.with_plan(python=replace(PLAN.python, prefix="/there", executable="/there/bin/python")),
            PIP.with_plan(
                packages=(replace(MINE, source=Source("directory", "file:///there")), PYTHON, TOOLZ)
            ),
        ),
    ),
    "reasons, requests, and other words of a plan": (
        PIP,
        lambda: (with_toolz(PIP, reason="In other words."), with_toolz(PIP, requested=True)),
    ),
    "`repository`, and the name of the base image": (
        PIP,
        lambda: (PIP.with_settings(repository="elsewhere/env", base="another:name"),),
    ),
}


def rows() -> dict[str, tuple[bool, bool]]:
    """Return the table of the documentation: by input, whether it counts in each hash."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: (inputs == "yes", content == "yes") for name, inputs, content in cells[1:]}


def test_table_of_the_documentation_names_the_inputs_that_are_tested() -> None:
    assert list(rows()) == list(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_input_counts_in_exactly_the_hashes_that_the_documentation_says(name: str) -> None:
    before, changes = CHANGES[name]
    in_inputs, in_content = rows()[name]
    for after in changes():
        assert after != before
        assert (after.input_hash != before.input_hash) == in_inputs
        assert (after.locked != before.locked) == in_content
        # What the scan says without a lock is what the lock says.
        assert after.scanned in (None if after.plan.python.platform == "win-amd64" else after.locked,)


@pytest.mark.parametrize("case", [PIP, CONDA, FROM_CHANNEL, replace(PIP, built_here={"toolz": NINE})])
def test_scan_and_lock_give_one_environment_hash(case: Case) -> None:
    assert case.scanned == case.locked
    assert case.locked.startswith("sha256:")
    assert image_tag(case.locked) == case.locked[len("sha256:") :][:16]


def inputs_of(path: Path, cache: Path) -> LockFileInputs:
    return LockFileInputs(path, Context(Settings(cache_dir=cache)), Code(), lambda: BASE_IMAGE)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (PIP, "conda-lock.yml"),
        (PIP, "pylock.toml"),
        (PIP, "explicit.txt"),
        (CONDA, "conda-lock.yml"),
        (CONDA, "explicit.txt"),
        (FROM_CHANNEL, "conda-lock.yml"),
        (FROM_CHANNEL, "explicit.txt"),
    ],
)
def test_lock_file_of_an_environment_gives_the_hash_of_its_scan(
    case: Case, name: str, tmp_path: Path
) -> None:
    wheel = tmp_path / "wheels" / "mine-0.1-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mine.py", "value = 1\n")
    digest = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    case = replace(case, wheels={MINE.name: content_digest(wheel)})
    stored = StoredFile(wheel.name, wheel, digest, wheel.stat().st_size)
    bundle = Bundle(
        case.plan,
        case.lock,
        files={f"wheels/{wheel.name}": stored},
        wheels={MINE.name: stored},
        md5={package.name: "a" * 32 for package in case.lock.conda},
    )
    path = tmp_path / name
    save((bundle,), path, "explicit" if name == "explicit.txt" else form_of(path))
    inputs = inputs_of(path, tmp_path / "cache")
    known = inputs.known_hash(case.base)
    assert known is not None
    assert known.digest == case.scanned
    assert known.artifacts == case.lock.artifacts_digest
    # Without its wheels, and on a base with another Python, the build says what is wrong.
    elsewhere = replace(inputs, context=Context(Settings(cache_dir=tmp_path / "other")))
    wheel.write_bytes(b"something else")
    assert elsewhere.known_hash(case.base) is None
    if case.plan.interpreter == "base":
        assert inputs.known_hash(case.base._replace(python_version="3.12.1")) is None


def test_requirements_with_hashes_of_an_environment_give_the_hash_of_its_scan(tmp_path: Path) -> None:
    case = replace(PIP.with_plan(packages=(PYTHON, TOOLZ)), wheels={})
    path = tmp_path / "requirements.txt"
    save((Bundle(case.plan, case.lock),), path, "requirements")
    inputs = inputs_of(path, tmp_path / "cache")
    assert inputs.known_hash(case.base) is None  # an index has to say which artifacts these are
    assert inputs.locked_hash(case.lock, case.base, {}).digest == case.scanned


def test_lock_file_without_sha256_waits_for_the_digests_of_its_archives(tmp_path: Path) -> None:
    case = replace(CONDA.with_plan(packages=(PYTHON, TOOLZ)), wheels={})

    def inputs(md5: str, channel: str = CHANNEL) -> LockFileInputs:
        bundle = Bundle(case.plan, case.lock, md5={package.name: md5 for package in case.lock.conda})
        path = tmp_path / "conda-lock.yml"
        save((bundle,), path, "conda-lock")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        del content["metadata"]["custom_metadata"]  # as another tool writes it
        for entry in content["package"]:
            if entry["manager"] == "conda":
                del entry["hash"]["sha256"]
                entry["url"] = entry["url"].replace(CHANNEL, channel)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        found = inputs_of(path, tmp_path / "cache")
        assert found.lock_file.lock.artifacts_digest == ""
        return found

    one = inputs("a" * 32)
    assert one.known_hash(case.base) is None
    assert one.locked_hash(case.lock, case.base, {}).artifacts == case.lock.artifacts_digest
    same, other, elsewhere = (
        inputs("a" * 32).packages_input_hash(case.base),
        inputs("b" * 32).packages_input_hash(case.base),
        inputs("a" * 32, "https://mirror.example.com/main").packages_input_hash(case.base),
    )
    assert one.packages_input_hash(case.base) == same
    assert len({same, other, elsewhere}) == 3


@pytest.mark.parametrize(
    "case",
    [
        with_toolz(PIP, installed=None),
        with_toolz(PIP, extras=("fast",)),
        PIP.with_plan(python=replace(PLAN.python, platform="macosx-14.0-arm64")),
        PIP.with_plan(python=replace(PLAN.python, libc="musl 1.2")),
        CONDA.with_plan(conda=(replace(BLAS, record=None), CONDA.plan.conda[1])),
        replace(PIP, wheels={}),
        PIP.with_base(python_version=""),
    ],
)
def test_no_hash_is_known_by_a_scan_if_versions_are_chosen_or_a_wheel_is_unknown(case: Case) -> None:
    assert case.scanned is None


def test_version_counts_in_its_normal_form() -> None:
    odd = with_toolz(PIP, version="1.01.0-rc.1")
    assert odd.scanned == with_toolz(PIP, version="1.1.0rc1").scanned
    assert with_toolz(PIP, version="not a version").scanned not in (None, odd.scanned)


def test_loose_code_counts_and_not_where_it_lies() -> None:
    (path,) = LOOSE.paths
    moved = replace(
        path, path="/there", root="/there", files=(CodeFile("a.py", "/there/a.py", 3, modified=9),)
    )
    with_code = PIP.with_plan(code=LOOSE)
    for same in (with_code.with_plan(code=Code((moved,))),):
        assert (same.input_hash, same.scanned) == (with_code.input_hash, with_code.scanned)
    # A path of which nothing goes in is as good as none.
    empty = PIP.with_plan(code=Code((replace(path, files=()),)))
    assert (empty.input_hash, empty.scanned) == (PIP.input_hash, PIP.scanned)


def test_unisolated_build_of_a_package_from_an_index_counts_nowhere() -> None:
    assert PIP.with_settings(no_isolation=("toolz", "nothing")).input_hash == PIP.input_hash
    assert PIP.with_plan(left_out=(CYTHON,)).input_hash == PIP.input_hash


def packages(case: Case) -> str:
    return packages_input_hash(
        case.plan, indexes=case.indexes, built_here=case.built_here, base=case.base, settings=case.settings
    )


def test_own_packages_and_code_leave_the_packages_image_as_it_is() -> None:
    edited = PIP.with_plan(packages=(replace(MINE, version="0.2"), PYTHON, TOOLZ))
    assert packages(edited) == packages(PIP)
    assert packages(PIP.with_plan(packages=(PYTHON, TOOLZ), code=LOOSE)) == packages(PIP)
    assert packages(PIP.with_plan(options=ImageOptions(env={"A": "1"}, run=("true",)))) == packages(PIP)


@pytest.mark.parametrize(
    "case",
    [
        with_toolz(PIP, version="1.1.1"),
        PIP.with_plan(packages=(MINE, PYTHON)),
        PIP.with_plan(strict=True),
        with_python(PIP, "3.11.3"),
        replace(PIP, built_here={"toolz": NINE}),
        PIP.with_base(base_hash=NINE),
        PIP.with_base(templates_digest=NINE),
        PIP.with_settings(resolver="pip-tools"),
        PIP.with_settings(allow_inconsistent=True),
        PIP.with_settings(no_build=True),
        replace(PIP, indexes=("https://mirror.example.com/simple",)),
    ],
)
def test_what_decides_the_packages_image_changes_its_input_hash(case: Case) -> None:
    assert packages(case) != packages(PIP)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, packages=(MINE, replace(TOOLZ, installed=None))),
        replace(PLAN, packages=(MINE, replace(TOOLZ, extras=("fast",)))),
        replace(PLAN, python=replace(PLAN.python, platform="macosx-14.0-arm64")),
    ],
)
def test_own_packages_count_where_packages_are_resolved(plan: Plan) -> None:
    needy = Package(name=MINE.name, version="0.1", requires=("toolz>=1",))
    edited = replace(plan, packages=(replace(MINE, installed=needy), *plan.packages[1:]))
    assert packages(replace(PIP, plan=edited)) != packages(replace(PIP, plan=plan))


def test_packages_image_is_named_by_the_digests_of_its_artifacts_and_not_by_deviations() -> None:
    lock = PIP.lock
    name = packages_hash(lock, PIP.base)
    (toolz,) = lock.packages
    other = replace(toolz, artifact=replace(toolz.artifact, digest=ONE))
    assert packages_hash(replace(lock, packages=(other,)), PIP.base) != name
    assert packages_hash(replace(lock, resolver="pip-tools"), PIP.base) == name
    assert packages_hash(lock, PIP.base._replace(templates_digest=NINE)) != name
