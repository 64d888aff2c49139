"""Two indexes that have the same name: a package that is bound to one of them comes from that one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.progress import SilentProgress
from imagesync.errors import LockError, UnsolvableError
from imagesync.indexes.pypi.project_configuration import read_index_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.lock import Lock
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.lock.resolvers.uv import UvResolver
from imagesync.pipeline.artifact_sources import download_of
from imagesync.store.parallel_fetch import fetch
from imagesync.store.store import Store
from tests.indexes import LocalIndex
from tests.indexes.bound import LOGIN, PASSWORD, private_index, public_index, uv_manifest
from tests.indexes.planning import TARGET, added, installed, plan_of
from tests.integration.test_lock_resolvers import environment, lock_with

Configure = Callable[[Path, LocalIndex, LocalIndex], dict[str, str]]


@pytest.fixture
def public() -> Iterator[LocalIndex]:
    with public_index() as index:
        index.add_wheel("plough", "9.0.0")
        index.add_wheel("harrow", "1.0.0")
        yield index


@pytest.fixture
def private() -> Iterator[LocalIndex]:
    with private_index() as index:
        index.add_wheel("plough", "1.1.0")
        index.add_wheel("orchard", "1.0.0")
        index.add_wheel("harrow", "2.0.0")
        yield index


@pytest.fixture
def project(tmp_path: Path, public: LocalIndex, private: LocalIndex) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text(uv_manifest(public, private))
    return root


def open_resolver(project: Path, *, prefix: str = ".venv", **variables: str) -> UvResolver:
    environ = environment(project.parent, **(variables or LOGIN))
    del environ["UV_NO_CONFIG"]
    indexes = read_index_configuration(project / prefix, environ, cwd=project)
    return UvResolver(indexes, environ=environ, access=make_access(indexes, environ))


def origins(lock: Lock) -> dict[str, str]:
    return {package.name: package.artifact.url.rpartition("/files/")[0] for package in lock.packages}


def pages(index: LocalIndex) -> set[str]:
    """Return the projects that an index was asked for."""
    return {r.path.split("/")[2] for r in index.requests if r.path.startswith("/simple/")}


def test_a_bound_package_is_locked_and_fetched_from_its_index_alone(
    project: Path, public: LocalIndex, private: LocalIndex, tmp_path: Path
) -> None:
    resolver = open_resolver(project)
    lock = lock_with(resolver, plan_of(installed("orchard", "1.0.0"), installed("plough", "1.0.0")))
    assert origins(lock) == {"orchard": public.origin, "plough": private.origin}
    access = make_access(resolver.indexes, environment(tmp_path))
    store = Store(tmp_path / "store")
    files = fetch(
        [download_of(package) for package in lock.packages],
        store=store,
        access=access,
        progress=SilentProgress(),
    )
    assert len(files) == 2
    assert pages(public) == {"orchard"}
    assert pages(private) == {"plough"}
    said = repr(lock) + repr(lock.to_dict()) + repr(resolver.indexes) + repr(access)
    PASSWORD.assert_absent(said.encode(), "what is shown")
    PASSWORD.assert_absent_below(store.root)


def by_poetry(project: Path, public: LocalIndex, private: LocalIndex) -> dict[str, str]:
    (project / "pyproject.toml").write_text(
        '[tool.poetry.dependencies]\nplough = { version = "*", source = "private" }\n'
        f'[[tool.poetry.source]]\nname = "public"\nurl = "{public.url}"\n'
        f'[[tool.poetry.source]]\nname = "private"\nurl = "{private.url}"\npriority = "explicit"\n'
    )
    path = project.parent / ".config" / "pypoetry" / "auth.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'[http-basic.private]\nusername = "{PASSWORD.user}"\npassword = "{PASSWORD.word}"\n')
    return {"NOTHING": ""}


def by_pdm(project: Path, public: LocalIndex, private: LocalIndex) -> dict[str, str]:
    url = private.url.replace("://", "://${FARM_USER}:${FARM_PASSWORD}@")
    (project / "pyproject.toml").write_text(
        f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{public.url}"\n'
        f'[[tool.pdm.source]]\nname = "private"\nurl = "{url}"\ninclude_packages = ["plou*"]\n'
        'exclude_packages = ["*"]\n'
    )
    return {"FARM_USER": PASSWORD.user, "FARM_PASSWORD": PASSWORD.word}


def by_pixi(project: Path, public: LocalIndex, private: LocalIndex) -> dict[str, str]:
    (project / "pyproject.toml").unlink()
    (project / "pixi.toml").write_text(
        f'[pypi-options]\nindex-url = "{public.url}"\n'
        f'[pypi-dependencies]\nplough = {{ version = "*", index = "{private.url_with_credentials}" }}\n'
    )
    return {"NOTHING": ""}


@pytest.mark.parametrize("configure", [by_poetry, by_pdm, by_pixi])
def test_poetry_pdm_and_pixi_bind_packages_to_indexes(
    project: Path, public: LocalIndex, private: LocalIndex, configure: Configure
) -> None:
    environ = configure(project, public, private)
    prefix = ".pixi/envs/default" if configure is by_pixi else ".venv"
    resolver = open_resolver(project, prefix=prefix, **environ)
    lock = lock_with(resolver, plan_of(installed("harrow", "1.0.0"), added("orchard")))
    assert origins(lock) == {
        "harrow": public.origin,
        "orchard": public.origin,
        "plough": private.origin,
    }
    assert pages(private) == {"plough"}
    PASSWORD.assert_absent((repr(lock) + repr(resolver.indexes)).encode(), "what is shown")


def test_an_added_package_brings_a_bound_one_from_its_index(
    project: Path, public: LocalIndex, private: LocalIndex
) -> None:
    lock = lock_with(open_resolver(project), plan_of(installed("harrow", "1.0.0"), added("orchard")))
    assert origins(lock) == {
        "harrow": public.origin,
        "orchard": public.origin,
        "plough": private.origin,
    }
    assert {package.name: package.version for package in lock.packages}["plough"] == "1.1.0"


def test_what_only_the_bound_index_has_comes_in_by_a_dependency(
    project: Path, public: LocalIndex, private: LocalIndex
) -> None:
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(f'{text}\nspade = {{ index = "farm-private" }}\n')
    private.add_wheel("spade", "1.0.0")
    public.add_wheel("shed", "1.0.0", requires=["spade"])
    lock = lock_with(open_resolver(project), plan_of(added("shed")))
    assert origins(lock) == {"shed": public.origin, "spade": private.origin}


def test_for_another_platform_the_local_version_is_preferred_on_its_index(
    project: Path, private: LocalIndex
) -> None:
    plan = plan_of(
        installed("orchard", "1.0.0"), installed("plough", "1.0.0"), platform_name="macosx-11.0-arm64"
    )
    lock = lock_with(open_resolver(project), plan)
    assert origins(lock)["plough"] == private.origin
    assert {package.name: package.version for package in lock.packages}["plough"] == "1.0.0"


def test_a_version_that_the_bound_index_lacks_is_not_taken_from_another(project: Path) -> None:
    with pytest.raises(UnsolvableError) as caught:
        lock_with(open_resolver(project), plan_of(installed("plough", "9.0.0")))
    assert "there is no version of plough==9.0.0" in caught.value.message
    assert "pyproject.toml" in str(caught.value.hint)


def test_a_bound_index_that_does_not_answer_is_not_replaced_by_another(
    project: Path, private: LocalIndex, public: LocalIndex
) -> None:
    private.stop()
    try:
        with pytest.raises(LockError, match="comes from an index of its own"):
            lock_with(open_resolver(project), plan_of(installed("plough", "1.0.0")))
    finally:
        private.start()
    assert "plough" not in pages(public)


def test_a_bound_index_that_refuses_is_named(project: Path, private: LocalIndex) -> None:
    with pytest.raises(LockError) as caught:
        lock_with(
            open_resolver(
                project, UV_INDEX_FARM_PRIVATE_USERNAME="jane", UV_INDEX_FARM_PRIVATE_PASSWORD="wr0ng"
            ),
            plan_of(installed("plough", "1.0.0")),
        )
    assert private.url in caught.value.message
    assert "wr0ng" not in str(caught.value)


def test_alternatives_by_extras_are_tried_in_turn(
    project: Path, public: LocalIndex, private: LocalIndex
) -> None:
    optional = '[{ index = "farm-private", extra = "a" }]'
    text = uv_manifest(public, private).replace(
        'plough = { index = "farm-private" }', f"plough = {optional}\nharrow = {optional}"
    )
    (project / "pyproject.toml").write_text(text)
    lock = lock_with(
        open_resolver(project), plan_of(installed("harrow", "1.0.0"), installed("plough", "1.1.0"))
    )
    assert origins(lock) == {"harrow": public.origin, "plough": private.origin}


def test_the_first_index_that_has_a_name_is_the_only_one_for_uv(
    project: Path, public: LocalIndex, private: LocalIndex
) -> None:
    text = uv_manifest(public, private).replace("explicit = true", "").partition("[tool.uv.sources]")[0]
    (project / "pyproject.toml").write_text(text)
    resolver = open_resolver(project)
    request = ResolutionRequest(TARGET, requirements=("harrow",))
    assert [package.version for package in resolver.resolve(request)] == ["2.0.0"]
    with pytest.raises(UnsolvableError):
        resolver.resolve(replace(request, requirements=("harrow==1.0.0",)))


def test_the_index_of_an_answer_is_part_of_what_is_remembered(
    project: Path, public: LocalIndex, private: LocalIndex, tmp_path: Path
) -> None:
    from imagesync.lock.resolvers.resolver_cache import CachingResolver

    request = ResolutionRequest(TARGET, requirements=("plough==1.0.0",))
    resolver = CachingResolver(open_resolver(project), tmp_path / "cache", {})
    (bound,) = resolver.resolve(request)
    text = uv_manifest(public, private).partition("[tool.uv.sources]")[0]
    (project / "pyproject.toml").write_text(text)
    (unbound,) = CachingResolver(open_resolver(project), tmp_path / "cache", {}).resolve(request)
    assert bound.artifact.url.startswith(private.origin)
    assert unbound.artifact.url.startswith(public.origin)
    assert bound.name == unbound.name == canonicalize_name("plough")


def test_pip_tools_says_that_it_knows_no_bound_indexes(project: Path) -> None:
    from imagesync.lock.resolvers.pip_tools import PipToolsResolver

    by_uv = open_resolver(project)
    resolver = PipToolsResolver(by_uv.indexes, environ={}, access=make_access(by_uv.indexes, {}))
    with pytest.raises(LockError, match="pip-tools can't ask an index for single packages"):
        resolver.check(TARGET)
