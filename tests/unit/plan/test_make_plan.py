"""Plans: the level, specifier and reason of each package, and what is said."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.errors import CriticalPackageMissing, PlanError, UsageError
from imagesync.plan.levels import load_levels, load_profiles
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Environment, Interpreter, Package, Severity, Source
from imagesync.settings.model import Settings
from tests.plans import PYTHON, codes, distribution, left_out

MAC = replace(PYTHON, platform="macosx-14.0-arm64")
DASK = ("dask==2026.8.0", "distributed==2026.8.0", "msgpack==1.2.4", "cloudpickle==3.1.2")
DASK += ("tornado==6.6.1", "toolz==1.2.0")


def environment(*packages: Package | str, python: Interpreter = PYTHON) -> Environment:
    made = [distribution(package) if isinstance(package, str) else package for package in packages]
    return Environment(python, tuple(sorted(made, key=lambda package: package.name)))


def planned(plan: Plan, name: str) -> PlannedPackage:
    return next(package for package in plan.packages if package.name == name)


def names(plan: Plan) -> list[str]:
    return [package.name for package in plan.packages]


def test_dask_environment_takes_the_dask_profile() -> None:
    plan = make_plan(environment(*DASK, "numpy==2.4.6", "xarray==2026.9.0"), settings=Settings())
    assert plan.profile == "dask"
    assert planned(plan, "distributed").level is Level.CRITICAL
    assert planned(plan, "distributed").specifier == "==2026.8.0"
    assert planned(plan, "numpy").level is Level.NEAREST
    assert planned(plan, "xarray").level is Level.COMPATIBLE
    assert planned(plan, "xarray").specifier == "~=2026.9.0"
    assert plan.critical_imports == ("dask", "distributed", "msgpack", "cloudpickle", "tornado", "toolz")
    assert plan.findings == ()
    assert names(plan) == sorted(names(plan))
    assert all(package.reason.endswith(".") for package in plan.packages)


def test_python_is_critical_with_its_feature_version() -> None:
    python = planned(make_plan(environment(), settings=Settings()), "python")
    assert (python.level, python.specifier, python.version) == (Level.CRITICAL, "==3.11.*", "3.11.7")
    strict = planned(make_plan(environment(), settings=Settings(strict=True)), "python")
    assert strict.specifier == "==3.11.7"


def test_python_built_from_a_branch_is_planned_too() -> None:
    built = replace(PYTHON, version="3.13.0+")
    plan = make_plan(environment(python=built), settings=Settings(strict=True))
    assert planned(plan, "python").specifier == "==3.13.0"


@pytest.mark.parametrize(("package", "profile"), [("ray==2.9.0", "ray"), ("numpy==2.4.6", "none")])
def test_auto_chooses_by_what_is_installed(package: str, profile: str) -> None:
    assert make_plan(environment(package), settings=Settings()).profile == profile


def test_auto_prefers_the_dask_profile_to_ray() -> None:
    assert make_plan(environment(*DASK, "ray==2.9.0"), settings=Settings()).profile == "dask"


def test_missing_critical_package_names_what_to_install() -> None:
    without = environment("pip==23.2.1", *(pin for pin in DASK if not pin.startswith("distributed")))
    with pytest.raises(CriticalPackageMissing) as caught:
        make_plan(without, settings=Settings())
    assert "distributed" in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("/env/bin/python -m pip install distributed==2026.8.0")


def test_hint_without_pip_is_a_uv_command() -> None:
    with pytest.raises(CriticalPackageMissing) as caught:
        make_plan(environment("numpy==2.4.6"), settings=Settings(levels={"Scikit_Learn": "critical"}))
    assert caught.value.hint == "uv pip install --python /env/bin/python scikit-learn"


def test_strict_makes_everything_exact() -> None:
    plan = make_plan(
        environment(*DASK, "xarray==2026.9.0", "torch==2.1.0+cu121"), settings=Settings(strict=True)
    )
    assert planned(plan, "xarray").level is Level.EXACT
    assert planned(plan, "torch").specifier == "==2.1.0+cu121"
    assert all(package.strict == (package.level is not Level.CRITICAL) for package in plan.packages)
    assert all(package.specifier.startswith("==") for package in plan.packages)


def test_reason_explains_a_build_label() -> None:
    here = environment("torch==2.1.0+cu121", "tool==1.2.3+local")
    plan = make_plan(here, settings=Settings())
    assert planned(plan, "torch").specifier == "==2.1.0+cu121"
    assert "'+cu121' is part of the version" in planned(plan, "torch").reason
    assert planned(plan, "tool").specifier == "~=1.2.3"
    assert "'+local' is set aside" in planned(plan, "tool").reason


def test_legacy_version_is_pinned_with_a_finding() -> None:
    plan = make_plan(environment("pytz==2004d-final"), settings=Settings())
    assert planned(plan, "pytz").specifier == "===2004d-final"
    assert codes(plan) == ["legacy-version"]


def test_version_that_nothing_can_express_is_left_out_with_an_error() -> None:
    plan = make_plan(environment("odd==1.0 (beta)"), settings=Settings())
    assert left_out(plan, "odd").version == "1.0 (beta)"
    assert [finding.severity for finding in plan.findings] == [Severity.ERROR]


def test_installer_is_left_out_and_setuptools_unless_asked_for() -> None:
    asked = environment(
        distribution("pip==23.2.1", requested=True), distribution("setuptools==80.9.0", requested=True)
    )
    plan = make_plan(asked, settings=Settings())
    assert left_out(plan, "pip").level is Level.IGNORE
    assert planned(plan, "setuptools").level is Level.COMPATIBLE
    unasked = make_plan(environment("setuptools==80.9.0"), settings=Settings())
    assert left_out(unasked, "setuptools").level is Level.IGNORE_UNLESS_REQUESTED


def test_requirement_of_a_kept_package_is_kept() -> None:
    tools = distribution("pip-tools==7.6.2", "pip>=22", "wheel", 'pytest; extra == "testing"')
    plan = make_plan(
        environment(tools, "pip==23.2.1", "wheel==0.45.1", "setuptools==80.9.0"), settings=Settings()
    )
    assert "pip-tools requires it" in planned(plan, "pip").reason
    assert "wheel" in names(plan)
    assert [package.name for package in plan.left_out] == ["setuptools"]


def test_requirement_of_an_extra_or_of_another_platform_keeps_nothing() -> None:
    package = distribution("a==1.0.0", 'wheel; extra == "dev"', 'setuptools; sys_platform == "win32"')
    plan = make_plan(environment(package, "wheel==0.45.1", "setuptools==80.9.0"), settings=Settings())
    assert [package.name for package in plan.left_out] == ["setuptools", "wheel"]
    assert plan.findings == ()


@pytest.mark.parametrize(
    "pin", ["pywin32==311.0.0", "PyObjC-framework-Cocoa==11.0.0", "vs2015_runtime==14.42"]
)
def test_platform_only_packages_are_left_out_and_listed(pin: str) -> None:
    plan = make_plan(environment(pin, python=MAC), settings=Settings())
    assert names(plan) == ["python"]
    assert [package.level for package in plan.left_out] == [Level.PLATFORM_ONLY]


def test_linux_wheel_of_a_platform_only_name_stays() -> None:
    package = distribution("appnope==0.1.4", tags=("cp311-cp311-manylinux_2_17_x86_64",))
    assert "appnope" in names(make_plan(environment(package), settings=Settings()))


def test_ignored_package_is_left_out_though_it_is_required() -> None:
    plan = make_plan(
        environment(distribution("Jinja2==3.1.6"), distribution("flask==3.1.0", "Jinja2>=3.1")),
        settings=Settings(ignore=("JINJA2",)),
    )
    assert left_out(plan, "jinja2").reason == "Your settings ignore it."
    assert codes(plan) == ["required-but-left-out"]
    assert "flask" in plan.findings[0].message


def test_ignored_critical_package_is_a_finding() -> None:
    plan = make_plan(environment(*DASK), settings=Settings(ignore=("toolz",)))
    assert "critical-overruled" in codes(plan)
    assert "toolz" not in plan.critical_imports


def test_only_takes_what_is_required_and_what_is_critical() -> None:
    here = environment(
        *DASK,
        distribution("mine==0.1.0", "xarray[io]>=2024"),
        distribution("xarray==2026.9.0", 'zarr>=2; extra == "io"', 'scipy; extra == "accel"'),
        "zarr==3.1.6",
        "scipy==1.17.1",
        "jupyterlab==4.6.6",
    )
    plan = make_plan(here, settings=Settings(only=("Mine",)))
    assert {"mine", "xarray", "zarr", "dask", "tornado"} <= set(names(plan))
    assert [package.name for package in plan.left_out] == ["jupyterlab", "scipy"]


def test_users_level_wins_over_the_shipped_one() -> None:
    settings = Settings(levels={"NumPy": "compatible", "xarr*": "exact", "toolz": "ignore"})
    plan = make_plan(environment(*DASK, "numpy==2.4.6", "xarray==2026.9.0"), settings=settings)
    assert planned(plan, "numpy").specifier == "~=2.4.6"
    assert planned(plan, "xarray").specifier == "==2026.9.0"
    assert left_out(plan, "toolz").level is Level.IGNORE


@pytest.mark.parametrize(
    ("packages", "command"),
    [
        (("pip==26.0",), "/env/bin/python -m pip install"),
        ((), "uv pip install --python /env/bin/python"),
    ],
)
def test_added_url_is_answered_by_the_command_that_installs_it(
    packages: tuple[str, ...], command: str
) -> None:
    line = "mine @ https://example.com/mine.zip"
    with pytest.raises(UsageError, match="only packages of an index") as caught:
        make_plan(environment("xarray==2026.9.0", *packages), settings=Settings(add_pip=(line,)))
    assert f"{command} '{line}'" in str(caught.value.hint)


@pytest.mark.parametrize("key", ["ignore", "only", "levels"])
def test_entry_that_matches_nothing_names_the_nearest(key: str) -> None:
    value = {"xaray": "exact"} if key == "levels" else ("xaray",)
    plan = make_plan(environment("xarray==2026.9.0"), settings=replace(Settings(), **{key: value}))
    finding = next(finding for finding in plan.findings if finding.code == "unmatched-setting")
    assert finding.severity is Severity.WARNING
    assert finding.hint == "Did you mean 'xarray'?"


def test_no_isolation_only_matches_locally_built_packages() -> None:
    source = Source(kind="directory", url="file:///work/mine", editable=True)
    here = environment("xarray==2026.9.0", distribution("mine==0.2", source=source))
    plan = make_plan(here, settings=Settings(no_isolation=("Mine", "xarray")))
    (finding,) = (finding for finding in plan.findings if finding.code == "unmatched-setting")
    assert (finding.severity, finding.package) == (Severity.WARNING, "xarray")
    assert "made on this machine" in finding.message


def test_requested_packages_come_first_in_what_is_left_out() -> None:
    here = environment(
        distribution("pip==23.2.1", requested=True),
        "appnope==0.1.4",
        distribution("pywin32==311", requested=True),
    )
    plan = make_plan(here, settings=Settings())
    assert [package.name for package in plan.left_out] == ["pywin32", "pip", "appnope"]


@pytest.mark.parametrize("kind", ["directory", "vcs", "archive"])
def test_local_sources_are_kept_and_exact(kind: str) -> None:
    source = Source(kind=kind, url="file:///work/mine", editable=kind == "directory")  # type: ignore[arg-type]
    plan = make_plan(environment(distribution("mine==0.2.dev3+g12ab", source=source)), settings=Settings())
    mine = planned(plan, "mine")
    assert mine.vendored
    assert mine.source == source
    assert (mine.level, mine.specifier) == (Level.EXACT, "==0.2.dev3+g12ab")


def test_additions_come_with_their_extras() -> None:
    settings = Settings(add_pip=("gunicorn[setproctitle]>=23", 'colorama; sys_platform == "win32"'))
    plan = make_plan(environment(python=MAC), settings=settings)
    added = planned(plan, "gunicorn")
    assert (added.version, added.specifier, added.extras) == ("", ">=23", ("setproctitle",))
    assert added.installed is None
    assert "colorama" not in names(plan)


def test_added_specifier_overrides_the_installed_version_with_a_finding() -> None:
    here = environment("numpy==1.26.4", "lz4==4.4.5")
    plan = make_plan(here, settings=Settings(add_pip=("NumPy>=2", "lz4>=4")))
    assert (planned(plan, "numpy").version, planned(plan, "numpy").specifier) == ("", ">=2")
    assert (planned(plan, "lz4").version, planned(plan, "lz4").specifier) == ("4.4.5", ">=4")
    assert {f.package: f.severity for f in plan.findings if f.code == "addition-wins"} == {
        "numpy": Severity.WARNING,
        "lz4": Severity.INFO,
    }


def test_addition_keeps_a_package_that_would_be_left_out() -> None:
    plan = make_plan(environment("wheel==0.45.1"), settings=Settings(add_pip=("wheel",)))
    assert planned(plan, "wheel").specifier == "~=0.45.1"
    assert plan.left_out == ()


def test_addition_without_a_specifier_only_adds_extras() -> None:
    plan = make_plan(environment(*DASK), settings=Settings(add_pip=("dask[array]",)))
    dask = planned(plan, "dask")
    assert (dask.level, dask.specifier, dask.extras) == (Level.CRITICAL, "==2026.8.0", ("array",))


@pytest.mark.parametrize("line", ["not a requirement", "x @ https://me:secret@example.com/x.whl", "a>=="])
def test_invalid_addition_is_refused_without_its_password(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(environment(), settings=Settings(add_pip=(line,)))
    assert "secret" not in str(caught.value)


def test_free_threaded_interpreter_is_refused() -> None:
    with pytest.raises(PlanError, match=r"free-threaded build of CPython 3\.13\.1") as caught:
        make_plan(environment(python=replace(PYTHON, version="3.13.1", abi="cp313t")), settings=Settings())
    assert "the usual CPython 3.13" in str(caught.value.hint)


def test_other_interpreters_are_refused() -> None:
    with pytest.raises(PlanError, match="pypy"):
        make_plan(environment(python=replace(PYTHON, implementation="pypy")), settings=Settings())


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (Settings(profile="dusk"), "Did you mean 'dask'?"),
        (Settings(levels={"a": "exakt"}), "Did you mean 'exact'?"),
    ],
)
def test_unknown_level_or_profile_names_the_nearest(settings: Settings, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(environment(), settings=settings)
    assert caught.value.hint == hint


def test_plan_is_json_and_stable() -> None:
    here = environment(*DASK, "numpy==2.4.6", "pip==23.2.1")
    settings = Settings(apt=("git", "libgomp1", "git"))
    plan = make_plan(here, settings=settings)
    assert plan.apt == ("git", "libgomp1")
    shuffled = replace(here, packages=tuple(reversed(here.packages)))
    assert make_plan(shuffled, settings=settings).to_dict() == plan.to_dict()


def test_shipped_data_is_canonical_and_speaks_in_sentences() -> None:
    levels = load_levels()
    for name, rule in (*levels.names.items(), *levels.patterns.items()):
        assert name == canonicalize_name(name)
        assert rule.reason.endswith("."), name
    for profile in load_profiles().values():
        for critical in profile.critical:
            assert critical.name == canonicalize_name(critical.name)
            assert critical.reason.endswith("."), critical.name


def test_profile_dask_has_what_dask_itself_compares() -> None:
    # required_packages and optional_packages of distributed/versions.py, 2026.8.0.
    required = {"dask", "distributed", "msgpack", "cloudpickle", "tornado", "toolz"}
    assert {critical.name for critical in load_profiles()["dask"].critical} == required
    levels = load_levels()
    assert {levels.names[name].level for name in ("numpy", "pandas", "lz4")} == {Level.NEAREST}


def test_planning_does_not_import_heavy_modules() -> None:
    import subprocess

    code = """
import sys
from imagesync.plan.make_plan import make_plan
from imagesync.settings.model import Settings
from imagesync.scan.environment import Environment, Interpreter
python = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "", "/env", "/usr")
make_plan(Environment(python, ()), settings=Settings())
heavy = {"packaging.requirements", "packaging.markers", "packaging.specifiers", "difflib", "rich", "docker"}
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
