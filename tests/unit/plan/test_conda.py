"""Plans of conda environments: names of both kinds, levels, what is left out, and what is added."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from rattler import MatchSpec

from imagesync.core.names import Level
from imagesync.errors import CriticalPackageMissing, PlanError, UsageError
from imagesync.pipeline.environment_hash import BaseInputs
from imagesync.pipeline.input_hash import input_hash, packages_input_hash
from imagesync.plan.checks.consistency import inconsistencies
from imagesync.plan.checks.file_conflicts import check_files
from imagesync.plan.conda import with_channels
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, possible_drift
from imagesync.scan.environment import CondaRecord, Environment, Interpreter, Package, Severity
from imagesync.settings.model import Settings
from tests.plans import PYTHON, codes, distribution

MAC = replace(PYTHON, platform="macosx-14.0-arm64")
CHANNEL = "https://conda.example.com/team"


def record(
    text: str,
    *depends: str,
    dists: tuple[str, ...] = (),
    requested: str = "",
    subdir: str = "linux-64",
) -> CondaRecord:
    name, version, build = (*text.split("="), "0", "h1_0")[:3]
    filename = f"{name}-{version}-{build}.conda"
    return CondaRecord(
        name=name,
        version=version,
        build=build,
        build_number=0,
        channel=CHANNEL,
        subdir=subdir,
        filename=filename,
        url=f"{CHANNEL}/{subdir}/{filename}",
        sha256="sha256:" + "a" * 64,
        requested_spec=requested,
        depends=depends,
        distributions=tuple(map(canonicalize_name, dists)),
    )


def environment(
    *records: CondaRecord, packages: tuple[Package, ...] = (), python: Interpreter = PYTHON
) -> Environment:
    provided = [
        Package(name, each.version, manager="conda", conda=each.name)
        for each in records
        for name in each.distributions
    ]
    ours = record(f"python={python.version}=h1_0_cpython", "openssl >=3", requested="python=3.11")
    return Environment(
        python,
        tuple(sorted((*provided, *packages), key=lambda package: package.name)),
        conda=tuple(sorted((ours, *records), key=lambda each: each.name)),
        channels=(CHANNEL,),
    )


DASK = (
    record("dask-core=2026.8.0", "cloudpickle", dists=("dask",)),
    record("distributed=2026.8.0", "msgpack-python >=1.0", dists=("distributed",)),
    record("msgpack-python=1.2.4=py311_0", dists=("msgpack",)),
    record("cloudpickle=3.1.2", dists=("cloudpickle",), subdir="noarch"),
    record("tornado=6.6.1", dists=("tornado",)),
    record("toolz=1.2.0", dists=("toolz",)),
)
NUMPY = record("numpy=1.26.4=py311h1", "libblas >=3.9", dists=("numpy",), requested="numpy")
BLAS = record("libblas=3.9.0=0_openblas")
OPENSSL = record("openssl=3.2.1")


def planned(plan: Plan, name: str) -> PlannedConda:
    return next(package for package in plan.conda if package.name == name)


def left_out(plan: Plan) -> dict[str, LeftOut]:
    return {package.name: package for package in plan.left_out}


def names(plan: Plan) -> set[str]:
    return {package.name for package in plan.conda}


def test_distributions_of_conda_packages_are_not_planned_for_pip() -> None:
    here = environment(NUMPY, BLAS, packages=(distribution("mine==1.0", "numpy"),))
    plan = make_plan(here, settings=Settings())
    assert [package.name for package in plan.packages] == ["mine", "python"]
    assert [package.name for package in plan.conda] == ["libblas", "numpy", "python"]
    assert [package.name for package in plan.provided] == ["numpy"]
    assert (plan.interpreter, plan.channels) == ("conda", (CHANNEL,))
    assert plan.findings == ()
    assert planned(plan, "numpy").record == NUMPY


def test_conda_python_is_critical_and_exact() -> None:
    plan = make_plan(environment(), settings=Settings(ignore=("python",), levels={"python": "ignore"}))
    python = planned(plan, "python")
    assert (python.level, python.specifier) == (Level.CRITICAL, "==3.11.7")
    assert next(p for p in plan.packages if p.name == "python").specifier == "==3.11.7"


def test_critical_packages_are_found_by_the_names_of_their_distributions() -> None:
    plan = make_plan(environment(*DASK), settings=Settings())
    assert plan.profile == "dask"
    assert planned(plan, "msgpack-python").level is Level.CRITICAL
    assert planned(plan, "msgpack-python").specifier == "==1.2.4"
    assert planned(plan, "dask-core").level is Level.CRITICAL
    assert "msgpack" in plan.critical_imports


def test_hint_for_a_missing_critical_package_is_a_conda_command() -> None:
    with pytest.raises(CriticalPackageMissing) as caught:
        make_plan(
            environment(*(each for each in DASK if each.name not in ("distributed", "msgpack-python"))),
            settings=Settings(),
        )
    assert caught.value.hint is not None
    command = "conda install --prefix /env distributed=2026.8.0 msgpack-python"
    assert caught.value.hint.splitlines()[0] == command


@pytest.mark.parametrize("name", ["msgpack", "msgpack-python", "MsgPack_Python", "*msgpack-py*"])
def test_users_level_applies_to_conda_name_and_distribution_name(name: str) -> None:
    plan = make_plan(
        environment(*DASK),
        settings=Settings(profile="none", levels={name.lower().replace("_", "-"): "exact"}),
    )
    entry = planned(plan, "msgpack-python")
    assert (entry.level, entry.specifier) == (Level.EXACT, "==1.2.4")
    assert codes(plan) == []


def test_shipped_level_applies_to_conda_name_and_distribution_name() -> None:
    torch = record("pytorch=2.4.1=cuda120_0", dists=("torch",))
    plan = make_plan(environment(NUMPY, BLAS, torch), settings=Settings())
    assert planned(plan, "numpy").level is Level.NEAREST
    assert planned(plan, "pytorch").level is Level.NEAREST
    assert planned(plan, "libblas").specifier == "~=3.9.0"


def test_conda_specifiers_are_valid_match_specs() -> None:
    odd = (
        "jpeg=9e",
        "tzdata=2024a",
        "openssl=1.1.1w",
        "x=2.1.0+cu121",
        "ca=2026.10.4",
        "r=4.3.1_2",
        "e=1!2.0.3",
    )
    plan = make_plan(environment(*map(record, odd)), settings=Settings())
    specs = {entry.name: MatchSpec(f"{entry.name} {entry.specifier}") for entry in plan.conda}
    assert specs["jpeg"].version == "==9e"
    assert specs["tzdata"].version == "==2024a"
    assert specs["openssl"].version == "~=1.1.1w"
    assert specs["x"].version == "~=2.1.0"
    assert all(entry.reason.endswith(".") for entry in plan.conda)


def test_strict_plan_has_exact_conda_specifiers() -> None:
    plan = make_plan(environment(NUMPY, BLAS), settings=Settings(strict=True))
    assert {entry.specifier[:2] for entry in plan.conda} == {"=="}
    assert possible_drift(plan, every=True) == ()


def test_package_of_the_level_nearest_could_differ() -> None:
    nearest = make_plan(environment(NUMPY), settings=Settings(levels={"numpy": "nearest"}))
    exact = make_plan(environment(NUMPY), settings=Settings(levels={"numpy": "exact"}))
    assert possible_drift(nearest, every=True) == ("numpy",)
    assert possible_drift(nearest, every=False) == possible_drift(exact, every=True) == ()


def test_platform_only_package_of_another_platform_is_left_out() -> None:
    libcxx = record("libcxx=17.0.6", subdir="osx-arm64")
    appnope = record("appnope=0.1.4", dists=("appnope",), subdir="noarch")
    objc = record("pyobjc-core=10.0", dists=("pyobjc-core",), subdir="osx-arm64", requested="pyobjc-core")
    numpy = replace(NUMPY, subdir="osx-arm64", depends=("libcxx >=16", "__osx >=11.0"))
    plan = make_plan(environment(libcxx, appnope, objc, numpy, python=MAC), settings=Settings())
    out = left_out(plan)
    assert set(out) == {"libcxx", "appnope", "pyobjc-core"}
    assert {entry.level for entry in out.values()} == {Level.PLATFORM_ONLY}
    assert {entry.manager for entry in out.values()} == {"conda"}
    # macOS packages depend on libcxx there, and those for Linux don't.
    assert codes(plan) == []
    # What the user asked for comes first.
    assert plan.left_out[0].name == "pyobjc-core"
    assert [entry.name for entry in plan.left_out if entry.missed] == ["pyobjc-core"]
    assert possible_drift(plan, every=False) == ("pyobjc-core",)


def test_linux_build_with_a_platform_only_name_is_kept() -> None:
    plan = make_plan(environment(record("libcxx=17.0.6")), settings=Settings())
    assert "libcxx" in names(plan)


def test_windows_runtime_is_left_out() -> None:
    windows = replace(PYTHON, platform="win-amd64")
    runtimes = (
        "vc=14.3",
        "vc14_runtime=14.38",
        "ucrt=10.0",
        "vs2015_runtime=14.38",
        "pywin32=306",
        "m2w64-gmp=6.1",
    )
    here = environment(*(record(text, subdir="win-64") for text in runtimes), python=windows)
    assert set(left_out(make_plan(here, settings=Settings()))) == {
        text.partition("=")[0] for text in runtimes
    }


def test_ignored_dependency_of_a_conda_package_is_a_finding() -> None:
    here = environment(NUMPY, BLAS, packages=(distribution("mine==1.0", "numpy"),))
    plan = make_plan(here, settings=Settings(ignore=("libblas", "numpy")))
    assert names(plan) == {"python"}
    assert plan.provided == ()
    assert [(f.package, f.message) for f in plan.findings if f.code == "required-but-left-out"] == [
        ("numpy", "numpy is left out of the image, and mine won't find it there.")
    ]
    plan = make_plan(here, settings=Settings(ignore=("lib*",)))
    assert [f.package for f in plan.findings] == ["libblas"]


def test_setting_only_keeps_dependencies_across_conda_and_pip() -> None:
    replaced = record("tool=1.0", "plugin >=2", requested="tool")
    here = environment(
        NUMPY,
        BLAS,
        OPENSSL,
        replaced,
        record("pandas=2.0.0", dists=("pandas",)),
        packages=(
            distribution("mine==1.0", "numpy"),
            distribution("plugin==2.0"),
            distribution("other==1.0"),
        ),
    )
    plan = make_plan(here, settings=Settings(only=("mine",)))
    assert names(plan) == {"numpy", "libblas", "openssl", "python"}
    assert [package.name for package in plan.packages] == ["mine", "python"]
    # pip has replaced what conda's package depends on.
    plan = make_plan(here, settings=Settings(only=("tool",)))
    assert names(plan) == {"tool", "openssl", "python"}
    assert [package.name for package in plan.packages] == ["plugin", "python"]


def test_ignore_unless_requested_follows_condas_requested_spec() -> None:
    tools = record("setuptools=80.0.0", dists=("setuptools",))
    assert "setuptools" in left_out(make_plan(environment(tools), settings=Settings()))
    asked = replace(tools, requested_spec="setuptools")
    assert "setuptools" in names(make_plan(environment(asked), settings=Settings()))
    needed = record("builder=1.0", "setuptools")
    plan = make_plan(environment(tools, needed), settings=Settings())
    assert planned(plan, "setuptools").reason.startswith("builder requires it.")


def test_settings_match_conda_names_and_distribution_names() -> None:
    plan = make_plan(
        environment(*DASK),
        settings=Settings(profile="none", ignore=("msgpack_python", "tornadoo", "_libgcc*")),
    )
    assert [finding.package for finding in plan.findings if finding.code == "unmatched-setting"] == [
        "tornadoo",
        "-libgcc*",
    ]


def test_ignored_critical_package_is_a_finding_with_its_name() -> None:
    plan = make_plan(environment(*DASK), settings=Settings(ignore=("msgpack-python",)))
    assert {finding.code for finding in plan.findings} == {"required-but-left-out", "critical-overruled"}
    assert "msgpack" not in plan.critical_imports


def test_match_spec_of_add_conda_is_planned() -> None:
    settings = Settings(add_conda=("cuda-version=12.4", "PyTorch >=2.4 cuda*", "libblas", "numpy 1.26.*"))
    plan = make_plan(environment(NUMPY, BLAS), settings=settings)
    assert planned(plan, "cuda-version").specifier == "12.4.*"
    assert (planned(plan, "pytorch").specifier, planned(plan, "pytorch").record) == (">=2.4 cuda*", None)
    assert planned(plan, "libblas").record == BLAS
    assert (planned(plan, "numpy").specifier, planned(plan, "numpy").record) == ("1.26.*", NUMPY)
    assert [(f.code, f.severity) for f in plan.findings] == [("addition-wins", Severity.INFO)]
    plan = make_plan(environment(NUMPY, BLAS), settings=Settings(add_conda=("numpy >=2",)))
    assert (planned(plan, "numpy").version, planned(plan, "numpy").record) == ("", None)
    assert plan.provided == ()
    assert [f.severity for f in plan.findings] == [Severity.WARNING]
    for entry in plan.conda:
        MatchSpec(f"{entry.name} {entry.specifier}")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("numpy ~~1", "isn't a match spec"),
        ("", "isn't a match spec"),
        ("https://me:secret@conda.example.com::numpy", "add.conda"),
        ("conda-forge::numpy", "names a channel"),
        ("numpy[license=MIT]", "more than name, version and build"),
        ("python 3.12.*", "critical"),
    ],
)
def test_invalid_spec_of_add_conda_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        make_plan(environment(NUMPY, BLAS), settings=Settings(add_conda=(spec,)))
    assert "secret" not in caught.value.message


def test_added_requirement_never_replaces_a_conda_distribution() -> None:
    here = environment(NUMPY, BLAS)
    assert make_plan(here, settings=Settings(add_pip=("numpy",))).findings == ()
    for line in ("numpy>=2", "numpy[x]"):
        with pytest.raises(UsageError, match="never both"):
            make_plan(here, settings=Settings(add_pip=(line,)))
    plan = make_plan(here, settings=Settings(ignore=("numpy",), add_pip=("numpy>=2",)))
    assert [package.name for package in plan.packages] == ["numpy", "python"]


def test_setting_python_conda_plans_python_from_conda() -> None:
    here = Environment(PYTHON, (distribution("mine==1.0"),), channels=(CHANNEL,))
    assert make_plan(here, settings=Settings()).interpreter == "base"
    plan = make_plan(here, settings=Settings(python_source="conda"))
    assert plan.interpreter == "conda"
    assert [(entry.name, entry.specifier) for entry in plan.conda] == [("python", "==3.11.7")]
    assert plan.channels == (CHANNEL,)
    assert names(make_plan(here, settings=Settings(add_conda=("r-base",)))) == {"python", "r-base"}
    with pytest.raises(PlanError, match=r"'add\.conda' names 1 conda package"):
        make_plan(here, settings=Settings(add_conda=("r-base",), python_source="base"))


def test_channels_come_from_settings_then_environment_then_configuration(
    tmp_path: Path,
) -> None:
    bare = Environment(replace(PYTHON, prefix=str(tmp_path)), ())
    environ = {"HOME": str(tmp_path), "CONDARC": str(tmp_path / "condarc")}
    assert with_channels(bare, (), environ=environ).channels == ("https://conda.anaconda.org/conda-forge",)
    (tmp_path / "condarc").write_text(
        "channels: [team]\nchannel_alias: https://me:secret@conda.example.com/\n"
    )
    assert with_channels(bare, (), environ=environ).channels == ("https://conda.example.com/team",)
    found = with_channels(
        replace(bare, channels=(CHANNEL,)), ("dev", "https://x:y@h.example/t/tk/c"), environ=environ
    )
    assert found.channels == ("https://conda.example.com/dev", "https://h.example/c")
    assert with_channels(replace(bare, channels=(CHANNEL,)), (), environ=environ).channels == (CHANNEL,)


def test_conda_records_decide_about_consistency_of_conda_packages() -> None:
    def provided(name: str, version: str, *requires: str) -> Package:
        return Package(
            canonicalize_name(name),
            version,
            manager="conda",
            conda=name,
            requires=requires,
            requires_python=">=4",
        )

    pandas = provided("pandas", "2.0", "numpy<2", "missing")
    assert inconsistencies(Environment(PYTHON, (provided("numpy", "2.1"), pandas))) == ()
    found = inconsistencies(Environment(PYTHON, (distribution("numpy==2.1"), pandas)))
    assert [conflict.requirement for conflict in found] == ["numpy<2"]
    found = inconsistencies(
        Environment(PYTHON, (distribution("mine==1.0", "numpy<2"), provided("numpy", "2.1")))
    )
    assert [conflict.package for conflict in found] == ["mine"]


def test_input_hash_covers_conda_packages() -> None:
    def both(plan: Plan, **settings: object) -> tuple[str, str]:
        base, found = BaseInputs("b", "t"), Settings(**settings)  # type: ignore[arg-type]
        return (
            input_hash(plan, source_digests={}, indexes=(), built_here={}, base=base, settings=found),
            packages_input_hash(plan, indexes=(), built_here={}, base=base, settings=found),
        )

    plan = make_plan(environment(NUMPY, BLAS), settings=Settings())
    seen = {both(plan)}
    other = replace(NUMPY, sha256="sha256:" + "b" * 64)
    for changed in (
        make_plan(environment(other, BLAS), settings=Settings()),
        make_plan(environment(replace(NUMPY, build="py311h2"), BLAS), settings=Settings()),
        make_plan(environment(NUMPY, BLAS), settings=Settings(levels={"libblas": "exact"})),
        make_plan(environment(NUMPY), settings=Settings()),
    ):
        seen.add(both(changed))
    seen.add(both(plan, cuda="12.4"))
    seen.add(both(plan, solver="conda-lock"))
    assert len({first for first, _ in seen}) == len({second for _, second in seen}) == 7
    # A pin counts where a version is chosen.
    assert both(replace(plan, pinned=("numpy 1.26.*",))) == both(plan)
    mac = replace(plan, python=replace(plan.python, platform="macosx-14.0-arm64"))
    assert both(replace(mac, pinned=("numpy 1.26.*",)))[0] != both(mac)[0]
    # A conda environment has its own Python, whatever the setting says.
    assert both(plan, python_source="base") == both(plan)
    # Where a package is from is like an index: it counts for what all projects share.
    moved = replace(plan, channels=("https://mirror.example.com/team",))
    assert both(moved)[0] == both(plan)[0]
    assert both(moved)[1] != both(plan)[1]


def test_input_hash_covers_the_setting_python() -> None:
    plan = make_plan(Environment(PYTHON, (distribution("mine==1.0"),)), settings=Settings())
    digests = {
        input_hash(
            plan,
            source_digests={},
            indexes=(),
            built_here={},
            base=BaseInputs("", ""),
            settings=Settings(python_source=source),
        )
        for source in ("auto", "base")
    }
    assert len(digests) == 2


def test_file_conflict_of_pip_and_conda_is_a_finding_of_the_plan(tmp_path: Path) -> None:
    def installed(name: str, files: dict[str, str]) -> Package:
        site = tmp_path / "lib" / "python3.11" / "site-packages"
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        lines = [f"{path},sha256={digest},3" for path, digest in files.items()]
        (metadata / "RECORD").write_text("\n".join(lines))
        return replace(
            distribution(f"{name}==1.0"), has_record=True, location=str(site), metadata_path=str(metadata)
        )

    def content(text: bytes) -> tuple[str, str]:
        digest = hashlib.sha256(text).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), digest.hex()

    (ours, ours_hex), (theirs, _) = content(b"a"), content(b"b")
    numpy = replace(NUMPY, depends=())
    (tmp_path / "conda-meta").mkdir()
    paths = [
        {"_path": path, "sha256": ours_hex} for path in ("bin/tool", "lib/python3.11/site-packages/same.py")
    ]
    record_text = json.dumps(
        {"files": [p["_path"] for p in paths] + ["share/x"], "paths_data": {"paths": paths}}
    )
    (tmp_path / "conda-meta" / "numpy-1.26.4-py311h1.json").write_text(record_text)
    other = installed("other", {"../../../bin/tool": theirs, "same.py": ours})
    quiet = installed("quiet", {"same.py": ours, "own.py": theirs})
    here = environment(numpy, packages=(other, quiet), python=replace(PYTHON, prefix=str(tmp_path)))
    found = check_files(make_plan(here, settings=Settings()), here)
    (finding,) = [each for each in found if each.code == "conda-overlap"]
    assert "other, which pip installed, has files of the conda package numpy" in finding.message
    assert "(bin/tool)" in finding.message
    assert check_files(make_plan(here, settings=Settings(ignore=("numpy",))), here) == ()
