"""The sources of artifacts and installers: indexes, channels, builds here or in a container, the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from imagesync.core.credentials import strip_credentials
from imagesync.core.files import read_chunks
from imagesync.core.installation import own_installation
from imagesync.core.platforms import this_machine_runs_on
from imagesync.errors import FetchError, UnsolvableError
from imagesync.image.conda.conda_installer import check_micromamba, choose_installer
from imagesync.indexes.pypi.project_configuration import read_index_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.conda.channels import Channels
from imagesync.lock.conda.locked_records import planned_distributions
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.lock.resolvers.resolver_cache import CachingResolver
from imagesync.plan.dependencies import externally_provided
from imagesync.plan.match_specs import pins_of
from imagesync.plan.requirements import target_markers
from imagesync.store.download import Download
from imagesync.store.layout import ANSWERS
from imagesync.store.parallel_fetch import fetch
from imagesync.wheels.build_indexes import BuildIndexes

if TYPE_CHECKING:
    from imagesync.image.conda.conda_installer import CondaInstaller
    from imagesync.indexes.pypi.access import Access
    from imagesync.lock.conda.missing_archives import RecordDistributions
    from imagesync.lock.conda.solver import CondaSolver
    from imagesync.lock.lock import Lock, Target
    from imagesync.lock.locked_packages import LockedPackage
    from imagesync.lock.resolve_installed import InstalledDigest
    from imagesync.lock.resolvers.pip_tools import PipToolsResolver
    from imagesync.lock.resolvers.resolver import Resolver
    from imagesync.lock.resolvers.uv import UvResolver
    from imagesync.pipeline.context import Context
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
    from imagesync.scan.environment import Interpreter
    from imagesync.settings.model import Settings
    from imagesync.store.store import Store, StoredFile
    from imagesync.wheels.sdists.container import Container


@dataclass(frozen=True)
class ArtifactSources:
    """Where the artifacts of an image come from.

    Parameters
    ----------
    context
        The context of the command.
    python
        The scanned interpreter, which builds wheels and compiles bytecode.
    resolver
        Resolves requirements on the user's indexes.
    build_indexes
        Where build requirements come from.
    access
        How the user's indexes are reached.
    channels
        The user's conda channels.
    provided
        The installed distributions that conda packages provide.
    container
        Where sdists are built that this machine can't build for the target, if there is such a place.
    is_locked
        A lock file names the artifacts, so none may be replaced.
    is_foreign
        Only files are written, and the environment is a folder that nothing is run of (``--prefix``): no
        build back-end, and none of an sdist, because the folder's files name the indexes, too. What has no
        wheel without one is left out.
    """

    context: Context
    python: Interpreter
    resolver: Resolver
    build_indexes: BuildIndexes
    access: Access
    channels: Channels
    provided: tuple[PlannedPackage, ...] = ()
    container: Container | None = None
    is_locked: bool = False
    is_foreign: bool = False

    @property
    def no_build(self) -> bool:
        """Return True if no build back-end runs."""
        return self.is_foreign or self.context.settings.no_build

    @property
    def leaves_out(self) -> bool:
        """Return True if what needs a build back-end is left out; with ``--no-build`` it is an error."""
        return self.is_foreign and not self.context.settings.no_build

    def responding_resolver(self) -> Resolver:
        """Return a resolver without the indexes that haven't answered."""
        silent = self.build_indexes.silent
        return self.resolver.without(silent) if silent else self.resolver

    def conda_solver(self) -> CondaSolver:
        """Return the solver for conda packages that the settings name."""
        if self.context.settings.solver != "conda-lock":
            return self.channels
        from imagesync.lock.conda.conda_lock import CondaLockSolver

        context = self.context
        return CondaLockSolver(self.channels, context.environ, context.progress, context.settings.micromamba)

    def installed_digests(self, target: Target) -> InstalledDigest:
        """Return a function that gives the digest of a package's installed files, if they fit *target*."""

        def installed_digest(package: PlannedPackage) -> str:
            # Lazy, because a lock whose versions are all on an index looks at no installed files.
            from imagesync.wheels.repack import portable_digest

            return portable_digest(
                package.installed, python=self.python, target=target, modification=package.modification
            )

        return installed_digest

    def with_hint(self, error: UnsolvableError) -> UnsolvableError:
        """Return *error*, with a hint if the cause may be that no sdist is built of a foreign environment."""
        if not self.leaves_out:
            return error
        hint = (
            "No sdist is built for the lock of a folder (--prefix). If a package has no wheel, lock with "
            "the interpreter (--python PATH), or leave the package out (--ignore NAME)."
        )
        return type(error)(error.message, hint="\n".join(filter(None, (error.hint, hint))))

    def record_distributions(self, target: Target) -> RecordDistributions:
        """Return a function that gives the distributions of a conda package, if wheels can replace it."""
        prefix, installed_digest = Path(self.python.prefix), self.installed_digests(target)

        def distributions(package: PlannedConda) -> Sequence[tuple[PlannedPackage, str]]:
            from imagesync.wheels.installed_fallback import portable_distributions

            return portable_distributions(
                package, self.provided, prefix=prefix, installed_digest=installed_digest
            )

        return distributions


def open_artifact_sources(
    plan: Plan,
    context: Context,
    *,
    project: Path | None = None,
    private_channels: Sequence[str] = (),
    for_files: bool = False,
) -> ArtifactSources:
    """Return the sources of the artifacts of *plan*, by the user's configuration of indexes and channels.

    Parameters
    ----------
    plan
        The plan.
    context
        The context of the command.
    project
        The folder of the file that is read in place of an environment: the configuration of indexes is that
        of an environment there.
    private_channels
        URLs of channels with their credentials, besides those of the settings.
    for_files
        Only files are written, a lock or a build context, and no image is built.
    """
    python, settings = plan.python, context.settings
    environ = dict(context.environ)
    markers = target_markers(python, plan.platform)
    prefix = Path(python.prefix) if project is None else project / ".venv"
    configuration = read_index_configuration(prefix, environ, cwd=project, markers=markers)
    if "timeout" in settings.origins:
        environ.pop("UV_HTTP_TIMEOUT", None)  # uv would go by it
    if "timeout" in settings.origins or configuration.timeout is None:
        configuration = replace(configuration, timeout=settings.timeout)
    access = make_access(configuration, environ)
    is_foreign = for_files and not python.executable
    no_build = is_foreign or settings.no_build
    no_builds = {"UV_NO_BUILD": "1", "PIP_ONLY_BINARY": ":all:"} if no_build else {}
    resolver = _resolver_type(settings)(configuration, environ={**environ, **no_builds}, access=access)
    return ArtifactSources(
        context,
        python,
        CachingResolver(resolver, context.cache_folder / ANSWERS, environ),
        BuildIndexes(configuration, access=access, environ=environ, progress=context.progress),
        access,
        open_channels(plan.channels, python, context, plan=plan, private_channels=private_channels),
        provided=planned_distributions(plan),
        is_foreign=is_foreign,
    )


def _resolver_type(settings: Settings) -> type[UvResolver | PipToolsResolver]:
    if settings.resolver == "uv":
        from imagesync.lock.resolvers.uv import UvResolver

        return UvResolver
    from imagesync.lock.resolvers.pip_tools import PipToolsResolver

    return PipToolsResolver


def open_channels(
    urls: Sequence[str],
    python: Interpreter,
    context: Context,
    *,
    plan: Plan | None = None,
    private_channels: Sequence[str] = (),
) -> Channels:
    """Return the conda channels at *urls*; nothing is read before a channel is asked for something.

    Parameters
    ----------
    urls
        URLs without credentials, by priority.
    python
        The scanned interpreter.
    context
        The context of the command.
    plan
        The plan that is solved for, if one is.
    private_channels
        URLs of channels with their credentials, besides those of the settings.
    """
    return Channels(
        urls,
        platform=context.platform,
        configured=tuple(dict.fromkeys((*context.settings.channels, *private_channels))),
        prefix=Path(python.prefix),
        environ=context.environ,
        store=context.store,
        progress=context.progress,
        cuda=context.settings.cuda if plan is not None else "",
        externally_provided=externally_provided(plan) if plan is not None else (),
        pins=pins_of(plan) if plan is not None else (),
        timeout=context.settings.timeout,
    )


def fetch_packages(packages: Sequence[LockedPackage], sources: ArtifactSources) -> tuple[StoredFile, ...]:
    """Return the artifacts of *packages*, in their order.

    Raises
    ------
    FetchError
        One can't be fetched, or doesn't have its digest.
    """
    downloads = [download_of(package) for package in packages]
    context = sources.context
    return fetch(downloads, store=context.store, access=sources.access, progress=context.progress)


def download_of(package: LockedPackage) -> Download:
    """Return the download of *package*."""
    artifact = package.artifact
    return Download(artifact.url, artifact.digest, artifact.filename, artifact.size)


def conda_installer(lock: Lock, sources: ArtifactSources) -> CondaInstaller:
    """Return the installer of the conda packages of *lock*.

    Raises
    ------
    UsageError
        The micromamba that the settings name can't be used.
    """
    settings = sources.context.settings
    chosen = choose_installer(
        settings.conda_installer,
        platform=lock.target.platform,
        micromamba=settings.micromamba,
        channels=sources.channels,
        store=sources.context.store,
        wheel=lambda requirement: _tool(requirement, lock, sources),
        progress=sources.context.progress,
    )
    solves = settings.solver == "conda-lock"  # what micromamba is named for
    if settings.micromamba is not None and chosen.kind != "micromamba" and not solves:
        sources.context.progress.line(
            f"py-rattler installs the conda packages, not {settings.micromamba}: "
            "that takes --conda-installer micromamba"
        )
    return chosen


def check_conda_installer(plan: Plan, settings: Settings) -> None:
    """Check before a build the micromamba of the settings, if it installs conda packages of *plan*.

    Raises
    ------
    UsageError
        It can't be used.
    """
    if plan.conda and settings.micromamba is not None and settings.conda_installer == "micromamba":
        check_micromamba(settings.micromamba, plan.platform)


def _tool(requirement: str, lock: Lock, sources: ArtifactSources) -> StoredFile:
    """Return the wheel of a tool for the image's platform, from the user's index."""
    name = requirement.partition("==")[0]
    resolver = sources.responding_resolver()
    found = resolver.resolve(ResolutionRequest(target=lock.target, requirements=(requirement,)))
    (wheel,) = fetch_packages([package for package in found if package.name == name], sources)
    return wheel


def uv_installer(lock: Lock, sources: ArtifactSources) -> Path:
    """Return uv for the image's platform: our own where it runs there, else the one in uv's wheel."""
    import uv

    if this_machine_runs_on(lock.target.platform):
        return Path(uv.find_uv_bin())
    from importlib.metadata import version

    key = f"installer {lock.target.platform} uv {version('uv')}"
    executable = sources.context.store.recall(key, progress=sources.context.progress)
    if executable is None:
        request = ResolutionRequest(target=lock.target, requirements=(f"uv=={version('uv')}",))
        (locked,) = sources.resolver.resolve(request)
        (wheel,) = fetch_packages([locked], sources)
        executable = _extract(wheel, sources.context.store)
        sources.context.store.remember(key, executable)
    return executable.path


def _extract(wheel: StoredFile, store: Store) -> StoredFile:
    """Return the executable that uv's wheel holds among its scripts.

    Raises
    ------
    FetchError
        The wheel holds none.
    """
    import zipfile

    with zipfile.ZipFile(wheel.path) as archive:
        for name in archive.namelist():
            if name.endswith(".data/scripts/uv"):
                with archive.open(name) as file:
                    return store.add(read_chunks(file), filename="uv")
    raise FetchError(
        f"{wheel.filename} holds no uv executable.",
        hint=f"Install another version of uv beside imagesync: {own_installation().reinstall('uv')}",
    )


def with_credentials(access: Access, urls: Iterable[str]) -> Access:
    """Return *access* with the user names and passwords in *urls* besides, those of a lock file."""
    from imagesync.indexes.pypi.access import Credential

    found = tuple(
        Credential(
            strip_credentials(urlunsplit(parts)), unquote(parts.username), unquote(parts.password or "")
        )
        for parts in map(urlsplit, urls)
        if parts.username
    )
    return replace(access, credentials=(*access.credentials, *found))
