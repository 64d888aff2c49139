"""Locks of conda environments against a real channel: read off records, solved, refused, explained."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagesync.core.names import Level
from imagesync.core.progress import SilentProgress
from imagesync.errors import DeviationError, FetchError, HashMismatch, LockError, UnsolvableError
from imagesync.lock.conda.preferences import variant_of
from imagesync.lock.conda.solver import CondaRequest, virtual_packages
from imagesync.lock.layers import from_label, shared_layer, to_label
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.make_lock import make_lock
from imagesync.pipeline.artifact_sources import ArtifactSources, open_artifact_sources
from imagesync.pipeline.artifacts import Artifacts, fetch_artifacts
from imagesync.pipeline.context import Context
from imagesync.plan.plan import Plan
from imagesync.session import Session
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from tests.channels.channel import index_channel, make_channel
from tests.channels.doubles import platform_pure, pure
from tests.channels.environments import CondaEnvironment
from tests.channels.server import ChannelServer
from tests.conftest import MakeCondaEnvironment
from tests.indexes import LocalIndex, make_wheel

TOKEN = "tk-4711-secret"
PASSWORD = "pa-ss-4711"


@dataclass(frozen=True)
class Bench:
    """An environment, with all that locking it needs."""

    environment: CondaEnvironment
    root: Path
    environ: dict[str, str]
    settings: Settings

    @property
    def session(self) -> Session:
        return Session(Context(self.settings, self.environ), prefix=self.environment.prefix)

    def plan(self) -> Plan:
        return self.session.inputs().plan

    def target(self, plan: Plan) -> Target:
        return Target(plan.platform, plan.python.version, (2, 36))

    def sources(self, plan: Plan) -> ArtifactSources:
        return open_artifact_sources(plan, self.session.context)

    def lock(self, *, glibc: tuple[int, int] = (2, 36)) -> Lock:
        plan = self.plan()
        sources = self.sources(plan)
        target = Target(plan.platform, plan.python.version, glibc)
        return make_lock(
            plan,
            target=target,
            source_digests={},
            resolver=sources.resolver,
            progress=SilentProgress(),
            installed_digest=sources.installed_digests(target),
            solver=sources.channels,
            record_distributions=sources.record_distributions(target),
        )

    def fetch(self, lock: Lock) -> Artifacts:
        return fetch_artifacts(lock, self.sources(self.plan()))


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> MakeBench:
    home = tmp_path / "home"
    home.mkdir()

    def make(environment: CondaEnvironment, **settings: object) -> Bench:
        environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        return Bench(
            environment, tmp_path / "store", environ, Settings(cache_dir=tmp_path / "store", **settings)
        )

    return make


def changed(deviations: Sequence[Deviation]) -> dict[str, tuple[str, str]]:
    return {deviation.name: (deviation.local, deviation.locked) for deviation in deviations}


@pytest.fixture
def copied_channel(channel: Path, tmp_path: Path) -> Path:
    """Return a copy of the channel that a test may take packages from."""
    return Path(shutil.copytree(channel, tmp_path / "channel"))


def unpack(
    environment: CondaEnvironment,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> None:
    """Leave a wheel as pip leaves it, in an environment whose interpreter may be none of this machine's."""
    _, data = make_wheel(name, version, requires=requires, tag=tag)
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        wheel.extractall(environment.site_packages)
    (environment.site_packages / f"{name}-{version}.dist-info" / "INSTALLER").write_text("pip\n")


def test_the_same_platform_is_read_off_the_records(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel) as server:
        environment = conda_environment("python", "numpy", "quill", "orchard-suite", channel=server.url)
        before = len(server.requests)
        lock = bench(environment).lock()
        assert len(server.requests) == before, "no channel is asked"
    records = {path.stem: json.loads(path.read_text()) for path in environment.records.glob("*.json")}
    assert len(lock.conda) == len(records)
    for package in lock.conda:
        record = records[f"{package.name}-{package.version}-{package.build}"]
        assert package.artifact.digest == f"sha256:{record['sha256']}"
        assert package.artifact.url == record["url"]
    assert lock.deviations == ()
    assert lock.channels == (server.url,)
    assert lock.target.python_version == next(p.version for p in lock.conda if p.name == "python")
    assert {p.name: p.distributions for p in lock.conda}["orchard-suite"] == ("orchard-core", "orchard-tools")


def test_the_conda_part_survives_a_label(conda_environment: MakeCondaEnvironment, bench: MakeBench) -> None:
    at = bench(conda_environment("python", "orchard-suite"))
    lock = at.lock()
    again = from_label(to_label(shared_layer(lock)), at.plan())
    assert again == shared_layer(lock)
    assert again is not None
    assert again.digest == lock.digest
    assert all(package.planned is not None for package in again.conda)


def test_another_platform_gets_the_local_versions_and_names_what_differs(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment(
        "python", "numpy", "pandas", "appnope", "trellis=1.4.2", "gazebo", platform="osx-arm64"
    )
    lock = bench(mac).lock()
    versions = {package.name: package.version for package in lock.conda}
    local = {p.name: p.version for p in bench(mac).plan().conda}
    assert {name: versions[name] for name in local if name != "trellis"} == {
        name: version for name, version in local.items() if name != "trellis"
    }
    assert {package.subdir for package in lock.conda} == {"linux-64", "noarch"}
    assert changed(lock.deviations) == {"trellis": ("1.4.2", "1.4.5"), "arbor": ("", "2.0.0")}
    (trellis,) = (deviation for deviation in lock.deviations if deviation.name == "trellis")
    assert "has no 1.4.2 for linux-64; it has 1.4.0, 1.4.1, 1.4.5, 1.5.0, 2.0.0" in trellis.reason


@pytest.mark.parametrize("spec", ["prism ==1.0.0 mpi_openmpi*", "prism[build='mpi_mpich*']", "prism"])
def test_build_variant_of_another_platform_holds(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, spec: str
) -> None:
    mac = conda_environment("python", spec, platform="osx-arm64")
    lock = bench(mac, strict=True).lock()
    (here,) = (p for p in bench(mac).plan().conda if p.name == "prism")
    (there,) = (p for p in lock.conda if p.name == "prism")
    assert variant_of(there.build) == variant_of(here.build)
    assert there.build != here.build
    assert lock.deviations == ()


def test_build_variant_holds_though_only_its_build_says_so(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "prism ==1.0.0 mpi_openmpi*", platform="osx-arm64")
    for path in mac.records.glob("prism-*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "requested_spec": ""}))
    (there,) = (p for p in bench(mac).lock().conda if p.name == "prism")
    assert there.build.startswith("mpi_openmpi_")


def test_another_build_variant_is_a_deviation_with_its_name(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    windows = conda_environment("python", "prism", platform="win-64")
    lock = bench(windows).lock()
    (deviation,) = (d for d in lock.deviations if d.name == "prism")
    assert deviation.local == "1.0.0 cuda120_h1234567_3"
    assert deviation.locked.startswith("1.0.0 nompi_")
    assert "has mpi_mpich, mpi_openmpi, nompi for linux-64" in deviation.reason
    with pytest.raises(DeviationError, match=r"prism 1\.0\.0 cuda120_h1234567_3 would become 1\.0\.0 nompi"):
        bench(windows, strict=True).lock()


def test_exact_level_refuses_what_nearest_takes(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "trellis=1.4.2", platform="osx-arm64")
    with pytest.raises(UnsolvableError, match=r"trellis \(1\.4\.2 here, exact, ==1\.4\.2\)") as caught:
        bench(mac, levels={"trellis": "exact"}).lock()
    assert 'levels = { trellis = "nearest" }' in str(caught.value.hint)
    lock = bench(mac, levels={"trellis": "nearest"}).lock()
    assert changed(lock.deviations) == {"trellis": ("1.4.2", "1.4.5")}


def test_what_a_channel_has_for_no_linux_is_left_out_and_what_was_asked_for_comes_first(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "numpy", "appnope", "trellis=1.4.2", platform="osx-arm64")
    # As if the list knew nothing: the channel says it then.
    lock = bench(mac, levels={"appnope": "compatible", "libcxx": "compatible"}).lock()
    first, *rest = lock.deviations
    assert (first.name, first.locked, first.level, first.requested) == (
        "appnope",
        "",
        Level.PLATFORM_ONLY,
        True,
    )
    assert "osx-arm64" in first.reason
    assert changed(rest) == {"libcxx": ("19.1.7", ""), "trellis": ("1.4.2", "1.4.5")}


def test_strict_across_platforms_is_refused_with_the_list(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "trellis=1.4.2", "lattice", platform="osx-arm64")
    with pytest.raises(DeviationError) as caught:
        bench(mac, strict=True).lock()
    assert "trellis 1.4.2 would become 1.4.5" in caught.value.message
    assert "lattice 3.1.0 would become 2.9.0" in caught.value.message


def test_what_no_level_allows_is_refused_with_what_there_is(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "lattice", platform="osx-arm64")
    with pytest.raises(UnsolvableError) as caught:
        bench(mac).lock()
    assert "- lattice (3.1.0 here, compatible, ~=3.1.0): the channel has 2.9.0" in caught.value.message
    assert 'lattice = "nearest"' in str(caught.value.hint)
    lock = bench(mac, levels={"lattice": "nearest"}).lock()
    assert changed(lock.deviations) == {"lattice": ("3.1.0", "2.9.0")}


def test_an_unsolvable_environment_is_explained(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment(
        "python", "dask=2022.1.0", "numpy", platform="osx-arm64", forced=["distributed=2022.5.1"]
    )
    with pytest.raises(UnsolvableError) as caught:
        bench(mac).lock()
    message, hint = caught.value.message, str(caught.value.hint)
    assert "distributed 2022.5.1 would require" in message
    conflict = message.partition("can't go together")[2]
    assert "- distributed 2022.5.1" in conflict
    assert "numpy" not in conflict
    assert "another version of distributed will do" in hint
    lock = bench(mac, levels={"distributed": "nearest"}).lock()
    assert changed(lock.deviations) == {"distributed": ("2022.5.1", "2022.1.0")}


def test_a_solve_that_is_given_up_is_no_contradiction(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    at = bench(conda_environment("python", "numpy"))
    channels = at.sources(at.plan()).channels
    virtual = virtual_packages(at.target(at.plan()), cuda="")
    try:
        with pytest.raises(LockError, match="found no answer within") as caught:
            channels.solve(CondaRequest(("python", "pandas", "distributed"), virtual, timeout=1e-6))
    finally:
        channels.close()
    assert not isinstance(caught.value, UnsolvableError)


def test_additions_leave_everything_as_it_is(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    linux = conda_environment("python", "numpy")
    before = bench(linux).lock()
    lock = bench(linux, add_conda=("gazebo",)).lock()
    assert {p.name for p in lock.conda} - {p.name for p in before.conda} == {"gazebo", "arbor"}
    assert set(before.conda) <= set(lock.conda)
    with pytest.raises(UnsolvableError, match="can't be added to what is installed") as caught:
        bench(linux, add_conda=("numpy >=99",)).lock()
    assert "- numpy >=99 (add.conda)" in caught.value.message
    assert "It can be solved if another version of numpy will do." in str(caught.value.hint)


def test_a_build_for_cuda_needs_a_machine_with_cuda(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    linux = conda_environment("python", "numpy")
    lock = bench(linux, add_conda=("aurora * cuda*",), cuda="12.4").lock()
    assert next(p.build for p in lock.conda if p.name == "aurora") == "cuda_1"
    with pytest.raises(UnsolvableError, match="__cuda"):
        bench(linux, add_conda=("aurora * cuda*",)).lock()


def test_an_older_base_image_is_refused(conda_environment: MakeCondaEnvironment, bench: MakeBench) -> None:
    with pytest.raises(LockError, match=r"glibc 2\.12, which is too old") as caught:
        bench(conda_environment("python", "numpy")).lock(glibc=(2, 12))
    assert "numpy" in caught.value.message
    # Elsewhere the solver is told of the base image's.
    mac = conda_environment("python", "numpy", platform="osx-arm64")
    with pytest.raises(
        UnsolvableError, match=r"__glibc(.|\n)*Choose a base image with glibc 2\.\d+ or newer"
    ):
        bench(mac).lock(glibc=(2, 12))


def test_archives_come_through_the_store(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel) as server:
        at = bench(conda_environment("python", "quill", "orchard-suite", channel=server.url))
        lock = at.lock()
        before = server.count(".conda") + server.count(".tar.bz2")
        artifacts = at.fetch(lock)
        fetched = server.count(".conda") + server.count(".tar.bz2") - before
        assert fetched == len(lock.conda)
        at.fetch(lock)
        assert server.count(".conda") + server.count(".tar.bz2") - before == fetched
    assert [file.filename for file in artifacts.conda] == [p.artifact.filename for p in artifacts.lock.conda]
    for file in artifacts.conda:
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.digest.removeprefix("sha256:")


def test_what_archives_provide_is_read_off_them(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "greeter", platform="osx-arm64")
    at = bench(mac, add_conda=("orchard-suite",))
    lock = at.lock()
    # The channel's index says nothing of it, so until the archive is here its own name is the guess.
    assert {p.name: p.distributions for p in lock.conda}["orchard-suite"] == ("orchard-suite",)
    fetched = at.fetch(lock).lock
    assert {p.name: p.distributions for p in fetched.conda}["orchard-suite"] == (
        "orchard-core",
        "orchard-tools",
    )


def test_a_record_of_old_conda_has_no_sha256(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel) as server:
        environment = conda_environment("python", "quill", channel=server.url)
        record = environment.record("quill")
        content = json.loads(record.read_text())
        digest = content.pop("sha256")
        record.write_text(json.dumps(content))
        lock = bench(environment).lock()
        assert next(p.artifact.digest for p in lock.conda if p.name == "quill") == f"sha256:{digest}"
        asked = len(server.requests)
        bench(environment).lock()
        assert len(server.requests) == asked, "it is known from then on"
        record.write_text(json.dumps({**content, "md5": "0" * 32}))
        with pytest.raises(HashMismatch, match="isn't the archive that was asked for: its MD5"):
            bench(environment).lock()


@pytest.mark.parametrize("way", ["token", "password"])
def test_a_private_channel_opens_and_its_secret_is_nowhere(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path, way: str
) -> None:
    keys = {"token": TOKEN} if way == "token" else {"username": "me", "password": PASSWORD}
    with ChannelServer(channel, **keys) as server:
        linux = conda_environment("python", "quill", channel=server.url_with_credentials)
        at = bench(linux, add_conda=("gazebo",), channels=(server.url_with_credentials,))
        lock = at.lock()
        artifacts = at.fetch(lock)
        assert any(package.name == "gazebo" for package in lock.conda)
        assert {r.status for r in server.requests[-5:]} <= {200, 304}
    text = json.dumps(artifacts.lock.to_dict()) + repr(at.sources(at.plan()).channels.repodata.settings)
    assert TOKEN not in text
    assert PASSWORD not in text
    for path in at.root.rglob("*"):
        if path.is_file() and "blobs" not in path.parts:
            content = path.read_bytes()
            assert TOKEN.encode() not in content
            assert PASSWORD.encode() not in content


def test_a_channel_that_refuses_is_named_without_its_token(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel, token=TOKEN) as server:
        linux = conda_environment("python", "toolz", channel=server.url_with_credentials)
        with pytest.raises(LockError) as caught:
            bench(
                linux,
                add_conda=("gazebo",),
                channels=(f"{server.url.rpartition('/')[0]}/t/tk-wrong/channel",),
            ).lock()
    assert f"The channel {server.url} refuses to be read" in caught.value.message
    assert "tk-wrong" not in str(caught.value)


def test_a_channel_that_does_not_answer(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel) as server:
        linux = conda_environment("python", "toolz", channel=server.url)
    with pytest.raises(LockError, match=f"The channel {server.url} doesn't answer"):
        bench(linux, add_conda=("gazebo",)).lock()


@pytest.mark.parametrize("archive", ["toolz-0.12.1-*", "numpy-2*"])
def test_what_has_gone_from_the_channel_is_repacked(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, copied_channel: Path, archive: str
) -> None:
    at = bench(conda_environment("python", "toolz=0.12.1", "numpy", channel=copied_channel))
    lock = at.lock()
    for path in copied_channel.glob(f"*/{archive}"):
        path.unlink()
    fetched = at.fetch(lock).lock
    name = archive.partition("-")[0]
    assert [package.name for package in fetched.repacked] == [name]
    assert "doesn't have" in fetched.repacked[0].repacked
    assert name not in {package.name for package in fetched.conda}
    assert fetched.deviations == ()


def test_what_has_gone_is_taken_from_a_package_cache(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, copied_channel: Path, tmp_path: Path
) -> None:
    at = bench(conda_environment("python", "toolz", "anvil", channel=copied_channel))
    lock = at.lock()
    cache = tmp_path / "pkgs"
    cache.mkdir()
    (archive,) = copied_channel.glob("linux-64/anvil-*")
    archive.rename(cache / archive.name)
    with pytest.raises(FetchError, match="anvil"):
        at.fetch(lock)
    at.environ["CONDA_PKGS_DIRS"] = str(cache)
    assert at.fetch(lock).lock.conda == lock.conda


def test_what_has_gone_and_is_no_python_is_replaced_as_far_as_its_level_allows(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, copied_channel: Path
) -> None:
    at = bench(conda_environment("python", "toolz", "libbeacon", channel=copied_channel))
    lock = at.lock()
    (archive,) = copied_channel.glob("linux-64/libbeacon-*")
    record = json.loads((copied_channel / "linux-64" / "repodata.json").read_text())
    other = archive.with_name("libbeacon-1.2.0-other_9.conda")
    shutil.copyfile(archive, other)
    archive.unlink()
    fields = record["packages.conda"].pop(archive.name)
    record["packages.conda"][other.name] = {**fields, "build": "other_9", "build_number": 9}
    (copied_channel / "linux-64" / "repodata.json").unlink()
    (copied_channel / "linux-64" / "repodata.json").write_text(json.dumps(record))
    lock = at.fetch(lock).lock
    (deviation,) = lock.deviations
    assert (deviation.name, deviation.locked) == ("libbeacon", "1.2.0 other_9")
    assert "any more" in deviation.reason


def test_a_noarch_package_that_no_channel_has_is_repacked_for_linux(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, copied_channel: Path
) -> None:
    mac = conda_environment("python", "toolz=0.12.1", "numpy", platform="osx-arm64", channel=copied_channel)
    for path in copied_channel.glob("noarch/toolz-*"):
        path.unlink()
    index_channel(copied_channel)
    lock = bench(mac).lock()
    assert [package.name for package in lock.repacked] == ["toolz"]


@pytest.mark.parametrize("priority", ["strict", "flexible", "disabled"])
def test_channels_rank_as_conda_is_told(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path, tmp_path: Path, priority: str
) -> None:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    team = make_channel(
        tmp_path / "team",
        [
            *(platform_pure("fern", "1.4.0", subdir, minor) for subdir in ("linux-64", "osx-arm64")),
            platform_pure("fern", "1.4.3", "linux-64", minor, depends=("arbor >=1.1",)),
            pure("arbor", "1.0.0"),
        ],
    )
    other = make_channel(
        tmp_path / "other", [platform_pure("fern", "1.4.2", s, minor) for s in ("osx-arm64", "linux-64")]
    )
    mac = conda_environment("python", "fern=1.4.2", platform="osx-arm64", channel=[other, channel])
    channels = [str(team), str(other), str(channel)]
    # Else it would stay in the channel that it is from.
    record = mac.record("fern")
    record.write_text(record.read_text().replace(other.as_uri(), "https://conda.example.com/gone"))
    at = bench(mac, channels=channels)
    at.environ["CONDA_CHANNEL_PRIORITY"] = priority
    if priority == "strict":
        with pytest.raises(UnsolvableError, match="arbor"):
            at.lock()
        return
    lock = at.lock()
    assert {p.name: (p.version, p.channel) for p in lock.conda}["fern"] == ("1.4.2", other.as_uri())
    assert lock.deviations == ()


def test_what_only_another_channel_has_in_the_needed_version(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, channel: Path, tmp_path: Path
) -> None:
    # gazebo needs arbor on Linux alone, and the first channel's is too old for it.
    team = make_channel(tmp_path / "team", [pure("arbor", "0.9.0")])
    mac = conda_environment("python", "gazebo", platform="osx-arm64")
    at = bench(mac, channels=(str(team), str(channel)))
    assert {p.name: p.channel for p in at.lock().conda}["arbor"] == channel.as_uri()
    at.environ["CONDA_CHANNEL_PRIORITY"] = "strict"
    with pytest.raises(UnsolvableError, match="arbor"):
        at.lock()


def test_a_pin_limits_what_may_come_instead(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "trellis=1.4.2", "gazebo", platform="osx-arm64")
    mac.records.joinpath("pinned").write_text("# of the team\ntrellis <1.4.5\narbor=1.1  # not 2\n")
    at = bench(mac, levels={"trellis": "nearest"})
    before = at.plan()
    assert before.pinned == ("trellis <1.4.5", "arbor=1.1")
    lock = at.lock()
    assert changed(lock.deviations) == {"trellis": ("1.4.2", "1.4.1"), "arbor": ("", "1.1.0")}
    assert "(pinned: trellis <1.4.5)" in next(d.reason for d in lock.deviations if d.name == "trellis")
    # conda's configuration says it as well, and a pin that the installed one doesn't meet says nothing.
    mac.records.joinpath("pinned").write_text("trellis 1.3.*\n")
    at.environ["CONDA_PINNED_PACKAGES"] = "arbor <1.1&lattice 3.*"
    assert changed(at.lock().deviations) == {"trellis": ("1.4.2", "1.4.5"), "arbor": ("", "1.0.0")}
    mac.records.joinpath("pinned").write_text("trellis 1.4.2\n")
    with pytest.raises(UnsolvableError, match=r"\(pinned: trellis 1.4.2\)"):
        at.lock()


def test_what_is_repacked_satisfies_what_depends_on_it(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, copied_channel: Path
) -> None:
    mac = conda_environment("python", "partd", "quill", platform="osx-arm64", channel=copied_channel)
    for path in copied_channel.glob("noarch/toolz-*"):
        path.unlink()
    index_channel(copied_channel)
    at = bench(mac)
    lock = at.lock()
    assert [package.name for package in lock.repacked] == ["toolz"]
    assert "partd" in {package.name for package in lock.conda}
    assert lock.deviations == ()
    # And where one more has gone since, what takes its place lives with that.
    (archive,) = copied_channel.glob("noarch/quill-*")
    archive.unlink()
    assert [package.name for package in at.fetch(lock).lock.repacked] == ["quill", "toolz"]


def test_pip_on_top_lives_with_what_conda_provides(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    mac = conda_environment("python", "numpy", "msgpack-python", "toolz", platform="osx-arm64")
    with LocalIndex() as index:
        needs = ["numpy>=1.20", "msgpack", "leaf>=1"]
        index.add_wheel("demo", "1.0.0", requires=needs)
        index.add_wheel("leaf", "1.2.0")
        for name in ("numpy", "msgpack"):  # nothing of the index takes conda's place
            index.add_wheel(name, "99.0")
        unpack(mac, "demo", "1.0.0", requires=needs)
        at = bench(mac)
        at.environ["PIP_INDEX_URL"] = index.url
        lock = at.lock()
        assert {p.name: p.version for p in lock.packages} == {"demo": "1.0.0", "leaf": "1.2.0"}
        assert {"numpy", "msgpack"} <= {name for p in lock.conda for name in p.distributions}
        assert changed(lock.deviations) == {"leaf": ("", "1.2.0")}


@pytest.mark.parametrize("recorded", [True, False], ids=["over conda", "conda remove --force"])
def test_what_pip_provides_in_condas_place_stays_pips(
    conda_environment: MakeCondaEnvironment, bench: MakeBench, recorded: bool
) -> None:
    mac = conda_environment("python", "partd", platform="osx-arm64")
    if not recorded:
        mac.record("toolz").unlink()
    for path in mac.site_packages.glob("toolz*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with LocalIndex() as index:
        index.add_wheel("toolz", "1.0.0")
        unpack(mac, "toolz", "1.0.0")
        at = bench(mac)
        at.environ["PIP_INDEX_URL"] = index.url
        lock = at.lock()
        fetched = at.fetch(lock).lock
        # Whoever wants conda's says so, and hears that there can't be both.
        with pytest.raises(LockError, match="toolz: the conda package toolz has it, and pip installs it"):
            bench(mac, add_conda=("toolz",)).lock()
    names = {package.name for package in fetched.conda}
    assert "partd" in names, "which needs it"
    assert "toolz" not in names
    assert {p.name: p.version for p in fetched.packages} == {"toolz": "1.0.0"}
    assert fetched.deviations == ()


def test_what_is_ignored_does_not_come_back(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    for platform in ("linux-64", "osx-arm64"):
        at = bench(conda_environment("python", "partd", platform=platform), ignore=("toolz",))
        lock = at.lock()
        assert "partd" in {package.name for package in lock.conda}
        assert "toolz" not in {package.name for package in lock.conda}
        assert lock.deviations == ()
        assert "required-but-left-out" in {finding.code for finding in at.plan().findings}


def test_what_is_added_has_from_pip_what_pip_has_replaced(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    linux = conda_environment("python", "toolz", "locket")
    for path in linux.site_packages.glob("toolz*"):
        shutil.rmtree(path)
    with LocalIndex() as index:
        index.add_wheel("toolz", "1.0.0")
        unpack(linux, "toolz", "1.0.0")
        at = bench(linux, add_conda=("partd",))
        at.environ["PIP_INDEX_URL"] = index.url
        lock = at.lock()
    assert {"partd", "locket"} <= {package.name for package in lock.conda}
    assert "toolz" not in {package.name for package in lock.conda}
    assert {p.name: p.version for p in lock.packages} == {"toolz": "1.0.0"}


def test_a_distribution_is_of_conda_or_of_pip(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    linux = conda_environment("python", "toolz", "greeter")
    with LocalIndex() as index:
        index.add_wheel("orchard-tools", "2.1.0")
        at = bench(linux, add_conda=("orchard-suite",), add_pip=("orchard-tools",))
        at.environ["PIP_INDEX_URL"] = index.url
        lock = at.lock()
        with pytest.raises(LockError, match="orchard-tools: the conda package orchard-suite has it"):
            at.fetch(lock)


def test_an_index_is_asked_for_a_version_once(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    linux = conda_environment("python", "toolz")
    with LocalIndex() as index:
        index.add_wheel("demo", "1.0.0")
        unpack(linux, "demo", "1.0.0")
        at = bench(linux)
        at.environ["PIP_INDEX_URL"] = index.url
        first = at.lock()
    # The index has gone, and isn't missed.
    assert at.lock() == first
    assert [package.name for package in first.packages] == ["demo"]
    Store(at.root).prune()
    with pytest.raises(LockError):
        at.lock()
