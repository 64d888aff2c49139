"""Synchronisation of a running cluster with the client's environment, without a new image."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

from imagesync.cluster.agreement.check import reachable_address, report
from imagesync.cluster.agreement.liveness import while_answering
from imagesync.cluster.agreement.members import (
    Answers,
    Facts,
    client_of,
    cluster_side,
    members,
    query_members,
    shares_environment,
)
from imagesync.cluster.agreement.overlay import (
    Overlay,
    Selection,
    Unsynced,
    importable,
    make_overlay,
    select_packages,
)
from imagesync.cluster.agreement.synced import Held, Synced, held_remarks, irreplaceable_remark
from imagesync.core.platforms import require_platform
from imagesync.diff.sides import LocalSide
from imagesync.errors import ClusterError, UsageError
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Comparison, Side
from imagesync.inventory.inventory import local_inventory
from imagesync.lock.lock import Target
from imagesync.session import open_session
from imagesync.standalone.programs import Remote, RemoteObject

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.spec import SpecCluster

    from imagesync.pipeline.environment_inputs import EnvironmentInputs
    from imagesync.session import Session

NAME = "imagesync-sync"
RESTART_TIMEOUT = 60.0
"""Seconds for workers to restart."""


class _WorkerOverlay(RemoteObject, WorkerPlugin):
    name = NAME


class _NannyOverlay(RemoteObject, NannyPlugin):
    name = NAME


class _SchedulerOverlay(RemoteObject, SchedulerPlugin):
    name = NAME


# The order matters: the scheduler unpickles the plugins of workers.
_PLUGINS = (
    (_SchedulerOverlay, "scheduler_plugin"),
    (_NannyOverlay, "nanny_plugin"),
    (_WorkerOverlay, "worker_plugin"),
)


def sync(client: Client, *, session: Session | None = None, restart: bool | None = None) -> Synced:
    """Synchronise scheduler and workers, including later workers, with the client's environment.

    Changes since the image was built are sent as wheels: edited local code, added packages, other versions.
    Changed modules are imported anew at their next use; a worker with references to them is restarted.

    Parameters
    ----------
    client
        A connected Dask client.
    session
        As for :func:`imagesync.check`.
    restart
        Whether workers may be restarted and lose their data: ``None`` if all of it can be recomputed,
        ``True`` always, ``False`` never.

    Raises
    ------
    ImagesyncError
        A wheel can't be made, the cluster refuses the overlay, or the scheduler or a worker doesn't answer.
    UsageError
        The client is asynchronous: await :func:`sync_async`.

    Warns
    -----
    MismatchWarning
        A package still differs.
    """
    if client.asynchronous:
        raise UsageError(
            "This client is asynchronous.",
            hint="from imagesync.cluster.agreement.sync import sync_async; await sync_async(client)",
        )
    synced: Synced = client.sync(_sync, client, session, restart)
    report(synced.comparison, reachable_address(client), strict=False)
    return synced


async def sync_async(
    client: Client, *, session: Session | None = None, restart: bool | None = None
) -> Synced:
    """Synchronise as :func:`sync` does, for an asynchronous client."""
    synced = await _sync(client, session, restart)
    report(synced.comparison, reachable_address(client), strict=False)
    return synced


async def sync_code(cluster: SpecCluster, *, session: Session | None, restart: bool | None) -> Synced:
    """Send local changes since the image was built (:func:`imagesync.sync`)."""
    async with client_of(cluster) as client:
        return await sync_async(client, session=session, restart=restart)


async def _sync(client: Client, session: Session | None, restart: bool | None) -> Synced:
    start = time.perf_counter()
    session = session or open_session()
    inputs, answers = await asyncio.gather(asyncio.to_thread(session.inputs), query_members(client))
    local = LocalSide(local_inventory(inputs.plan, inputs.source_digests), inputs.environment.python.prefix)
    selection = select_packages(_compare(local, answers, without_syncs=True))
    build_start = time.perf_counter()
    overlay, unsynced = await asyncio.to_thread(_make_overlay, selection, inputs, answers)
    building = time.perf_counter() - build_start
    remarks = _shared_environment_remarks(local, answers)
    restarted: tuple[str, ...] = ()
    if overlay.wheels or overlay.code or any(facts["synced"] for facts in members(answers)):
        local_modules = sorted(_local_modules(inputs, overlay))
        applying = _apply(client, overlay, _changed(overlay, answers), local_modules, restart)
        restarted, refresh_remarks = await while_answering(client, applying)
        remarks += refresh_remarks
        answers = await query_members(client)
    return Synced(
        sent=tuple(sorted(overlay.contents or ())),
        unsynced=(*selection.unsynced, *unsynced),
        restarted=restarted,
        remarks=remarks,
        comparison=_compare(local, answers),
        building=building,
        sending=time.perf_counter() - start - building,
    )


def _compare(local: LocalSide, answers: Answers, *, without_syncs: bool = False) -> Comparison:
    remote = cluster_side(answers, local=local, without_syncs=without_syncs)
    return compare(Side("client", {"client": local.inventory}), remote)


def _make_overlay(
    selection: Selection, inputs: EnvironmentInputs, answers: Answers
) -> tuple[Overlay, tuple[Unsynced, ...]]:
    if not selection.names:
        return Overlay(), ()
    targets = {_target(facts) for facts in members(answers)}
    if len(targets) > 1:
        raise ClusterError(
            "Scheduler and workers run on different platforms or Pythons: "
            + "; ".join(sorted(f"Python {target.python_version} on {target.platform}" for target in targets)),
            hint="Start all of them from one image.",
        )
    (target,) = targets
    return make_overlay(selection.names, inputs=inputs, target=target)


def _target(facts: Facts) -> Target:
    """Return the platform and the Python of a process."""
    major, _, minor = facts["libc"].removeprefix("glibc ").partition(".")
    glibc = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    return Target(require_platform(facts["platform"]), facts["python"], glibc)


def _shared_environment_remarks(local: LocalSide, answers: Answers) -> tuple[str, ...]:
    if not any(shares_environment(facts, local) for facts in members(answers)):
        return ()
    return (
        "Workers run in the client's own environment, whose files they read:"
        " client.restart() makes them import what you edited.",
    )


def _local_modules(inputs: EnvironmentInputs, overlay: Overlay) -> set[str]:
    """Return the importable modules of all local code, which may import each other."""
    from imagesync.plan.checks.modules import modules

    found = {module for names in (overlay.modules or {}).values() for module in names}
    for package in inputs.plan.packages:
        if package.vendored and package.installed is not None:
            found |= {*importable(modules(package.installed))}
    return found | {*inputs.plan.code.modules}


def _changed(overlay: Overlay, answers: Answers) -> dict[str, str]:
    """Return the packages of this overlay and of earlier ones, by module."""
    found: dict[str, str] = {}
    for facts in members(answers):
        for sync in facts["synced"].values():
            found |= {module: name for name, modules in sync["modules"].items() for module in modules}
    return found | {module: name for name, modules in (overlay.modules or {}).items() for module in modules}


async def _apply(
    client: Client,
    overlay: Overlay,
    packages: Mapping[str, str],
    local_modules: list[str],
    restart: bool | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Install *overlay*, and have its modules imported anew; see :func:`_refresh`."""
    await _register_overlay(client, overlay)
    result = await _refresh(client, packages, local_modules, restart)
    discard = Remote("apply_sync", "discard_unused")
    await asyncio.gather(client.run_on_scheduler(discard), client.run(discard, on_error="ignore"))
    return result


async def _register_overlay(client: Client, overlay: Overlay) -> None:
    """Install *overlay* in the scheduler and in all workers, including later ones."""
    try:
        for kind, maker in _PLUGINS:
            await client.register_plugin(kind(Remote("apply_sync", maker), overlay.content), name=NAME)
    except Exception as error:
        raise ClusterError(
            f"The cluster rejects the synchronisation: {type(error).__name__}: {error}",
            hint="See the scheduler's log; or start a cluster from a new image: imagesync build",
        ) from error


async def _refresh(
    client: Client, packages: Mapping[str, str], local_modules: list[str], restart: bool | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Have changed modules imported anew, and restart workers if necessary.

    Parameters
    ----------
    client
        A connected client.
    packages
        The packages of changed modules, by module.
    local_modules
        All modules of local code.
    restart
        As for :func:`sync`.

    Returns
    -------
    tuple
        The addresses of the restarted workers, and remarks for the user.
    """
    modules = sorted(packages)
    scheduler: Mapping[str, str]
    held: Held
    scheduler, held = await asyncio.gather(
        client.run_on_scheduler(Remote("imports", "refresh"), modules, local_modules, forced=True),
        _refresh_workers(client, modules, local_modules),
    )
    remarks = held_remarks({"the scheduler, which can't be restarted,": scheduler}, packages)
    restartable: list[str] = []
    if held and restart is not False:
        supervisors = await client.run(
            Remote("apply_sync", "restarted_by"), workers=list(held), on_error="ignore"
        )
        restartable = sorted(address for address, name in supervisors.items() if name)
    if restartable and not restart:
        lost = await client.run_on_scheduler(Remote("apply_sync", "irreplaceable"), restartable)
        if lost:
            remarks.append(irreplaceable_remark(lost))
            restartable = []
    if restartable:
        await _restart(client, restartable)
        remaining = {address: held[address] for address in set(held) - set(restartable)}
        held = {**remaining, **await _refresh_workers(client, modules, local_modules)}
    remarks += held_remarks(held, packages)
    return tuple(restartable), tuple(remarks)


async def _refresh_workers(client: Client, modules: list[str], local_modules: list[str]) -> Held:
    """Have workers forget changed modules, and return the reasons of those that can't."""
    answers: Held = await client.run(Remote("imports", "refresh"), modules, local_modules, on_error="ignore")
    return {address: reasons for address, reasons in answers.items() if reasons}


async def _restart(client: Client, workers: list[str]) -> None:
    """Restart *workers*, and wait until the cluster has as many workers as before."""
    scheduler: Any = client.scheduler  # untyped RPC methods; unlike a client's calls they write no log
    number = len((await scheduler.identity())["workers"])
    await client.run(Remote("apply_sync", "leave"), workers=workers, on_error="ignore")
    end = time.monotonic() + RESTART_TIMEOUT
    while True:
        present = (await scheduler.identity())["workers"]
        if len(present) >= number and not set(present) & set(workers):
            return
        if time.monotonic() > end:
            raise ClusterError(
                f"{number - len(present)} of {number} workers haven't come back after"
                f" {RESTART_TIMEOUT:.0f} s.",
                hint="See the workers' logs.",
            )
        await asyncio.sleep(0.05)
