"""Lock files: what is written, what is read back, and what is refused."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from conda_lock.lockfile import parse_conda_lock_file
from packaging.pylock import Pylock
from packaging.utils import canonicalize_name

from imagesync.core.files import parse_toml
from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import LockError, UsageError
from imagesync.image_layout import BaseImage
from imagesync.lock.layers import from_label, shared_layer, to_label
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.differences import differences
from imagesync.lock.lockfile.models import ReadRequest
from imagesync.lock.lockfile.prepare import check_target
from imagesync.lock.lockfile.read import read_lock
from imagesync.lock.lockfile.save import form_of, left_out, render, render_explicit, save
from imagesync.lock.lockfile.write import Bundle
from imagesync.lock.lockfile.write_pylock import render_pylock
from imagesync.lock.wheel_tags import filename_of
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Interpreter, Package, Source
from imagesync.store.store import StoredFile

TARGET = Target(LINUX_AMD64, "3.11.7", (2, 36))
PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/env")
CHANNEL = "https://conda.example.com/team"
WHEEL = "mine-0.2-py3-none-any.whl"


def digest(text: str) -> str:
    return "sha256:" + (text.encode().hex() * 64)[:64]


def record(
    name: str, version: str, *depends: str, build: str = "h1_0", subdir: str = "linux-64"
) -> LockedConda:
    filename = f"{name}-{version}-{build}.conda"
    dists = ("numpy",) if name == "numpy" else ()
    url = f"{CHANNEL}/{subdir}/{filename}"
    installed = CondaRecord(name, version, build, 0, CHANNEL, subdir, filename, url, distributions=dists)  # type: ignore[arg-type]
    return LockedConda(
        name=name,
        version=version,
        build=build,
        channel=CHANNEL,
        subdir=subdir,
        artifact=Artifact(filename, url, digest(name), 1234),
        build_number=3,
        md5="a" * 32,
        noarch="python" if subdir == "noarch" else "",
        depends=depends,
        constrains=("other >=2",),
        distributions=tuple(map(canonicalize_name, dists)),
        planned=PlannedConda(name, version, build, Level.COMPATIBLE, f"=={version}", "", record=installed),
    )


def indexed(name: str, version: str, *requires: str, url: str = "") -> LockedPackage:
    filename = f"{name}-{version}-py3-none-any.whl"
    installed = Package(canonicalize_name(name), version, requires=requires)
    planned = PlannedPackage(installed.name, version, Level.COMPATIBLE, "", "", installed=installed)
    artifact = Artifact(filename, url or f"https://pypi.example.com/{filename}", digest(name), 99)
    return LockedPackage(installed.name, version, artifact, planned)


MINE = PlannedPackage(
    canonicalize_name("mine"),
    "0.2",
    Level.EXACT,
    "==0.2",
    "",
    Source("directory", "file:///home/me/mine", editable=True),
    installed=Package(canonicalize_name("mine"), "0.2", requires=("numpy", 'x; sys_platform == "win32"')),
)
LOCK = Lock(
    target=TARGET,
    packages=(indexed("click", "8.1.0", "colorama; platform_system == 'Windows'", "idna>=2"),),
    vendored=(VendoredPackage(MINE.name, "0.2", digest("content"), MINE),),
    deviations=(
        Deviation(canonicalize_name("idna"), "3.1", "3.4", Level.COMPATIBLE, "the channel has no 3.1"),
    ),
    conda=(
        record("numpy", "1.26.4", "python >=3.11,<3.12.0a0", "__glibc >=2.17", "python_abi 3.11.* *_cp311"),
        record("openssl", "3.2.1"),
        record("python", "3.11.7", "openssl >=3", "openssl <4.0a0"),
        record("six", "1.16.0", subdir="noarch", build="pyh_0"),
    ),
    channels=(CHANNEL,),
)
PLAN = Plan(
    PYTHON,
    (
        MINE,
        LOCK.packages[0].planned,
        PlannedPackage(canonicalize_name("python"), "3.11.7", Level.CRITICAL, "", ""),
    ),  # type: ignore[arg-type]
    conda=tuple(each.planned for each in LOCK.conda if each.planned),
    channels=(CHANNEL,),
    profile="dask",
    critical_imports=("dask",),
    interpreter="conda",
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    path = tmp_path / "stored"
    path.write_bytes(b"a wheel")
    wheel = StoredFile(WHEEL, path, "sha256:" + "c" * 64, 7)
    md5 = {package.name: package.md5 for package in LOCK.conda}
    return Bundle(PLAN, LOCK, {f"wheels/{WHEEL}": wheel}, {"mine": wheel}, md5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    return made


def read(path: Path, **environ: str) -> Any:
    return read_lock(ReadRequest(path, lambda: TARGET, environ, LINUX_AMD64))


def edited(path: Path, **metadata: Any) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    content["metadata"].update(metadata)
    return content  # type: ignore[no-any-return]


def foreign(path: Path) -> dict[str, Any]:
    """Return the lock file as another tool would have written it."""
    content = edited(path)
    del content["metadata"]["custom_metadata"]
    return content


def changed(bundle: Bundle, path: Path, of: str = "click", **entry: str) -> Path:
    """Write a lock file of another tool with a changed entry, and return its path."""
    save((bundle,), path, "conda-lock")
    content = foreign(path)
    (found,) = [each for each in content["package"] if each["name"] == of]
    found.update(entry)
    path.write_text(yaml.safe_dump(content))
    return path


def base(version: str = "3.11.2", glibc: tuple[int, int] = (2, 36)) -> BaseImage:
    return BaseImage(
        "b:1", "debian:12", "sha256:1", "sha256:2", version, "/usr/bin/python3", glibc, "sha256:3"
    )


def test_conda_lock_reads_the_written_file(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    lockfile = parse_conda_lock_file(path)
    entries = {entry.name: entry for entry in lockfile.package}
    assert set(entries) == {"numpy", "python", "openssl", "six", "click", "mine"}
    assert {name for name, entry in entries.items() if entry.manager == "pip"} == {"click", "mine"}
    assert entries["numpy"].hash.sha256 == digest("numpy").removeprefix("sha256:")
    assert entries["numpy"].hash.md5 == "a" * 32
    assert entries["numpy"].dependencies["python_abi"] == "3.11.* *_cp311"
    assert entries["python"].dependencies["openssl"] == ">=3,<4.0a0"
    assert entries["click"].dependencies == {"idna": ">=2"}
    assert entries["mine"].url == f"file:wheels/{WHEEL}"
    assert (folder / "wheels" / WHEEL).read_bytes() == b"a wheel"
    text = path.read_text()
    assert "/home/me" not in text
    assert str(folder) not in text


def test_written_lock_file_is_read_back(bundle: Bundle, folder: Path) -> None:
    save((bundle,), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    assert found.lock.target == LOCK.target
    assert found.lock.packages == LOCK.packages
    assert found.lock.deviations == LOCK.deviations
    assert found.lock.channels == LOCK.channels
    for back, package in zip(found.lock.conda, sorted(LOCK.conda, key=lambda p: p.name), strict=True):
        # Two specs for one name are one by then.
        assert replace(back, depends=()) == replace(package, depends=())
    (own,) = found.lock.vendored
    assert (own.name, own.content, own.is_bundled) == ("mine", digest("content"), True)
    assert own.planned.source.hash == "sha256:" + "c" * 64
    assert found.lock.digest == LOCK.digest
    assert own.planned.source.url == (folder / "wheels" / WHEEL).as_uri()
    assert found.custom_metadata.head["critical_imports"] == ["dask"]


def test_same_lock_is_written_as_the_same_text(bundle: Bundle) -> None:
    turned = replace(
        bundle, md5=dict(reversed(bundle.md5.items())), plan=replace(PLAN, conda=PLAN.conda[::-1])
    )
    assert render((bundle,), "conda-lock") == render((turned,), "conda-lock")


def test_no_form_of_a_lock_has_credentials(bundle: Bundle) -> None:
    secret = replace(
        LOCK.conda[0],
        artifact=Artifact("n.conda", "https://u:pw@h.example/t/tk-1/c/linux-64/n-1-0.conda", digest("n")),
    )
    package = replace(
        LOCK.packages[0],
        artifact=Artifact(
            "click-8.1.0-py3-none-any.whl", "https://u:pw@h.example/click-8.1.0-py3-none-any.whl", digest("c")
        ),
    )
    lock = replace(LOCK, conda=(secret,), packages=(package,), channels=("https://u:pw@h.example/t/tk-1/c",))
    for form in ("conda-lock", "explicit", "pylock", "requirements"):
        text = render((replace(bundle, lock=lock),), form)
        assert "pw" not in text, form
        assert "tk-1" not in text, form


def test_local_files_are_saved_beside_the_lock(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    local = indexed("local", "1.0", url="file:///srv/index/local-1.0-py3-none-any.whl")
    stored = StoredFile(local.artifact.filename, tmp_path / "stored", local.artifact.digest, 7)
    archive = replace(
        LOCK.conda[0], artifact=replace(LOCK.conda[0].artifact, url="file:///srv/c/linux-64/n.conda")
    )
    place = "packages/linux-64/numpy-1.26.4-h1_0.conda"
    held = StoredFile("numpy-1.26.4-h1_0.conda", tmp_path / "stored", archive.artifact.digest, 7)
    lock = replace(LOCK, packages=(local,), conda=(archive,))
    files = {**bundle.files, "wheels/local-1.0-py3-none-any.whl": stored, place: held}
    both = replace(bundle, lock=lock, files=files)
    save((both,), folder / "conda-lock.yml", "conda-lock")
    assert "/srv" not in (folder / "conda-lock.yml").read_text()
    found = read(folder / "conda-lock.yml").lock
    assert found.packages[0].artifact.url == (folder / "wheels" / local.artifact.filename).as_uri()
    assert found.conda[0].artifact.url == (folder / place).as_uri()
    assert "/srv" not in render((both,), "explicit")
    assert "/srv" not in render((both,), "pylock")


def test_explicit_file_has_sha256_and_dependencies_first(bundle: Bundle) -> None:
    lines = render_explicit(bundle, name="x.txt").splitlines()
    packages = [line for line in lines if line.startswith("https")]
    assert lines[lines.index("@EXPLICIT") + 1] == packages[0]
    assert f"{CHANNEL}/linux-64/openssl-3.2.1-h1_0.conda#{digest('openssl')}" in packages
    order = [line.rpartition("/")[2].partition("-")[0] for line in packages]
    assert order.index("openssl") < order.index("python") < order.index("numpy")
    assert f"# pip ./wheels/{WHEEL} --hash=sha256:{'c' * 64}" in lines
    assert any("sed -n 's/^# pip //p' x.txt | pip install" in line for line in lines)


def test_conda_lock_file_has_dependencies_first_and_a_source(bundle: Bundle) -> None:
    content = yaml.safe_load(render((bundle,), "conda-lock"))
    order = [entry["name"] for entry in content["package"] if entry["manager"] == "conda"]
    assert order.index("openssl") < order.index("python") < order.index("numpy")
    assert content["metadata"]["sources"], "micromamba refuses a file without any"


@pytest.mark.parametrize("changed_by_others", [False, True])
def test_pip_for_other_tools_is_written_and_not_read(
    bundle: Bundle, folder: Path, changed_by_others: bool
) -> None:
    python = next(package for package in LOCK.conda if package.name == "python")
    pip = replace(python, name="pip", version="25.2", depends=("python >=3.9",), noarch="python")
    both = replace(bundle, pip=(pip,), md5={**bundle.md5, "pip": "d" * 32})
    path = folder / "conda-lock.yml"
    save((both,), path, "conda-lock")
    content = yaml.safe_load(path.read_text())
    names = [entry["name"] for entry in content["package"]]
    assert names.index("python") < names.index("pip")
    assert content["metadata"]["content_hash"] == {"linux-64": LOCK.digest.removeprefix("sha256:")}
    if changed_by_others:
        (click,) = [entry for entry in content["package"] if entry["name"] == "click"]
        click["version"] = "8.0.0"
        path.write_text(yaml.safe_dump(content))
    found = read(path)
    assert [package.name for package in found.lock.conda] == [package.name for package in LOCK.conda]
    assert found.custom_metadata.is_ours is not changed_by_others
    lines = render((both,), "explicit").splitlines()
    assert any("/pip-" in line or "python" in line for line in lines)


def test_shared_files_of_conda_packages_are_kept(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    assert read(path).custom_metadata.shared_conda_files == {}, "known to be none"
    content = yaml.safe_load(path.read_text())
    metadata = content["metadata"]["custom_metadata"]
    head = json.loads(metadata["imagesync"])
    shared = {"share/a": ["numpy", "numpy", "six"], "share/b": ["", "numpy", "six"]}
    metadata["imagesync"] = json.dumps({**head, "shared_files": {**shared, "share/c": [], "share/d": "x"}})
    path.write_text(yaml.safe_dump(content))
    found = read(path).custom_metadata.shared_conda_files
    assert found == {name: tuple(names) for name, names in shared.items()}
    path.write_text(yaml.safe_dump(foreign(path)))
    assert read(path).custom_metadata.shared_conda_files is None


def test_archives_beside_a_lock_have_plain_paths(bundle: Bundle) -> None:
    package = next(package for package in bundle.lock.conda if package.name == "numpy")
    path = "packages/linux-64/numpy.conda"
    file = StoredFile("numpy.conda", Path("numpy.conda"), package.artifact.digest, 1)
    both = replace(bundle, files={**bundle.files, path: file})
    content = yaml.safe_load(render((both,), "conda-lock"))
    assert [entry["url"] for entry in content["package"] if entry["name"] == "numpy"] == [path]
    assert f"\n{path}#{package.artifact.digest}\n" in render((both,), "explicit")


def test_pylock_is_one_that_packaging_validates(bundle: Bundle) -> None:
    pylock = Pylock.from_dict(parse_toml(render_pylock((bundle,))))
    packages = {package.name: package for package in pylock.packages}
    assert set(packages) == {"click", "mine"}
    assert packages[canonicalize_name("mine")].wheels[0].path == f"wheels/{WHEEL}"  # type: ignore[index]
    assert packages[canonicalize_name("click")].wheels[0].hashes["sha256"] == digest("click")[7:]  # type: ignore[index]
    assert str(pylock.requires_python) == "==3.11.*"
    assert left_out((bundle,), "pylock") == ("numpy", "openssl", "python", "six")
    assert left_out((bundle,), "requirements") == ("mine", "numpy", "openssl", "python", "six")
    assert left_out((bundle,), "conda-lock") == ()


@pytest.mark.parametrize("name", ["lock.json", "poetry.lock", "lock", "pyproject.toml"])
def test_name_that_stands_for_no_form_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="can't be told from its name"):
        form_of(Path(name))


def test_lock_file_of_another_tool_is_read(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    content = foreign(path)
    for entry in content["package"]:
        entry["category"] = {"six": "docs", "click": "dev"}.get(entry["name"], "main")
    content["metadata"]["channels"] = [{"url": "conda-forge", "used_env_vars": []}]
    other = {**content["package"][0], "platform": "osx-arm64", "name": "libcxx"}
    path.write_text(yaml.safe_dump({**content, "package": [*content["package"], other]}))
    found = read(path)
    assert [package.name for package in found.lock.conda] == ["numpy", "openssl", "python"]
    assert [package.name for package in found.lock.packages] == ["click", "mine"]
    assert found.left_out == ("six",)
    assert found.lock.channels == ("https://conda.anaconda.org/conda-forge",)
    assert (found.interpreter_version, found.custom_metadata.is_ours) == ("3.11.7", False)
    numpy = found.lock.conda[0]
    assert (numpy.build, numpy.subdir, numpy.channel, numpy.artifact.filename) == (
        "h1_0",
        "linux-64",
        CHANNEL,
        "numpy-1.26.4-h1_0.conda",
    )


def test_variables_in_urls_are_expanded_and_kept_private(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    path.write_text(
        path.read_text().replace("https://conda.example.com/", "https://conda.example.com/t/${TEAM_TOKEN}/")
    )
    with pytest.raises(LockError, match="needs the variable TEAM_TOKEN") as caught:
        read(path)
    assert caught.value.hint is not None
    found = read(path, TEAM_TOKEN="tk-secret")
    assert found.lock.conda[0].artifact.url.startswith(f"{CHANNEL}/")
    assert found.lock.channels == (CHANNEL,)
    assert "tk-secret" not in repr(found)
    assert found.private[0].startswith("https://conda.example.com/t/tk-secret/team/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "isn't a lock file"),
        ("version: 1\n", "isn't a lock file"),
        ("version: 7\npackage: []\n", "isn't a lock file"),
        ("- a\n", "isn't a lock file"),
        ("{", "isn't a lock file"),
        (None, "can't be read"),
    ],
)
def test_file_that_is_no_lock_file_is_refused(folder: Path, text: str | None, said: str) -> None:
    path = folder / "conda-lock.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read(path)


def test_lock_file_for_another_platform_is_refused(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    path.write_text(
        path.read_text()
        .replace("platform: linux-64", "platform: osx-arm64")
        .replace("- linux-64", "- osx-arm64")
    )
    with pytest.raises(LockError, match="is locked for osx-arm64, and the image is for linux-64"):
        read(path)


def test_entry_without_a_digest_is_refused(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    content = foreign(path)
    (click,) = [entry for entry in content["package"] if entry["name"] == "click"]
    click["hash"] = {"md5": "a" * 32}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(LockError, match=r"click 8\.1\.0 has no sha256"):
        read(path)
    click.update(url="git+https://me:pw@example.com/click.git@abc", hash={"sha256": "a" * 64})
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(LockError, match="has no digest that it could be checked by") as caught:
        read(path)
    assert "pw" not in caught.value.message


def test_base_image_that_does_not_fit_is_refused(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    found = read(path)
    target = Target(LINUX_AMD64, "3.13.1", (2, 36))
    assert check_target(found, base("3.13.1"), target).target == TARGET
    with pytest.raises(LockError, match=r"numpy 1\.26\.4 needs glibc 2\.17"):
        check_target(found, base(glibc=(2, 5)), replace(target, glibc=(2, 5)))
    pip_only = replace(found, lock=replace(found.lock, conda=()))
    with pytest.raises(
        LockError, match=r"locked for Python 3\.11\.7, and the base image debian:12 has 3\.13\.1"
    ):
        check_target(pip_only, base("3.13.1"), target)
    (python,) = [
        d
        for d in check_target(pip_only, base(), Target(LINUX_AMD64, "3.11.2", (2, 36))).deviations
        if d.name == "python"
    ]
    assert (python.local, python.locked) == ("3.11.7", "3.11.2")
    wheel = indexed("torch", "2.0")
    wheel = replace(
        wheel, artifact=replace(wheel.artifact, filename="torch-2.0-cp311-cp311-macosx_14_0_arm64.whl")
    )
    with pytest.raises(LockError, match="is for another platform or interpreter"):
        check_target(replace(found, lock=replace(found.lock, packages=(wheel,))), base(), target)
    numpy = indexed("numpy", "2.0")
    with pytest.raises(LockError, match="numpy"):
        check_target(replace(found, lock=replace(found.lock, packages=(numpy,))), base(), target)


def test_unchanged_environment_has_no_differences(bundle: Bundle, folder: Path) -> None:
    save((bundle,), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    assert differences(found, PLAN, {MINE.name: digest("content")}) == ()


def test_changed_packages_are_differences(bundle: Bundle, folder: Path) -> None:
    save((bundle,), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    click = LOCK.packages[0].planned
    assert click is not None
    newer = replace(PLAN.conda[0], version="1.26.5")
    rebuilt = replace(PLAN.conda[1], build="h1_1")
    six = replace(click, name=canonicalize_name("six2"), version="1.0")
    plan = replace(PLAN, packages=(MINE, six), conda=(newer, rebuilt, PLAN.conda[2]))
    found_moved = {
        each.name: (each.locked, each.here) for each in differences(found, plan, {MINE.name: digest("other")})
    }
    assert found_moved == {
        "click": ("8.1.0", ""),
        "mine": ("0.2", "0.2"),
        "numpy": ("1.26.4 h1_0", "1.26.5 h1_0"),
        "openssl": ("3.2.1 h1_0", "3.2.1 h1_1"),
        "six": ("1.16.0 pyh_0", ""),
        "six2": ("", "1.0"),
    }


@pytest.mark.parametrize(
    ("build", "names"),
    [("mpi_openmpi_h2_0", []), ("mpi_mpich_h2_0", ["numpy"]), ("h2_0", [])],
    ids=["same-variant", "other-variant", "usual-build"],
)
def test_variant_of_a_build_is_compared_on_another_platform(
    bundle: Bundle, folder: Path, build: str, names: list[str]
) -> None:
    numpy = record("numpy", "1.26.4", build="mpi_openmpi_h1_0")
    lock = replace(LOCK, conda=(numpy, *LOCK.conda[1:]))
    save((replace(bundle, lock=lock),), folder / "conda-lock.yml", "conda-lock")
    assert numpy.planned is not None
    here = replace(numpy.planned, build=build)
    python = replace(PYTHON, platform="macosx-14.0-arm64")
    plan = replace(PLAN, python=python, conda=(here, *PLAN.conda[1:]))
    found = differences(read(folder / "conda-lock.yml"), plan, {MINE.name: digest("content")})
    assert [each.name for each in found] == names


@pytest.mark.parametrize(("version", "here"), [("8.1", []), ("8.2", ["8.2"])])
def test_tool_that_stays_out_of_the_image_is_compared_by_its_version(
    version: str, here: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"click==8.1 --hash=sha256:{'0' * 64}\n")
    plan = replace(
        PLAN, packages=(), conda=(), provided=(), left_out=(LeftOut("click", version, Level.IGNORE, ""),)
    )
    assert [each.here for each in differences(read(path), plan, {})] == here
    assert [each.here for each in differences(read(path), replace(plan, left_out=()), {})] == [""]


def test_shared_file_of_another_conda_package_is_a_difference(bundle: Bundle, folder: Path) -> None:
    file = folder / "env" / "share" / "a"
    file.parent.mkdir(parents=True)
    (folder / "env" / "conda-meta").mkdir()
    for name, version in (("numpy", "1.26.4"), ("openssl", "3.2.1")):
        entry = {"_path": "share/a", "path_type": "hardlink", "sha256": sha256(name.encode()).hexdigest()}
        content = {"paths_data": {"paths": [entry]}}
        (folder / "env" / "conda-meta" / f"{name}-{version}-h1_0.json").write_text(json.dumps(content))
    plan = replace(PLAN, python=replace(PYTHON, prefix=str(folder / "env"), base_prefix=str(folder / "env")))
    file.write_text("numpy")
    save((replace(bundle, plan=plan),), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    contents = {MINE.name: digest("content")}
    assert differences(found, plan, contents) == ()
    file.write_text("openssl")
    (only,) = differences(found, plan, contents)
    assert (only.name, only.locked, only.here) == ("openssl", "3.2.1 h1_0", "3.2.1 h1_0")
    assert only.reason == "its share/a is installed; when the lock was made, that of numpy was"
    mac = replace(plan, python=replace(plan.python, platform="macosx-14.0-arm64"))
    assert differences(found, mac, contents) == (), "the lock is of another platform's files"


def test_mode_of_a_file_of_two_conda_packages_is_a_difference(bundle: Bundle, folder: Path) -> None:
    file = folder / "env" / "share" / "a"
    file.parent.mkdir(parents=True)
    file.touch(0o755)
    (folder / "env" / "conda-meta").mkdir()
    entry = {"_path": "share/a", "path_type": "hardlink", "sha256": sha256(b"").hexdigest()}
    for stem in ("numpy-1.26.4-h1_0", "openssl-3.2.1-h1_0"):
        record = {"paths_data": {"paths": [entry]}}
        (folder / "env" / "conda-meta" / f"{stem}.json").write_text(json.dumps(record))
    plan = replace(PLAN, python=replace(PYTHON, prefix=str(folder / "env"), base_prefix=str(folder / "env")))
    save((replace(bundle, plan=plan),), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    assert differences(found, plan, {MINE.name: digest("content")}) == ()
    file.chmod(0o644)
    (only,) = differences(found, plan, {MINE.name: digest("content")})
    assert only.reason == "its share/a isn't executable; when the lock was made, it was"


def test_reported_deviation_is_no_difference(bundle: Bundle, folder: Path) -> None:
    idna = indexed("idna", "3.4")
    lock = replace(LOCK, packages=(*LOCK.packages, idna))
    save((replace(bundle, lock=lock),), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    assert idna.planned is not None
    here = replace(idna.planned, version="3.1")
    contents = {MINE.name: digest("content")}
    assert differences(found, replace(PLAN, packages=(*PLAN.packages, here)), contents) == ()
    later = replace(idna.planned, version="3.2")
    (only,) = differences(found, replace(PLAN, packages=(*PLAN.packages, later)), contents)
    assert (only.name, only.locked, only.here) == ("idna", "3.4", "3.2")


def test_repacked_conda_package_is_no_difference(bundle: Bundle, folder: Path) -> None:
    numpy, *others, _ = LOCK.conda
    installed = Package(canonicalize_name("six"), "1.16.0", conda="six")
    planned = PlannedPackage(installed.name, "1.16.0", Level.EXACT, "==1.16.0", "", installed=installed)
    wheel = VendoredPackage(installed.name, "1.16.0", digest("six"), planned, "gone from the channel")
    filename, url = (text.replace("h1_0", "h2_0") for text in (numpy.artifact.filename, numpy.artifact.url))
    artifact = replace(numpy.artifact, filename=filename, url=url)
    rebuilt = replace(numpy, build="h2_0", artifact=artifact)
    build = Deviation("numpy", "1.26.4 h1_0", "1.26.4 h2_0", Level.EXACT, "gone", "conda")
    lock = replace(
        LOCK,
        conda=(rebuilt, *others),
        vendored=(*LOCK.vendored, wheel),
        deviations=(*LOCK.deviations, build),
    )
    (stored,) = bundle.files.values()
    made = replace(stored, filename="six-1.16.0-py3-none-any.whl", digest="sha256:" + "d" * 64)
    files = {**bundle.files, f"wheels/{made.filename}": made}
    save(
        (replace(bundle, lock=lock, files=files, wheels={**bundle.wheels, "six": made}),),
        folder / "l.yml",
        "conda-lock",
    )
    found = read(folder / "l.yml")
    plan = replace(PLAN, provided=(installed,))
    contents = {MINE.name: digest("content")}
    assert differences(found, plan, contents) == ()
    newer = replace(PLAN, provided=(replace(installed, version="1.17.0"),))
    assert {(each.name, each.manager) for each in differences(found, newer, contents)} == {
        ("six", "conda"),
        ("six", "pip"),
    }


def test_lock_of_another_tool_is_compared_by_specifiers(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    path.write_text(yaml.safe_dump(foreign(path)))
    found = read(path)
    click = LOCK.packages[0].planned
    assert click is not None
    admitting = replace(click, version="8.1.9", specifier="~=8.0")
    numpy = replace(PLAN.conda[0], version="1.26.1", specifier="~=1.26.1")
    plan = replace(PLAN, packages=(MINE, admitting), conda=(numpy, *PLAN.conda[1:]))
    assert differences(found, plan, {}) == ()
    refusing = replace(admitting, specifier="~=8.1.9")
    assert [each.name for each in differences(found, replace(plan, packages=(MINE, refusing)), {})] == [
        "click"
    ]


def test_metadata_are_one_line_a_package(bundle: Bundle, folder: Path) -> None:
    save((bundle,), folder / "conda-lock.yml", "conda-lock")
    metadata = edited(folder / "conda-lock.yml")["metadata"]["custom_metadata"]
    assert json.loads(metadata["imagesync.conda.six"])["noarch"] == "python"
    assert json.loads(metadata["imagesync"])["digest"] == LOCK.digest
    assert all(isinstance(value, str) for value in metadata.values())


def test_environment_of_pip_may_have_its_interpreter_from_a_channel(bundle: Bundle, folder: Path) -> None:
    python = tuple(package for package in LOCK.conda if package.name == "python")
    save((replace(bundle, lock=replace(LOCK, conda=python)),), folder / "conda-lock.yml", "conda-lock")
    found = read(folder / "conda-lock.yml")
    plan = replace(PLAN, conda=(), interpreter="base")
    contents = {MINE.name: digest("content")}
    assert differences(found, plan, contents) == ()
    newer = replace(plan, python=replace(PYTHON, version="3.11.8"))
    assert [(each.name, each.locked, each.here) for each in differences(found, newer, contents)] == [
        ("python", "3.11.7", "3.11.8")
    ]


def test_metadata_of_replaced_packages_is_ignored(bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    assert read(path).custom_metadata.is_ours
    content = edited(path)
    (six,) = [entry for entry in content["package"] if entry["name"] == "six"]
    six.update(version="1.17.0", url=six["url"].replace("1.16.0", "1.17.0"))
    path.write_text(yaml.safe_dump(content))
    found = read(path)
    assert not found.custom_metadata.is_ours
    six_now = next(package for package in found.lock.conda if package.name == "six")
    assert (six_now.version, six_now.noarch, six_now.artifact.size) == ("1.17.0", "", None)
    assert found.interpreter_version == "3.11.7"
    # The user's own wheel is one of many then, and still lies beside the file.
    assert [package.name for package in found.lock.packages] == ["click", "mine"]


def test_lock_is_read_back_from_its_json() -> None:
    document = json.loads(json.dumps(LOCK.to_dict()))
    planned = {package.name: package for package in PLAN.packages}
    conda = {package.name: package for package in PLAN.conda}
    again = Lock.from_dict(document, planned=planned, planned_conda=conda)
    assert again == LOCK
    assert again.to_dict() == document
    assert [package.planned for package in again.conda] == list(PLAN.conda)


def test_lock_is_read_back_from_its_json_without_the_plan() -> None:
    document = LOCK.to_dict()
    again = Lock.from_dict(document)
    assert again.to_dict() == document
    assert again.vendored[0].planned.source == MINE.source


def test_json_of_a_lock_without_a_planned_package_is_refused() -> None:
    with pytest.raises(LookupError):
        Lock.from_dict(LOCK.to_dict(), planned={})


def test_label_of_the_shared_layer_has_no_path_of_this_machine() -> None:
    repacked = replace(LOCK.vendored[0], repacked="no index has it")
    label = to_label(shared_layer(replace(LOCK, vendored=(repacked,))))
    assert b"/home/me" not in zlib.decompress(base64.b64decode(label))
    assert from_label(label, PLAN) == replace(LOCK, vendored=(repacked,))


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/${SECRET}/x-1.0-py3-none-any.whl",
        "https://evil.example.com/$SECRET/x-1.0-py3-none-any.whl",
        "https://${SECRET}.example.com/x-1.0-py3-none-any.whl",
        "https://me@${SECRET}@example.com/x-1.0-py3-none-any.whl",
        "https://evil.example.com/x-1.0-py3-none-any.whl?${SECRET}",
        "https://evil.example.com/x-1.0-py3-none-any.whl#${SECRET}",
        "https://evil.example.com/a://${SECRET}@b/x-1.0-py3-none-any.whl",
        "https://evil.example.com/t/x/${SECRET}/x-1.0-py3-none-any.whl",
        "https://evil.example.com?/t/${SECRET}/x-1.0-py3-none-any.whl",
        r"https://evil.example.com\${SECRET}@b/x-1.0-py3-none-any.whl",
        "/${SECRET}/x-1.0-py3-none-any.whl",
        "file:///${SECRET}/x-1.0-py3-none-any.whl",
        "${SECRET}://evil.example.com/x-1.0-py3-none-any.whl",
    ],
)
def test_variables_outside_of_credentials_are_refused(url: str, bundle: Bundle, folder: Path) -> None:
    path = folder / "conda-lock.yml"
    with pytest.raises(LockError, match="has the variable SECRET outside of its credentials"):
        read(changed(bundle, path, url=url), SECRET="hunter2")


@pytest.mark.parametrize(
    "url", ["https://${A}:${B}@h.example.com/x-1.0.zip", "https://$A:$B@h.example.com/x-1.0.zip"]
)
def test_variables_in_user_and_password_are_expanded(url: str, bundle: Bundle, folder: Path) -> None:
    found = read(changed(bundle, folder / "conda-lock.yml", url=url), A="me", B="pw")
    assert found.private == ("https://me:pw@h.example.com/x-1.0.zip",)


@pytest.mark.parametrize(
    "name", ["..%2f..%2fevil-1.0-py3-none-any.whl", "%2e%2e", "..", "-evil.whl", "a%5cb.whl", "a%0ab.whl", ""]
)
def test_file_names_of_urls_are_names(name: str, bundle: Bundle, folder: Path) -> None:
    url = f"https://files.example.com/packages/{name}"
    with pytest.raises(LockError, match="which is none"):
        filename_of(url)
    with pytest.raises(LockError, match=r"click 8\.1\.0: .* which is none"):
        read(changed(bundle, folder / "conda-lock.yml", url=url))


@pytest.mark.parametrize(
    "name", ["../evil-1.0.whl", "-evil.whl", "/etc/x", "a\x1b[31m.whl", "..", ".", "a\\b"]
)
def test_file_names_of_indexes_are_names(name: str) -> None:
    with pytest.raises(LockError, match="which is none"):
        filename_of("https://files.example.com/evil-1.0-py3-none-any.whl", name)


@pytest.mark.parametrize("manager", ["pip", "conda"])
@pytest.mark.parametrize(
    "entry",
    [
        {"name": "-evil"},
        {"name": "../../evil"},
        {"name": "a b"},
        {"name": "x\x1b[31m"},
        {"version": "--pre"},
        {"version": "1/../../x"},
        {"version": "1.0\x1b[31mRED"},
        {"version": "1.0 @ https://evil.example.com/x"},
        {"version": "$HOME"},
    ],
)
def test_entries_of_lock_files_are_packages(
    entry: dict[str, str], manager: str, bundle: Bundle, folder: Path
) -> None:
    name = "click" if manager == "pip" else "numpy"
    with pytest.raises(LockError, match="can't be a package"):
        read(changed(bundle, folder / "conda-lock.yml", name, **entry))


@pytest.mark.parametrize(
    "head", [{"python": 3}, {"python": ["3"]}, {"glibc": 2}, {"glibc": "2"}, {"glibc": "a.b"}]
)
def test_versions_in_the_head_of_a_lock_file_are_versions(
    head: dict[str, Any], bundle: Bundle, folder: Path
) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    content = edited(path)
    content["package"] = [entry for entry in content["package"] if entry["name"] != "python"]
    metadata = content["metadata"]["custom_metadata"]
    metadata["imagesync"] = json.dumps({**json.loads(metadata["imagesync"]), **head})
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(LockError, match="which is no version"):
        read(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("imagesync.pip.click", '{"level":"bogus"}'),
        ("imagesync.pip.click", "5"),
        ("imagesync.pip.click", "{"),
        ("imagesync", '{"format":1,"critical_imports":5}'),
        ("imagesync", '{"format":1,"critical_imports":["os; print(1)"]}'),
        ("imagesync", '{"format":1,"profile":[]}'),
    ],
)
def test_edited_metadata_of_a_lock_file_is_refused_in_a_sentence(
    key: str, value: str, bundle: Bundle, folder: Path
) -> None:
    path = folder / "conda-lock.yml"
    save((bundle,), path, "conda-lock")
    document = yaml.safe_load(path.read_text())
    document["metadata"]["custom_metadata"][key] = value
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match="isn't a lock file that imagesync can read"):
        read_lock(ReadRequest(path, lambda: Target(LINUX_AMD64, "3.11.2", (2, 36)), {}, LINUX_AMD64))
