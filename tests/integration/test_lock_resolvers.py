"""Locking with both resolvers against real indexes on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_ARM64
from imagesync.core.progress import SilentProgress
from imagesync.errors import DeviationError, LockError, UnsolvableError
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.lock import Lock, Target
from imagesync.lock.lockfile.save import render_requirements
from imagesync.lock.make_lock import make_lock
from imagesync.lock.resolve_installed import resolve_installed
from imagesync.lock.resolvers.pip_tools import PipToolsResolver
from imagesync.lock.resolvers.resolver import Resolver
from imagesync.lock.resolvers.uv import UvResolver
from imagesync.plan.plan import LeftOut, Plan
from imagesync.scan.environment import Source
from tests.indexes import CountingProxy, Fault, LocalIndex, make_wheel
from tests.indexes.planning import TARGET, VERSION, added, installed, plan_of

RESOLVERS = {"uv": UvResolver, "pip-tools": PipToolsResolver}
MINOR = "".join(VERSION.split(".")[:2])


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return the variables of somebody who has configured nothing but *variables*, with empty caches."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_CONFIG_DIRS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_CACHE_DIR": str(folder / "uv"),
        "PIP_CACHE_DIR": str(folder / "pip"),
        "UV_NO_CONFIG": "1",
    }
    return {**environ, **variables}


def open_resolver(
    name: str, environ: dict[str, str], *, indexes: IndexConfiguration | None = None
) -> Resolver:
    indexes = indexes or read_pip_configuration(prefix=Path("/nonexistent"), environ=environ)
    resolver: Resolver = RESOLVERS[name](indexes, environ=environ, access=make_access(indexes, environ))
    return resolver


def lock_with(resolver: Resolver, plan: Plan, *, target: Target = TARGET, **contents: str) -> Lock:
    given = {package.name: contents.get(package.name, "sha256:" + "0" * 64) for package in plan.packages}
    return make_lock(plan, target=target, source_digests=given, resolver=resolver, progress=SilentProgress())


def versions(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


@pytest.fixture(params=sorted(RESOLVERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_installed_versions_are_the_lock(name: str, index: LocalIndex, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.0.1", "2.0.0"):
        index.add_wheel("demo", version, requires=["absent>=7"])
    index.add_sdist("demo", "1.0.0")
    lock = lock_with(
        open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)),
        plan_of(installed("demo", "1.0.0")),
    )
    (package,) = lock.packages
    assert package.version == "1.0.0"
    assert package.artifact.filename == "demo-1.0.0-py3-none-any.whl"
    assert package.artifact.url == index.file_url(package.artifact.filename)
    assert package.artifact.digest == index.digest(package.artifact.filename)
    assert lock.deviations == ()
    assert lock.resolver == name
    assert index.downloads() == 0
    assert render_requirements((lock,)) == f"demo==1.0.0 \\\n    --hash={package.artifact.digest}\n"


def test_the_most_specific_wheel_is_taken(name: str, index: LocalIndex, tmp_path: Path) -> None:
    interpreter = f"cp{MINOR}"
    for tag in (
        "py3-none-any",
        f"{interpreter}-{interpreter}-manylinux2014_x86_64",
        f"{interpreter}-{interpreter}-manylinux_2_28_x86_64",
        f"{interpreter}-{interpreter}-manylinux_2_38_x86_64",
        f"{interpreter}-{interpreter}-win_amd64",
        f"{interpreter}-{interpreter}-musllinux_1_2_x86_64",
    ):
        index.add_wheel("native", "1.0.0", tag=tag)
    lock = lock_with(
        open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)),
        plan_of(installed("native", "1.0.0")),
    )
    assert lock.packages[0].artifact.filename.endswith("manylinux_2_28_x86_64.whl")


def test_an_older_glibc_takes_an_older_wheel_or_deviates(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    interpreter = f"cp{MINOR}"
    index.add_wheel("native", "1.0.1", tag=f"{interpreter}-{interpreter}-manylinux_2_38_x86_64")
    index.add_wheel("native", "1.0.2", tag=f"{interpreter}-{interpreter}-manylinux_2_28_x86_64")
    lock = lock_with(
        open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)),
        plan_of(installed("native", "1.0.1")),
    )
    (deviation,) = lock.deviations
    assert (deviation.name, deviation.local, deviation.locked) == ("native", "1.0.1", "1.0.2")
    assert "native" in deviation.reason


def test_an_exact_version_that_is_gone_gives_the_nearest(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    for version in ("1.4.0", "2.1.0", "2.2.0", "3.0.0"):
        index.add_wheel("demo", version)
    index.add_wheel("other", "1.0.0")
    plan = plan_of(installed("demo", "2.3.1", level=Level.NEAREST), installed("other", "1.0.0"))
    lock = lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    assert versions(lock) == {"demo": "2.2.0", "other": "1.0.0"}
    assert [deviation.name for deviation in lock.deviations] == ["demo"]


def test_requires_python_is_the_reason(name: str, index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("demo", "1.0.2", requires_python=">=3.99")
    index.add_wheel("demo", "1.0.3")
    plan = plan_of(installed("demo", "1.0.2", requires_python=">=3.99"))
    lock = lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    (deviation,) = lock.deviations
    assert deviation.reason == f"demo 1.0.2 requires Python >=3.99, and the image has {VERSION}"


def test_installed_files_do_not_stand_in_for_another_python(index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("demo", "1.0.3")
    resolver = open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url))
    for requires, expected in ((">=3.99", []), (">=3.8", ["demo"])):
        held, repacked = resolve_installed(
            [installed("demo", "1.0.2", requires_python=requires)],
            target=TARGET,
            resolver=resolver,
            installed_digest=lambda _: "sha256:" + "0" * 64,
        )
        assert [package.name for package in repacked] == expected
        assert [entry.locked.version for entry in held] == ([] if expected else ["1.0.3"])


def test_strict_refuses_and_lists_all(name: str, index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("one", "1.0.0")
    index.add_wheel("two", "1.0.0")
    plan = plan_of(
        installed("one", "1.0.1", level=Level.NEAREST),
        installed("two", "1.0.1", level=Level.NEAREST),
        strict=True,
    )
    with pytest.raises(DeviationError, match=r"(?s)2 packages.*one 1\.0\.1.*two 1\.0\.1"):
        lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)


@pytest.mark.parametrize("strict", [False, True])
def test_refusal_of_every_version_names_the_pin_without_calling_it_a_requirement(
    name: str, strict: bool, index: LocalIndex, tmp_path: Path
) -> None:
    index.add_wheel("demo", "2.0.0", requires_python=">=3.99")
    plan = plan_of(installed("demo", "1.0.0", level=Level.NEAREST), strict=strict)
    with pytest.raises(UnsolvableError) as caught:
        lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    (line,) = caught.value.message.splitlines()[1:]
    assert line.startswith("- demo (==1.0.0): " if strict else "- demo (1.0.0 or the nearest): ")
    assert "demo==1.0.0" in line
    assert "you require" not in line
    assert "No version of demo fits." in str(caught.value.hint)


def test_nothing_allowed_is_an_error_that_names_all(name: str, index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("one", "2.0.0")
    index.add_wheel("three", "1.0.0")
    plan = plan_of(
        installed("one", "1.0.1"),
        installed("two", "1.0.1", level=Level.CRITICAL),
        installed("three", "1.0.0"),
    )
    with pytest.raises(UnsolvableError) as caught:
        lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    assert "2 packages" in caught.value.message
    assert "- one (~=1.0.1)" in caught.value.message
    assert "- two (==1.0.1)" in caught.value.message
    assert "three" not in caught.value.message
    assert 'one = "nearest"' in str(caught.value.hint)
    # What there is, is said of what has something.
    assert "; the nearest that fits is 2.0.0\n- two " in caught.value.message
    assert caught.value.message.count("nearest that fits") == 1
    assert "pip install --python" in str(caught.value.hint) or "-m pip install" in str(caught.value.hint)
    assert "one==2.0.0)" in str(caught.value.hint)


def test_another_patch_level_is_said_and_another_minor_version_refused(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    minor = ".".join(VERSION.split(".")[:2])
    resolver = open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url))
    lock = lock_with(resolver, plan_of(python=f"{minor}.99"))
    (deviation,) = lock.deviations
    assert (deviation.name, deviation.local, deviation.locked) == ("python", f"{minor}.99", VERSION)
    with pytest.raises(LockError, match=r"runs Python 3\.9") as caught:
        lock_with(resolver, plan_of(python="3.9.1"))
    # Which is too old for any base image.
    assert "--base" not in str(caught.value.hint)
    assert "IMAGESYNC_PYTHON=conda" in str(caught.value.hint)
    assert "Or make the environment with Python" in str(caught.value.hint)


def test_what_is_exact_and_nowhere_can_only_be_left_out(name: str, index: LocalIndex, tmp_path: Path) -> None:
    plan = plan_of(installed("perf", "1.0.1", level=Level.NEAREST))
    with pytest.raises(UnsolvableError) as caught:
        lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    assert 'levels = { perf = "ignore" }' in str(caught.value.hint)
    assert '"nearest"' not in str(caught.value.hint)


def test_additions_come_with_what_they_need_and_move_nothing(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    for version in ("1.0.0", "1.1.0"):
        index.add_wheel("shared", version)
    index.add_wheel("extra-of", "3.0.0")
    index.add_wheel("needs", "1.0.0", requires=["shared>=1", "mine", "fresh", 'extra-of; extra == "more"'])
    index.add_wheel("fresh", "5.0.0")
    index.add_wheel("mine", "9.0.0", requires=["trap"])
    vendored = installed("mine", "0.1.0", source=Source("directory", url="file:///mine"), requires=["shared"])
    plan = plan_of(installed("shared", "1.0.0"), vendored, added("needs", ">=1", extras=("more",)))
    lock = lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    assert versions(lock) == {"extra-of": "3.0.0", "fresh": "5.0.0", "needs": "1.0.0", "shared": "1.0.0"}
    assert [(package.name, package.version) for package in lock.vendored] == [("mine", "0.1.0")]
    assert lock.deviations == ()


def test_an_addition_that_conflicts_is_an_error(name: str, index: LocalIndex, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        index.add_wheel("shared", version)
    index.add_wheel("needs", "1.0.0", requires=["shared>=2"])
    plan = plan_of(installed("shared", "1.0.0"), added("needs"))
    with pytest.raises(UnsolvableError, match=r"(?s)can't be added.*shared"):
        lock_with(open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)), plan)


def test_several_indexes_are_one_pool(name: str, index: LocalIndex, tmp_path: Path) -> None:
    with LocalIndex() as second:
        index.add_wheel("demo", "1.0.0")
        second.add_wheel("demo", "1.0.1")
        environ = environment(tmp_path, PIP_INDEX_URL=index.url, PIP_EXTRA_INDEX_URL=second.url)
        lock = lock_with(open_resolver(name, environ), plan_of(installed("demo", "1.0.1")))
        assert lock.packages[0].artifact.url.startswith(second.origin)


def test_find_links_and_a_file_index(name: str, tmp_path: Path) -> None:
    links, simple = tmp_path / "links", tmp_path / "simple"
    (simple / "paged").mkdir(parents=True)
    links.mkdir()
    filename, data = make_wheel("linked", "1.0.0")
    (links / filename).write_bytes(data)
    filename, data = make_wheel("paged", "1.0.0")
    (simple / "paged" / filename).write_bytes(data)
    (simple / "paged" / "index.html").write_text(
        f'<!DOCTYPE html><html><body><a href="{filename}">x</a></body></html>'
    )
    environ = environment(tmp_path, PIP_INDEX_URL=simple.as_uri(), PIP_FIND_LINKS=str(links))
    lock = lock_with(
        open_resolver(name, environ), plan_of(installed("linked", "1.0.0"), installed("paged", "1.0.0"))
    )
    for package in lock.packages:
        assert package.artifact.url.startswith("file://")
        assert package.artifact.size is not None
        assert len(package.artifact.digest) == len("sha256:") + 64


def test_no_index_leaves_find_links_alone(name: str, index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("demo", "1.0.0")
    environ = environment(tmp_path, PIP_INDEX_URL=index.url, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    with pytest.raises(UnsolvableError):
        lock_with(open_resolver(name, environ), plan_of(installed("demo", "1.0.0")))
    assert index.requests == []


def test_a_digest_that_the_index_does_not_give_is_read_off_the_file(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    filename = index.add_wheel("demo", "1.0.0")
    index.fault(filename, Fault(listed_digest=""))
    lock = lock_with(
        open_resolver(name, environment(tmp_path, PIP_INDEX_URL=index.url)),
        plan_of(installed("demo", "1.0.0")),
    )
    assert lock.packages[0].artifact.digest == index.digest(filename)


def test_an_own_authority_and_a_trusted_host(name: str, tmp_path: Path) -> None:
    with LocalIndex(tls=True) as index:
        index.add_wheel("demo", "1.0.0")
        plan = plan_of(installed("demo", "1.0.0"))
        for number, options in enumerate(
            ({"PIP_CERT": str(index.ca_file)}, {"PIP_TRUSTED_HOST": "127.0.0.1"})
        ):
            folder = tmp_path / str(number)
            environ = environment(folder, PIP_INDEX_URL=index.url, **options)
            assert versions(lock_with(open_resolver(name, environ), plan)) == {"demo": "1.0.0"}
        environ = environment(
            tmp_path / "none", PIP_INDEX_URL=index.url, PIP_RETRIES="0", UV_HTTP_RETRIES="0"
        )
        with pytest.raises(LockError):
            lock_with(open_resolver(name, environ), plan)


def test_the_proxy_is_used(name: str, index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("demo", "1.0.0")
    # A name that only the proxy can be asked for: nothing resolves it here.
    with CountingProxy(resolve={"index.invalid": ("127.0.0.1", index.port)}) as proxy:
        environ = environment(
            tmp_path,
            PIP_INDEX_URL="http://index.invalid/simple",
            PIP_PROXY=proxy.url,
            PIP_TRUSTED_HOST="index.invalid",
        )
        lock = lock_with(open_resolver(name, environ), plan_of(installed("demo", "1.0.0")))
        assert versions(lock) == {"demo": "1.0.0"}
        assert any("/simple/demo" in url for url in proxy.urls)


def test_an_index_that_is_down_is_no_missing_package(name: str, index: LocalIndex, tmp_path: Path) -> None:
    url = index.url
    index.stop()
    environ = environment(tmp_path, PIP_INDEX_URL=url, PIP_RETRIES="1", UV_HTTP_RETRIES="0")
    with pytest.raises(LockError) as caught:
        lock_with(open_resolver(name, environ), plan_of(installed("demo", "1.0.0")))
    assert not isinstance(caught.value, UnsolvableError)


def test_another_platform_is_resolved_with_its_dependencies(index: LocalIndex, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.0.5"):
        index.add_wheel("base", version)
    index.add_wheel("app", "2.0.0", requires=["base>=1", 'linux-only; sys_platform == "linux"', "left>=3"])
    index.add_wheel("linux-only", "0.5")
    for version in ("2.9", "3.1"):
        index.add_wheel("left", version)
    index.add_wheel("needs-newer", "1.2.3", requires=["base>=1.0.4"])
    requires = ["base>=1", 'linux-only; sys_platform == "linux"', "left>=3"]
    vendored = installed("mine", "0.1", source=Source("directory", url="file:///m"), requires=["needs-newer"])
    plan = plan_of(
        installed("base", "1.0.0"),
        installed("app", "2.0.0", requires=requires),
        vendored,
        platform_name="win-amd64",
        left_out=[LeftOut(installed("left", "2.9").name, "2.9", Level.PLATFORM_ONLY, "x")],
    )
    lock = lock_with(open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    assert versions(lock) == {
        "app": "2.0.0",
        "base": "1.0.5",
        "left": "3.1",
        "linux-only": "0.5",
        "needs-newer": "1.2.3",
    }
    told = {deviation.name: deviation for deviation in lock.deviations}
    assert sorted(told) == ["base", "left", "linux-only", "needs-newer"]
    assert (told["base"].local, told["base"].locked) == ("1.0.0", "1.0.5")
    assert "needs-newer" in told["base"].reason
    assert (told["linux-only"].local, told["linux-only"].reason) == ("", "required by app on linux/amd64")
    assert told["left"].local == "2.9"
    assert told["needs-newer"].reason == "required by mine on linux/amd64"


def test_another_platform_keeps_local_versions_where_it_can(index: LocalIndex, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.0.5"):
        index.add_wheel("base", version)
    plan = plan_of(installed("base", "1.0.0"), platform_name="macosx-14.0-arm64")
    lock = lock_with(open_resolver("uv", environment(tmp_path, PIP_INDEX_URL=index.url)), plan)
    assert versions(lock) == {"base": "1.0.0"}
    assert lock.deviations == ()


def test_wheel_of_another_index_than_the_first_with_the_version_is_found_as_by_pip(
    index: LocalIndex, tmp_path: Path
) -> None:
    tags = {machine: f"cp{MINOR}-cp{MINOR}-manylinux_2_17_{machine}" for machine in ("x86_64", "aarch64")}
    index.add_wheel("demo", "1.0.0", tag=tags["x86_64"])
    plan, target = plan_of(installed("demo", "1.0.0")), Target(LINUX_ARM64, VERSION, (2, 36))
    with LocalIndex() as other:
        for tag in tags.values():
            other.add_wheel("demo", "1.0.0", tag=tag)
        environ = environment(tmp_path, PIP_INDEX_URL=other.url, PIP_EXTRA_INDEX_URL=index.url)
        (package,) = lock_with(open_resolver("uv", environ), plan, target=target).packages
        assert package.artifact.filename == f"demo-1.0.0-{tags['aarch64']}.whl"
        of_uv = IndexConfiguration(
            index_url=other.url, extra_index_urls=(index.url,), tool="uv", strategy="first-index"
        )
        with pytest.raises(UnsolvableError, match="a version is taken from the first that has it") as caught:
            lock_with(open_resolver("uv", environ, indexes=of_uv), plan, target=target)
        assert f"There are several indexes ({other.url}, {index.url})" in caught.value.message


def test_pip_tools_says_where_it_can_lock(tmp_path: Path) -> None:
    resolver = open_resolver("pip-tools", environment(tmp_path))
    with pytest.raises(LockError, match="only for the platform that it runs on") as caught:
        resolver.check(Target(LINUX_ARM64, VERSION, (2, 36)))
    assert 'resolver = "uv"' in str(caught.value.hint)
