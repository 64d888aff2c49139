"""What can't be solved is explained: which entries contradict one another, and what to let go of."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.core.names import Level, canonical_name
from imagesync.core.progress import SilentProgress
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.locked_records import planned_distribution
from imagesync.lock.explain import unsolvable
from imagesync.lock.make_lock import make_lock
from imagesync.lock.resolve_installed import resolve_installed
from imagesync.lock.resolve_platform import solve_platform
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Package, Source
from tests.indexes import LocalIndex
from tests.indexes.planning import TARGET, added, installed, plan_of
from tests.integration.test_lock_resolvers import RESOLVERS, environment, lock_with, open_resolver, versions

MAC = "macosx-14.0-arm64"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search for what helps come to its end on a busy machine, too."""
    monkeypatch.setattr(unsolvable, "SEARCH_SECONDS", {"uv": 300.0, "pip-tools": 300.0})


def refusal(index: LocalIndex, folder: Path, plan: Plan, *, name: str = "uv") -> UnsolvableError:
    """Return the error that locking *plan* ends with."""
    with pytest.raises(UnsolvableError) as caught:
        lock_with(open_resolver(name, environment(folder, PIP_INDEX_URL=index.url)), plan)
    return caught.value


def listed(error: UnsolvableError) -> list[str]:
    return [line[2:] for line in error.message.splitlines() if line.startswith("- ")]


def dask_and_distributed(index: LocalIndex) -> None:
    for version in ("2022.1.0", "2022.5.1"):
        index.add_wheel("dask", version, requires=["toolz>=0.8"])
        index.add_wheel("distributed", version, requires=[f"dask=={version}", "toolz>=0.8"])
    for version in ("0.11.0", "1.0.0"):
        index.add_wheel("toolz", version)


@pytest.mark.parametrize("name", sorted(RESOLVERS))
def test_an_addition_against_what_is_installed(name: str, index: LocalIndex, tmp_path: Path) -> None:
    dask_and_distributed(index)
    plan = plan_of(
        installed("dask", "2022.1.0", requires=["toolz>=0.8"]),
        installed("toolz", "0.11.0"),
        added("distributed", "==2022.5.1"),
    )
    error = refusal(index, tmp_path, plan, name=name)
    assert "The packages in 'add.pip' can't be added to what is installed: " in error.message
    assert "These of your packages can't go together on linux/amd64:" in error.message
    assert listed(error) == ["distributed==2022.5.1 (add.pip)", "dask 2022.1.0 (installed here)"]
    sentence, addition, local = str(error.hint).splitlines()
    assert sentence == "It can be solved if another version of distributed or dask will do."
    assert addition == "- distributed: 'distributed==2022.1.0' in add.pip, or nothing of it"
    assert local == "- dask: uv pip install --python python dask==2022.5.1"


def test_what_is_said_to_help_does(index: LocalIndex, tmp_path: Path) -> None:
    dask_and_distributed(index)
    resolver = open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url))
    for version, addition in (("2022.1.0", "==2022.1.0"), ("2022.5.1", "==2022.5.1")):
        lock = lock_with(resolver, plan_of(installed("dask", version), added("distributed", addition)))
        assert versions(lock)["distributed"] == version


def test_an_addition_that_takes_the_place_of_what_others_require(index: LocalIndex, tmp_path: Path) -> None:
    dask_and_distributed(index)
    # As a plan has it where the added version isn't the installed one.
    plan = plan_of(
        installed("distributed", "2022.5.1", requires=["dask==2022.5.1", "toolz>=0.8"]),
        installed("toolz", "0.11.0"),
        added("dask", "==2022.1.0"),
    )
    error = refusal(index, tmp_path, plan)
    assert listed(error) == [
        "dask==2022.1.0 (add.pip)",
        "distributed 2022.5.1 (installed here; it requires dask==2022.5.1)",
    ]
    assert "- distributed: uv pip install --python python distributed==2022.1.0" in str(error.hint)
    assert str(error.hint).splitlines()[-1] == "Or take it as it is: --allow-inconsistent"
    # Whoever says so gets it as it is.
    lock = make_lock(
        plan,
        target=TARGET,
        source_digests={},
        resolver=open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url)),
        progress=SilentProgress(),
        allow_inconsistent=True,
    )
    assert versions(lock)["dask"] == "2022.1.0"


def test_what_is_installed_counts_for_a_remedy_as_well(index: LocalIndex, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        index.add_wheel("shared", version)
    index.add_wheel("old", "1.0.0", requires=["shared<2"])
    index.add_wheel("needs", "1.0.0", requires=["shared>=2"])
    plan = plan_of(
        installed("shared", "1.0.0"),
        installed("old", "1.0.0", requires=["shared<2"]),
        added("needs"),
    )
    error = refusal(index, tmp_path, plan)
    # Another version of shared alone would break old: only the addition can give way by itself.
    assert error.hint == "It can be solved without needs."


def test_what_no_index_has_stands_alone(index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("shared", "1.0.0")
    index.add_wheel("needs", "1.0.0")
    error = refusal(index, tmp_path, plan_of(installed("shared", "1.0.0"), added("needs", ">=99")))
    assert "This can't be had, whatever else gives way, on linux/amd64:" in error.message
    assert listed(error) == ["needs>=99 (add.pip)"]
    assert "- needs: 'needs==1.0.0' in add.pip, or nothing of it" in str(error.hint)


def test_the_seed_from_another_platform(index: LocalIndex, tmp_path: Path) -> None:
    dask_and_distributed(index)
    requested = replace(installed("dask", "2022.1.0", level=Level.CRITICAL), requested=True)
    plan = plan_of(
        requested,
        installed("distributed", "2022.5.1", level=Level.CRITICAL, requires=["dask==2022.5.1"]),
        installed("toolz", "0.11.0"),
        *(installed(f"other-{number}", "1.0.0") for number in range(20)),
        platform_name=MAC,
    )
    for number in range(20):
        index.add_wheel(f"other-{number}", "1.0.0")
    error = refusal(index, tmp_path, plan)
    assert error.message.startswith("No set of versions satisfies the plan on linux/amd64: Because ")
    assert listed(error) == [
        "dask 2022.1.0 (critical: ==2022.1.0), which you asked for",
        "distributed 2022.5.1 (critical: ==2022.5.1; it requires dask==2022.5.1)",
    ]
    assert str(error.hint).splitlines() == [
        "It can be solved if another version of dask or distributed will do.",
        "- dask: uv pip install --python python dask==2022.5.1",
        "- distributed: uv pip install --python python distributed==2022.1.0",
    ]


def test_a_level_that_would_do_is_named_and_does(index: LocalIndex, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.0.5"):
        index.add_wheel("base", version)
    index.add_wheel("app", "2.0.0", requires=['base>=1.0.4; sys_platform == "linux"'])
    app = installed("app", "2.0.0")
    plan = plan_of(installed("base", "1.0.0", level=Level.NEAREST), app, platform_name=MAC)
    error = refusal(index, tmp_path, plan)
    assert "- base 1.0.0 (nearest: ==1.0.0)" in error.message
    assert str(error.hint) == (
        "It can be solved if another version of base will do.\n- base: --level base=compatible"
    )
    loosened = plan_of(installed("base", "1.0.0"), app, platform_name=MAC)
    lock = lock_with(open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url)), loosened)
    assert versions(lock) == {"app": "2.0.0", "base": "1.0.5"}
    # Where everything has to be as it is here, no level is a way out.
    exact = installed("base", "1.0.0", level=Level.EXACT)
    strict = refusal(index, tmp_path, plan_of(exact, app, strict=True, platform_name=MAC))
    assert "- base 1.0.0 (exact: ==1.0.0)" in strict.message
    assert "- base: uv pip install --python python base==1.0.5" in str(strict.hint)


def test_two_that_have_to_give_way_are_one_command(index: LocalIndex, tmp_path: Path) -> None:
    for name in ("left", "right"):
        for version in ("1.0.0", "2.0.0"):
            index.add_wheel(name, version)
    mine = installed(
        "mine", "0.1", source=Source("directory", url="file:///mine"), requires=["left>=2", "right>=2"]
    )
    plan = plan_of(installed("left", "1.0.0"), installed("right", "1.0.0"), mine, platform_name=MAC)
    error = refusal(index, tmp_path, plan)
    assert re.search(r"- mine 0\.1 \(made on this machine; it requires (left|right)>=2\)", error.message)
    assert str(error.hint).splitlines() == [
        "It can be solved by other requirements of mine.",
        "- mine: change what mine requires in its sources",
    ]
    second = installed("yours", "0.1", source=mine.source, requires=["left>=2", "right>=2"])
    error = refusal(index, tmp_path, replace(plan, packages=(*plan.packages, second)))
    assert "another version of left and right will do" in str(error.hint)
    assert "by other requirements of mine and yours" in str(error.hint)
    assert "- mine and yours: change what mine and yours require in their sources" in str(error.hint)
    command = next(line for line in str(error.hint).splitlines() if line.startswith("- left and right: "))
    assert shlex.split(command)[-2:] == ["left==2.0.0", "right==2.0.0"]


def test_what_conda_provides_moves_by_conda_and_runs_nothing_of_an_index(
    index: LocalIndex, tmp_path: Path
) -> None:
    for version in ("1.0.0", "2.0.0"):
        index.add_wheel("shared", version)
    index.add_sdist("shared", "3.0.0")
    index.add_wheel("app", "1.0.1", requires=['shared>=2; sys_platform == "linux"'])
    provided = Package(canonical_name("shared"), "1.0.0", conda="shared-base")
    plan = plan_of(installed("app", "1.0.1"), platform_name=MAC)
    resolver = open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url))
    held, _ = resolve_installed([installed("app", "1.0.1")], target=TARGET, resolver=resolver)
    with pytest.raises(UnsolvableError) as caught:
        solve_platform(
            plan,
            held,
            additions=(),
            vendored=[planned_distribution(provided)],
            target=TARGET,
            resolver=resolver,
        )
    assert "- shared 1.0.0 (conda's shared-base)" in caught.value.message
    assert "- shared: conda install --prefix '' shared-base=2.0.0" in str(caught.value.hint)
    assert index.downloads("shared-3.0.0.tar.gz") == 0


@pytest.mark.parametrize("name", sorted(RESOLVERS))
def test_a_question_that_takes_too_long_is_no_contradiction(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    index.add_wheel("demo", "1.0.0")
    resolver = open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url))
    with pytest.raises(LockError, match="found no answer within") as caught:
        resolver.resolve(ResolutionRequest(TARGET, ("demo",), dependencies=True, timeout=0.001))
    assert not isinstance(caught.value, UnsolvableError)
