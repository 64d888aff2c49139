"""What no index has: made from the installed files and named; never silently, never all of it by accident."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import DeviationError, FetchError, LockError, UnsolvableError, WheelError
from imagesync.lock.lock import Lock, Target
from imagesync.lock.make_lock import make_lock
from imagesync.pipeline.artifact_sources import ArtifactSources, open_artifact_sources
from imagesync.pipeline.artifacts import fetch_artifacts
from imagesync.pipeline.context import Context
from imagesync.pipeline.modified_packages import plan_modifications
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import Plan
from imagesync.scan.modifications.compare import find_modifications
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from imagesync.wheels.sources.source_digests import digest_sources
from tests.environments import LocalEnvironment, run
from tests.indexes import LocalIndex
from tests.indexes.index import Fault
from tests.indexes.sdists import make_source_archive
from tests.indexes.wheels import make_wheel
from tests.progress import RecordedLines

MakeEnvironment = Callable[..., LocalEnvironment]
# As crick 0.0.3 does with NumPy and Cython: nothing says that the build needs it.
CRICK_LIKE = {
    "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
    "backend.py": "import undeclared_at_build_time\n",
}


class Locking:
    """An environment and its user's indexes."""

    def __init__(self, environment: LocalEnvironment, folder: Path, resolver: str) -> None:
        self.environment = environment
        self.store = Store(folder / "store")
        self.progress = RecordedLines()
        self.resolver = resolver
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CONFIG_DIRS": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(folder / "uv"),
            "PIP_CACHE_DIR": str(folder / "pip"),
            "PIP_RETRIES": "0",
            "UV_HTTP_RETRIES": "0",
        }

    def sources(self, **variables: str) -> ArtifactSources:
        python = scan(python=self.environment.python, environ={}).python
        settings = Settings(resolver=self.resolver, cache_dir=self.store.root)
        context = Context(settings, {**self.environ, **variables}, self.progress)
        return open_artifact_sources(Plan(python, ()), context)

    def lock(self, *, strict: bool = False, platform: str | None = None, **variables: str) -> Lock:
        found = scan(python=self.environment.python, environ={})
        if platform is not None:
            found = replace(found, python=replace(found.python, platform=platform))
        settings = Settings(profile="none", strict=strict)
        modifications = find_modifications(found, cache=self.store.root / "trees")
        plan = plan_modifications(make_plan(found, settings=settings), found, modifications, settings)
        sources = self.sources(**variables)
        if platform is not None:
            sources = replace(sources, python=found.python)
        target = Target(LINUX_AMD64, found.python.version, (2, 36))
        return make_lock(
            plan,
            target=target,
            source_digests=digest_sources(plan),
            resolver=sources.resolver,
            progress=self.progress,
            installed_digest=sources.installed_digests(target),
        )


@pytest.fixture(params=["uv", "pip-tools"])
def locking(
    request: pytest.FixtureRequest, index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> Locking:
    index.add_wheel("anemone", "1.0.0")
    index.add_wheel("bluebell", "2.0.0", tag="py2.py3-none-any")
    made = environment("anemone==1.0.0", "bluebell==2.0.0", arguments=["--index-url", index.url])
    return Locking(made, tmp_path, request.param)


def test_a_deleted_package_is_repacked_and_named(locking: Locking, index: LocalIndex) -> None:
    index.remove_file("bluebell-2.0.0-py2.py3-none-any.whl")
    index.add_wheel("bluebell", "2.0.1")
    lock = locking.lock(strict=True, PIP_INDEX_URL=index.url)
    assert [package.name for package in lock.packages] == ["anemone"]
    (package,) = lock.repacked
    assert (package.name, package.version) == ("bluebell", "2.0.0")
    assert "bluebell==2.0.0" in package.repacked
    assert package.to_dict()["repacked"] == package.repacked
    assert lock.deviations == ()
    wheels = fetch_artifacts(lock, locking.sources(PIP_INDEX_URL=index.url)).vendored.wheels
    assert [wheel.filename for wheel in wheels] == ["bluebell-2.0.0-py2.py3-none-any.whl"]


def test_an_edit_of_installed_files_is_another_lock(locking: Locking, index: LocalIndex) -> None:
    index.remove_file("bluebell-2.0.0-py2.py3-none-any.whl")
    before = locking.lock(PIP_INDEX_URL=index.url)
    (locking.environment.site_packages / "bluebell.py").write_text("patched = True\n")
    after = locking.lock(PIP_INDEX_URL=index.url)
    assert before.vendored[0].content != after.vendored[0].content
    assert before.digest != after.digest


def test_a_yanked_package_is_still_the_index_s(locking: Locking, index: LocalIndex) -> None:
    index.yank("bluebell-2.0.0-py2.py3-none-any.whl", "has a bug")
    lock = locking.lock(PIP_INDEX_URL=index.url)
    assert [package.name for package in lock.packages] == ["anemone", "bluebell"]
    assert lock.vendored == ()


def test_without_a_record_the_level_decides(locking: Locking, index: LocalIndex) -> None:
    index.remove_file("bluebell-2.0.0-py2.py3-none-any.whl")
    index.add_wheel("bluebell", "2.0.1")
    (locking.environment.site_packages / "bluebell-2.0.0.dist-info" / "RECORD").unlink()
    lock = locking.lock(PIP_INDEX_URL=index.url)
    (deviation,) = lock.deviations
    assert (deviation.name, deviation.locked) == ("bluebell", "2.0.1")
    assert lock.repacked == ()


def test_an_index_that_does_not_answer_costs_only_what_it_alone_has(
    locking: Locking, index: LocalIndex
) -> None:
    index.remove_file("bluebell-2.0.0-py2.py3-none-any.whl")
    gone = LocalIndex(username="me", password="secret-of-mine")
    gone.start()
    url, public = gone.url_with_credentials, gone.url
    gone.stop()
    lock = locking.lock(PIP_INDEX_URL=url, PIP_EXTRA_INDEX_URL=index.url)
    assert [package.name for package in lock.packages] == ["anemone"]
    assert lock.packages[0].artifact.url == index.file_url("anemone-1.0.0-py3-none-any.whl")
    assert [package.name for package in lock.repacked] == ["bluebell"]
    assert public in lock.repacked[0].repacked
    assert any(public in line and "doesn't answer" in line for line in locking.progress.lines)
    assert "secret-of-mine" not in str(lock.to_dict()) + str(locking.progress.lines)


def test_without_any_index_nothing_is_repacked_silently(locking: Locking, index: LocalIndex) -> None:
    url = index.url
    index.stop()
    with pytest.raises(LockError) as caught:
        locking.lock(PIP_INDEX_URL=url)
    assert not isinstance(caught.value, UnsolvableError)
    assert url in caught.value.message
    assert "PIP_NO_INDEX=1" in str(caught.value.hint)


def test_whoever_asks_no_index_gets_everything_as_it_is_installed(
    locking: Locking, index: LocalIndex
) -> None:
    index.forget_requests()
    lock = locking.lock(strict=True, PIP_INDEX_URL=index.url, PIP_NO_INDEX="1")
    assert [package.name for package in lock.repacked] == ["anemone", "bluebell"]
    assert lock.packages == ()
    assert index.requests == []


def test_too_much_that_is_missing_is_a_missing_index(
    index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> None:
    names = [f"private{number:02}" for number in range(24)]
    for name in (*names, "zinnia"):
        index.add_wheel(name, "1.0.0")
    made = environment(*names, "zinnia", arguments=["--index-url", index.url])
    for name in names:
        index.remove_file(f"{name}-1.0.0-py3-none-any.whl")
    locking = Locking(made, tmp_path, "uv")
    with pytest.raises(LockError, match="packages and perhaps more are on none of the indexes") as caught:
        locking.lock(PIP_INDEX_URL=index.url)
    assert "PIP_NO_INDEX=1" in str(caught.value.hint)
    lock = locking.lock(PIP_INDEX_URL=index.url, PIP_NO_INDEX="1")
    assert [package.name for package in lock.repacked] == [*names, "zinnia"]


def test_many_missing_versions_lose_no_package(
    index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> None:
    names = [f"flower{number:02}" for number in range(50)]
    for name in names:
        index.add_wheel(name, "1.0.0")
    made = environment(*names, arguments=["--index-url", index.url])
    for name in names[:45]:
        index.remove_file(f"{name}-1.0.0-py3-none-any.whl")
        index.add_wheel(name, "1.0.1")
        # Nothing to stand in for them.
        (made.site_packages / f"{name}-1.0.0.dist-info" / "RECORD").unlink()
    lock = Locking(made, tmp_path, "uv").lock(PIP_INDEX_URL=index.url)
    assert [package.name for package in lock.packages] == names
    assert len(lock.deviations) == 45


def test_compiled_files_of_another_platform_are_not_taken(
    index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> None:
    filename, content = make_wheel(
        "native", "1.0.0", tag="cp311-abi3-linux_x86_64", files={"native.abi3.so": b"no library at all"}
    )
    index.add_file(filename, content)
    index.add_wheel("pure", "1.0.0")
    made = environment("native", "pure", arguments=["--index-url", index.url])
    for name in (filename, "pure-1.0.0-py3-none-any.whl"):
        index.remove_file(name)
    locking = Locking(made, tmp_path, "uv")
    assert [package.name for package in locking.lock(PIP_INDEX_URL=index.url).repacked] == ["native", "pure"]
    with pytest.raises(UnsolvableError) as caught:
        locking.lock(platform="macosx-14.0-arm64", PIP_INDEX_URL=index.url)
    assert "native" in caught.value.message
    assert "pure" not in caught.value.message


def test_compiled_files_for_a_newer_glibc_are_not_taken(
    index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> None:
    filename, content = make_wheel(
        "native", "1.0.0", tag="cp311-abi3-linux_x86_64", files={"native.abi3.so": b"\0GLIBC_2.38\0"}
    )
    index.add_file(filename, content)
    made = environment("native", arguments=["--index-url", index.url])
    index.remove_file(filename)
    with pytest.raises(UnsolvableError, match="native"):
        Locking(made, tmp_path, "uv").lock(PIP_INDEX_URL=index.url)


def test_an_index_that_is_silent_while_locking_is_not_asked_for_build_requirements(
    index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> None:
    wheel_name, wheel = make_wheel("dahlia", "1.0.0")
    backend = "def build_wheel(folder, config_settings=None, metadata_directory=None):\n    import soil\n"
    backend += f"    open(folder + '/{wheel_name}', 'wb').write({wheel!r})\n    return '{wheel_name}'\n"
    pyproject = CRICK_LIKE["pyproject.toml"].replace("[]", '["soil"]')
    index.add_wheel("soil", "1.0.0")
    index.add_file(wheel_name, wheel)
    made = environment("dahlia", arguments=["--index-url", index.url])
    index.remove_file(wheel_name)
    index.add_file(
        *make_source_archive("dahlia", "1.0.0", {"pyproject.toml": pyproject, "backend.py": backend})
    )
    gone = LocalIndex()
    gone.start()
    url = gone.url
    gone.stop()
    locking = Locking(made, tmp_path, "uv")
    # The same sources for both, as in a build.
    sources = locking.sources(PIP_INDEX_URL=url, PIP_EXTRA_INDEX_URL=index.url)
    found = scan(python=made.python, environ={})
    lock = make_lock(
        make_plan(found, settings=Settings(profile="none")),
        target=Target(LINUX_AMD64, found.python.version, (2, 36)),
        source_digests={},
        resolver=sources.resolver,
        progress=locking.progress,
        on_silent=sources.build_indexes.leave_out,
    )
    (package,) = lock.packages
    assert not package.artifact.is_wheel
    assert sources.build_indexes.silent == (url,)
    (built,) = fetch_artifacts(lock, sources).packages.wheels
    assert built.filename == wheel_name
    (line,) = (line for line in locking.progress.lines if url in line)
    assert line.startswith(f"warning: {url} doesn't answer (")
    assert line.endswith("Connection refused); going on without it.")


BLUEBELL = "bluebell-2.0.0-py2.py3-none-any.whl"


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_listed_and_gone_is_repacked_and_named(
    locking: Locking, index: LocalIndex, status: int
) -> None:
    index.fault(BLUEBELL, Fault(status=status))
    index.add_wheel("bluebell", "2.0.1")
    lock = locking.lock(strict=True, PIP_INDEX_URL=index.url)
    assert [package.name for package in lock.packages] == ["anemone", "bluebell"]
    artifacts = fetch_artifacts(lock, locking.sources(PIP_INDEX_URL=index.url))
    (package,) = artifacts.lock.repacked
    assert (package.name, package.version) == ("bluebell", "2.0.0")
    assert package.repacked == f"the index lists {BLUEBELL}, and doesn't have it any more"
    assert artifacts.lock.deviations == ()
    assert [wheel.filename for wheel in artifacts.vendored.wheels] == [BLUEBELL]
    assert [wheel.filename for wheel in artifacts.packages.wheels] == ["anemone-1.0.0-py3-none-any.whl"]


def test_where_the_installed_files_will_not_do_the_level_decides(locking: Locking, index: LocalIndex) -> None:
    index.fault(BLUEBELL, Fault(status=404))
    (locking.environment.site_packages / "bluebell-2.0.0.dist-info" / "RECORD").unlink()
    lock = locking.lock(PIP_INDEX_URL=index.url)
    sources = locking.sources(PIP_INDEX_URL=index.url)
    with pytest.raises(FetchError, match=r"bluebell.* answers 404.*no other version will do") as caught:
        fetch_artifacts(lock, sources)
    assert 'levels = { bluebell = "nearest" }' in str(caught.value.hint)
    index.add_wheel("bluebell", "2.0.1")
    # Which pages there are, uv remembers for some minutes.
    shutil.rmtree(locking.environ["UV_CACHE_DIR"], ignore_errors=True)
    artifacts = fetch_artifacts(lock, sources)
    (deviation,) = artifacts.lock.deviations
    assert (deviation.name, deviation.local, deviation.locked) == ("bluebell", "2.0.0", "2.0.1")
    assert "doesn't have it any more" in deviation.reason
    names = [wheel.filename for wheel in artifacts.packages.wheels]
    assert names == ["anemone-1.0.0-py3-none-any.whl", "bluebell-2.0.1-py3-none-any.whl"]


def test_a_mirror_without_its_files_is_an_error(
    index: LocalIndex, environment: MakeEnvironment, tmp_path: Path
) -> None:
    names = [f"flower{number:02}" for number in range(20)]
    files = [index.add_wheel(name, "1.0.0") for name in names]
    made = environment(*names, arguments=["--index-url", index.url])
    for filename in files:
        index.fault(filename, Fault(status=404))
    locking = Locking(made, tmp_path, "uv")
    lock = locking.lock(PIP_INDEX_URL=index.url)
    with pytest.raises(FetchError, match="20 files that the index lists can't be had") as caught:
        fetch_artifacts(lock, locking.sources(PIP_INDEX_URL=index.url))
    assert "PIP_NO_INDEX=1" in str(caught.value.hint)


@pytest.fixture
def crocus(index: LocalIndex, environment: MakeEnvironment, tmp_path: Path) -> Locking:
    """Return an environment with a package that the index has only as an sdist that nobody can build."""
    filename = index.add_wheel("crocus", "0.0.3")
    made = environment("crocus", arguments=["--index-url", index.url])
    index.remove_file(filename)
    index.add_file(*make_source_archive("crocus", "0.0.3", CRICK_LIKE))
    return Locking(made, tmp_path, "uv")


def test_an_sdist_that_cannot_be_built_is_replaced_by_the_installed_files(
    crocus: Locking, index: LocalIndex
) -> None:
    lock = crocus.lock(strict=True, PIP_INDEX_URL=index.url)
    (package,) = lock.packages
    assert package.artifact.filename == "crocus-0.0.3.tar.gz"
    artifacts = fetch_artifacts(lock, crocus.sources(PIP_INDEX_URL=index.url))
    assert artifacts.packages.wheels == ()
    assert artifacts.lock.packages == ()
    (standing_in,) = artifacts.lock.repacked
    assert "crocus-0.0.3.tar.gz can't be built" in standing_in.repacked
    (wheel,) = artifacts.vendored.wheels
    assert wheel.filename == "crocus-0.0.3-py3-none-any.whl"
    (line,) = [line for line in crocus.progress.lines if "sdist can't be built" in line]
    assert "undeclared_at_build_time" in Path(line.rpartition(" ")[2]).read_text()


def test_an_sdist_that_cannot_be_built_and_has_no_stand_in_is_an_error(
    crocus: Locking, index: LocalIndex
) -> None:
    (crocus.environment.site_packages / "crocus-0.0.3.dist-info" / "RECORD").unlink()
    lock = crocus.lock(PIP_INDEX_URL=index.url)
    with pytest.raises(WheelError, match="undeclared_at_build_time"):
        fetch_artifacts(lock, crocus.sources(PIP_INDEX_URL=index.url))


TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
# Compiled if the variable says so, as CMAKE_ARGS and the like do.
COMPILED_SETUP = """
import os
from setuptools import Extension, setup

modules = [] if os.environ.get("PURE") else [Extension("lupin_c", ["lupin.c"])]
setup(name="lupin", version="1.0", py_modules=["lupin"], ext_modules=modules)
"""
LUPIN = {
    "setup.py": COMPILED_SETUP,
    "lupin.py": "",
    "lupin.c": """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "lupin_c", 0, -1, 0};
PyMODINIT_FUNC PyInit_lupin_c(void) { return PyModule_Create(&module); }
""",
}


@pytest.fixture
def building(environment: MakeEnvironment, tmp_path: Path) -> Locking:
    """Return an environment with what a build without isolation needs."""
    return Locking(environment("pip", "setuptools", "wheel"), tmp_path, "uv")


@pytest.fixture
def lupin(index: LocalIndex) -> str:
    """Put an sdist of lupin on the index, and a wheel that is another program; return the wheel's name."""
    index.add_file(*make_source_archive("lupin", "1.0", LUPIN))
    return index.add_wheel("lupin", "1.0", tag=f"{TAG}-{TAG}-manylinux_2_17_x86_64")


def build_from_sdist(building: Locking, index: LocalIndex, **variables: str) -> None:
    arguments = ("--no-build-isolation", "--no-binary", "lupin", "--index-url", index.url, "lupin==1.0")
    building.environment.pip_install("--no-deps", *arguments, environ=variables)


@pytest.mark.parametrize("variables", [{}, {"PURE": "1"}])
def test_package_built_here_is_repacked_although_the_index_has_a_wheel(
    building: Locking, index: LocalIndex, lupin: str, variables: dict[str, str]
) -> None:
    build_from_sdist(building, index, **variables)
    lock = building.lock(strict=True, PIP_EXTRA_INDEX_URL=index.url)
    (package,) = lock.repacked
    how = "it is pure Python here" if variables else "it was compiled here"
    assert (package.name, package.repacked) == ("lupin", f"{how}, and the index has {lupin}")
    (wheel,) = fetch_artifacts(lock, building.sources(PIP_EXTRA_INDEX_URL=index.url)).vendored.wheels
    with zipfile.ZipFile(wheel.path) as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".so")]
    assert len(compiled) == (0 if variables else 1)


def test_package_compiled_here_is_repacked_rather_than_built_again(
    building: Locking, index: LocalIndex, lupin: str
) -> None:
    build_from_sdist(building, index)
    index.remove_file(lupin)
    (package,) = building.lock(PIP_EXTRA_INDEX_URL=index.url).repacked
    assert package.repacked == "it was compiled here, and another build of lupin-1.0.tar.gz may differ"


def test_wheel_of_the_index_is_not_repacked(building: Locking, index: LocalIndex, lupin: str) -> None:
    building.environment.pip_install("--index-url", index.url, "lupin==1.0")
    lock = building.lock(PIP_EXTRA_INDEX_URL=index.url)
    assert lock.repacked == ()
    # Some indexes have wheels with the tag of the machine that built them.
    own = index.add_wheel("mallow", "1.0", tag=f"{TAG}-{TAG}-linux_x86_64")
    building.environment.pip_install("--index-url", index.url, "mallow==1.0")
    lock = building.lock(PIP_EXTRA_INDEX_URL=index.url)
    assert own in [package.artifact.filename for package in lock.packages]
    assert lock.repacked == ()


def test_package_built_for_another_machine_is_a_named_deviation(
    building: Locking, index: LocalIndex, lupin: str
) -> None:
    build_from_sdist(building, index)
    (wheel_file,) = building.environment.site_packages.glob("lupin-1.0.dist-info/WHEEL")
    wheel_file.write_text(wheel_file.read_text().replace("linux_x86_64", "linux_aarch64"))
    lock = building.lock(platform="linux-aarch64", PIP_EXTRA_INDEX_URL=index.url)
    (deviation,) = lock.deviations
    assert (deviation.name, deviation.local, deviation.locked) == ("lupin", "1.0", "1.0")
    assert deviation.reason == f"it was compiled here, and the index has {lupin}"
    with pytest.raises(DeviationError, match=r"- lupin 1\.0 \(same version\): it was compiled"):
        building.lock(platform="linux-aarch64", strict=True, PIP_EXTRA_INDEX_URL=index.url)


def test_build_settings_recorded_by_uv_keep_the_installed_files(building: Locking, index: LocalIndex) -> None:
    index.add_file(*make_source_archive("lupin", "1.0", LUPIN))
    environ = {"UV_INDEX": index.url, "UV_INDEX_STRATEGY": "unsafe-best-match", "PURE": "1"}
    building.environment.install("--config-setting=colour=blue", "lupin==1.0", environ=environ)
    (package,) = building.lock(PIP_EXTRA_INDEX_URL=index.url).repacked
    assert package.repacked == "it was built here with config settings"


EGG_SETUP = """
from setuptools import Extension, setup

setup(
    name="Egg.Mallow", version="1.0", packages=["mallow"], package_data={"mallow": ["*.txt"]},
    scripts=["mallow-script"], entry_points={"console_scripts": ["mallow-command = mallow:main"]},
    install_requires=["anemone>=1"], extras_require={"more": ["bluebell"]}, zip_safe=False,
)
"""
EGG_FILES = {
    "setup.py": EGG_SETUP,
    "mallow/__init__.py": "def main():\n    print('from an egg')\n",
    "mallow/petals.txt": "five",
    "mallow-script": "#!/usr/bin/env python\nimport mallow\nprint('script', mallow.__name__)\n",
}
# An archive with an extension module, which its loader unpacks.
ZIP_SETUP = """
from setuptools import Extension, setup

setup(name="egg-lupin", version="2.0", py_modules=["lupin"], zip_safe=True,
      ext_modules=[Extension("lupin_c", ["lupin.c"])])
"""


def test_eggs_are_repacked_as_wheels_that_work(
    environment: MakeEnvironment, index: LocalIndex, tmp_path: Path
) -> None:
    index.add_wheel("anemone", "1.0.0")
    # What has the name and version of a package that was installed here is somebody else's.
    index.add_wheel("egg-mallow", "1.0")
    made = environment("setuptools<66", "wheel")
    made.install("anemone", environ={"UV_DEFAULT_INDEX": index.url})
    for name, files in (("folder", EGG_FILES), ("archive", {**LUPIN, "setup.py": ZIP_SETUP})):
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        run([made.python, "setup.py", "-q", "install"], cwd=tmp_path / name)
    found = scan(python=made.python, environ={})
    assert find_modifications(found).unowned == ()
    locking = Locking(made, tmp_path, "uv")
    lock = locking.lock(PIP_EXTRA_INDEX_URL=index.url)
    assert {package.name: package.repacked for package in lock.repacked} == {
        "egg-lupin": "it is installed as an egg",
        "egg-mallow": "it is installed as an egg",
    }
    sources = locking.sources(PIP_EXTRA_INDEX_URL=index.url)
    wheels = fetch_artifacts(lock, sources).vendored.wheels
    for wheel in wheels:
        shutil.copy(wheel.path, tmp_path / wheel.filename)
    files = [str(tmp_path / wheel.filename) for wheel in wheels if not wheel.filename.startswith("anemone")]
    fresh = environment("--no-deps", *files)
    show = "import importlib.metadata as m; print(m.requires('egg.mallow'))"
    assert fresh.run("-c", show).strip() == "['anemone>=1', 'bluebell; extra == \"more\"']"
    assert run([fresh.python.parent / "mallow-command"]) == "from an egg\n"
    assert run([fresh.python.parent / "mallow-script"]) == "script mallow\n"
    assert fresh.run("-c", "import lupin_c; print(lupin_c.__file__.endswith('.so'))").strip() == "True"
    # An edit makes another lock.
    (module,) = made.site_packages.glob("Egg.Mallow-1.0-*.egg/mallow/__init__.py")
    module.write_text(module.read_text().replace("from", "FROM"))
    edited = locking.lock(PIP_EXTRA_INDEX_URL=index.url)
    assert edited.digest != lock.digest
