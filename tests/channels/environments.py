"""Conda environments, installed from a channel as conda would install them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rattler

from tests.environments import LocalEnvironment

# Extracted packages, shared by all environments; their files are copied into each.
_CACHE = Path(__file__).parents[2] / ".work" / "channels" / "packages"
# What a solver is told of the machine that an environment is made for.
VIRTUAL_PACKAGES = {
    "linux-64": {"__unix": "0", "__linux": "6.1", "__glibc": "2.36", "__archspec": "1"},
    "linux-aarch64": {"__unix": "0", "__linux": "6.1", "__glibc": "2.36", "__archspec": "1"},
    "osx-arm64": {"__unix": "0", "__osx": "14.5", "__archspec": "1"},
    "win-64": {"__win": "10", "__archspec": "1"},
}


@dataclass(frozen=True)
class CondaEnvironment(LocalEnvironment):
    """A conda environment on disk, of any platform."""

    platform: str = "linux-64"

    @property
    def site_packages(self) -> Path:
        """Return the folder that packages are installed in."""
        pattern = "Lib/site-packages" if self.platform == "win-64" else "lib/python3*/site-packages"
        (folder,) = self.prefix.glob(pattern)
        return folder

    @property
    def records(self) -> Path:
        """Return the folder of conda's records."""
        return self.prefix / "conda-meta"

    def record(self, name: str) -> Path:
        """Return the record of the package *name*."""
        (path,) = (
            path for path in self.records.glob(f"{name}-*.json") if path.stem.rsplit("-", 2)[0] == name
        )
        return path

    @property
    def activated(self) -> dict[str, str]:
        """Return the variables by which a command finds it, as ``conda activate`` sets them."""
        return {"CONDA_PREFIX": str(self.prefix), "CONDA_DEFAULT_ENV": self.prefix.name}


def make_conda_environment(
    channel: Path | str | Sequence[Path | str],
    specs: Sequence[str],
    prefix: Path,
    *,
    platform: str = "linux-64",
    forced: Sequence[str] = (),
    pip: Sequence[str] = (),
    pip_arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    alternative_prefix: str | None = None,
) -> CondaEnvironment:
    """Solve for *specs*, install the result into *prefix*, and return the environment.

    Parameters
    ----------
    channel
        A folder, or a URL (credentials and tokens included); or several, the first wins.
    specs
        Match specs; each is noted as requested in the record of its package.
    platform
        ``linux-64``, ``linux-aarch64``, ``osx-arm64`` or ``win-64``; those of others can only be read.
    forced
        ``name=version``, taken as they are after the solve, whatever depends on what: an environment as
        somebody leaves it who doesn't listen to the solver.
    pip
        Requirements for the environment's own pip (put ``pip`` into *specs*), on top.
    alternative_prefix
        The prefix that is written into files instead of *prefix*.
    """
    channels = [channel] if isinstance(channel, (str, Path)) else list(channel)
    records = solve(channels, specs, platform=platform)
    for spec in forced:
        (record,) = solve(channels, [spec], platform=platform, dependencies=False)
        records = [other for other in records if other.name != record.name] + [record]
    install(records, prefix, platform=platform, requested=specs, alternative_prefix=alternative_prefix)
    made = CondaEnvironment(prefix, platform)
    if pip:
        made.pip_install(*pip_arguments, *pip, environ=environ)
    return made


def solve(
    channels: Sequence[Path | str], specs: Sequence[str], *, platform: str, dependencies: bool = True
) -> list[rattler.RepoDataRecord]:
    """Return the records that satisfy *specs*, or with *dependencies* off the newest that match them."""
    with tempfile.TemporaryDirectory() as cache:
        return asyncio.run(_solve(channels, specs, platform, dependencies, Path(cache)))


async def _solve(
    channels: Sequence[Path | str], specs: Sequence[str], platform: str, dependencies: bool, cache: Path
) -> list[rattler.RepoDataRecord]:
    sources = [rattler.Channel(_url(channel)) for channel in channels]
    platforms = [rattler.Subdir(platform), rattler.Subdir("noarch")]
    gateway = rattler.Gateway(cache_dir=cache)
    if not dependencies:
        found = await gateway.query(sources, platforms, list(specs), recursive=False)
        records = [record for group in found for record in group]
        return sorted(records, key=lambda record: (record.version, record.build_number))[-1:]
    no_build = rattler.BuildString("0")
    virtual = [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), no_build)
        for name, version in VIRTUAL_PACKAGES[platform].items()
    ]
    return await rattler.solve(
        sources, list(specs), gateway=gateway, platforms=platforms, virtual_packages=virtual
    )


def install(
    records: Sequence[rattler.RepoDataRecord],
    prefix: Path,
    *,
    platform: str,
    requested: Sequence[str] = (),
    alternative_prefix: str | None = None,
) -> None:
    """Install *records* into *prefix*; its files are copies, so that a test may change them."""
    copies = "allow-hard-links = false\nallow-symbolic-links = false\nallow-ref-links = true\n"
    asyncio.run(
        rattler.install(
            list(records),
            prefix,
            cache_dir=_CACHE,
            platform=rattler.Subdir(platform),
            execute_link_scripts=platform == "linux-64",
            show_progress=False,
            alternative_target_prefix=alternative_prefix,
            config=rattler.Config.from_toml(copies),
        )
    )
    for spec in requested:
        _note_requested(prefix / "conda-meta", spec)


def _note_requested(records: Path, spec: str) -> None:
    """Write *spec* into the record of its package, as conda does; rattler 0.28 can't be told from Python."""
    name = rattler.MatchSpec(spec).name
    for path in records.glob("*.json"):
        record = json.loads(path.read_text())
        if name is not None and record["name"] == str(getattr(name, "normalized", name)):
            path.write_text(json.dumps({**record, "requested_spec": spec}, indent=2))


def _url(channel: Path | str) -> str:
    return channel.as_uri() if isinstance(channel, Path) else channel
