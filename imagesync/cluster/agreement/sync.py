"""Bring a running cluster to what the client has, as far as that goes without another image."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

from imagesync.cluster.agreement.check import reachable_address, report
from imagesync.cluster.agreement.overlay import (
    Overlay,
    Selection,
    Unsynced,
    importable,
    make_overlay,
    select_packages,
)
from imagesync.cluster.agreement.remote import Remote, RemoteObject
from imagesync.cluster.agreement.running import (
    Answers,
    Facts,
    cluster_side,
    members,
    query_members,
    shares_environment,
)
from imagesync.core.platforms import engine_platform
from imagesync.core.text import counted
from imagesync.diff.local import LocalSide
from imagesync.errors import ClusterError, UsageError
from imagesync.inventory.comparison import Comparison, Side, compare
from imagesync.inventory.planned import local_inventory
from imagesync.lock.lock import Target
from imagesync.session import open_session

if TYPE_CHECKING:
    from distributed import Client

    from imagesync.pipeline.environment_inputs import EnvironmentInputs
    from imagesync.session import Session

NAME = "imagesync-sync"
RESTART_TIMEOUT = 60.0
"""Seconds that workers may take to start again."""


class _WorkerOverlay(RemoteObject, WorkerPlugin):
    name = NAME


class _NannyOverlay(RemoteObject, NannyPlugin):
    name = NAME


class _SchedulerOverlay(RemoteObject, SchedulerPlugin):
    name = NAME


# In this order: the scheduler unpickles what goes to the workers.
_PLUGINS = (
    (_SchedulerOverlay, "scheduler_plugin"),
    (_NannyOverlay, "nanny_plugin"),
    (_WorkerOverlay, "worker_plugin"),
)


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Parameters
    ----------
    sent
        Names of what the cluster has now as it is here, though its image doesn't.
    unsynced
        What it can't be given.
    restarted
        Addresses of workers that were started again: they had imported what has changed, and something in
        them held on to it.
    remarks
        What to know besides, in words.
    comparison
        Of client and cluster afterwards.
    building, sending
        Seconds that it took to make the wheels, and all else.
    """

    sent: tuple[str, ...]
    unsynced: tuple[Unsynced, ...]
    restarted: tuple[str, ...]
    remarks: tuple[str, ...]
    comparison: Comparison
    building: float
    sending: float

    def __str__(self) -> str:
        lines = [f"Sent: {', '.join(self.sent)}." if self.sent else "Nothing to send."]
        lines += [f"Not sent: {one.name}: {one.reason}; {one.hint}" for one in self.unsynced]
        if self.restarted:
            lines.append(f"Started again: {', '.join(self.restarted)}.")
        return "\n".join((*lines, *self.remarks))


def sync(client: Client, *, session: Session | None = None, restart: bool | None = None) -> Synced:
    """Bring scheduler and workers, and workers that come later, to what the client has now.

    What has changed since the image was built goes there as wheels: edited local code, packages that were
    added, other versions. Modules that were imported there before are imported anew at their next use;
    where something holds on to them, the worker is started again.

    Parameters
    ----------
    client
        A connected client of Dask's.
    session
        As for :func:`imagesync.check`.
    restart
        Whether workers may be started again, and lose what they hold in memory: ``None`` where everything can
        be computed again, ``True`` always, ``False`` never.

    Raises
    ------
    ImagesyncError
        A wheel can't be made, or the cluster takes none.
    UsageError
        The client is asynchronous; await :func:`sync_async`.

    Warns
    -----
    MismatchWarning
        Something still differs.
    """
    if client.asynchronous:
        raise UsageError(
            "This client is asynchronous.",
            hint="Use `await imagesync.cluster.agreement.sync.sync_async(client)`.",
        )
    synced: Synced = client.sync(_sync, client, session, restart)
    report(synced.comparison, reachable_address(client), strict=False)
    return synced


async def sync_async(
    client: Client, *, session: Session | None = None, restart: bool | None = None
) -> Synced:
    """Do what :func:`sync` does, for an asynchronous client."""
    synced = await _sync(client, session, restart)
    report(synced.comparison, reachable_address(client), strict=False)
    return synced


async def _sync(client: Client, session: Session | None, restart: bool | None) -> Synced:
    start = time.perf_counter()
    session = session or open_session()
    inputs, answers = await asyncio.gather(asyncio.to_thread(session.inputs), query_members(client))
    here = LocalSide(local_inventory(inputs.plan, inputs.source_digests), inputs.environment.python.prefix)
    choice = select_packages(_compare(here, answers, without_syncs=True))
    began = time.perf_counter()
    overlay, unsynced = await asyncio.to_thread(_make_overlay, choice, inputs, answers)
    building = time.perf_counter() - began
    remarks = _shared_environment_remarks(here, answers)
    restarted: tuple[str, ...] = ()
    if overlay.wheels or overlay.code or any(facts["synced"] for facts in members(answers)):
        await _register_overlay(client, overlay)
        own = sorted(_local_modules(inputs, overlay))
        restarted, more = await _refresh(client, _changed(overlay, answers), own, restart)
        remarks += more
        answers = await query_members(client)
    return Synced(
        sent=tuple(sorted(overlay.contents or ())),
        unsynced=(*choice.unsynced, *unsynced),
        restarted=restarted,
        remarks=remarks,
        comparison=_compare(here, answers),
        building=building,
        sending=time.perf_counter() - start - building,
    )


def _compare(here: LocalSide, answers: Answers, *, without_syncs: bool = False) -> Comparison:
    there = cluster_side(answers, here=here, without_syncs=without_syncs)
    return compare(Side("client", {"client": here.inventory}), there)


def _make_overlay(
    choice: Selection, inputs: EnvironmentInputs, answers: Answers
) -> tuple[Overlay, tuple[Unsynced, ...]]:
    if not choice.names:
        return Overlay(), ()
    targets = {_target(facts) for facts in members(answers)}
    if len(targets) > 1:
        raise ClusterError(
            "Scheduler and workers run on different platforms or Pythons: "
            + "; ".join(sorted(f"Python {target.python_version} on {target.platform}" for target in targets)),
            hint="Start all of them from one image.",
        )
    (target,) = targets
    return make_overlay(choice.names, inputs=inputs, target=target)


def _target(facts: Facts) -> Target:
    """Return what a process runs."""
    major, _, minor = facts["libc"].removeprefix("glibc ").partition(".")
    glibc = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    return Target(engine_platform(facts["platform"]), facts["python"], glibc)


def _shared_environment_remarks(here: LocalSide, answers: Answers) -> tuple[str, ...]:
    if not any(shares_environment(facts, here) for facts in members(answers)):
        return ()
    return (
        "Workers run in the client's own environment, whose files they read:"
        " client.restart() makes them import what you edited.",
    )


def _local_modules(inputs: EnvironmentInputs, overlay: Overlay) -> set[str]:
    """Return what can be imported of local code, of which one package may import another."""
    from imagesync.plan.checks.modules import modules

    own = {module for found in (overlay.modules or {}).values() for module in found}
    for package in inputs.plan.packages:
        if package.vendored and package.installed is not None:
            own |= {*importable(modules(package.installed))}
    return own | {*inputs.plan.code.modules}


def _changed(overlay: Overlay, answers: Answers) -> list[str]:
    """Return the modules that this overlay brings, or that an earlier one brought."""
    said = [*(overlay.modules or {}).values()]
    for facts in members(answers):
        said += [tuple(modules) for sync in facts["synced"].values() for modules in sync["modules"].values()]
    return sorted({module for modules in said for module in modules})


async def _register_overlay(client: Client, overlay: Overlay) -> None:
    """Lay *overlay* into the scheduler and into all workers, those that come later included."""
    try:
        for kind, maker in _PLUGINS:
            await client.register_plugin(kind(Remote("overlay", maker), overlay.content), name=NAME)
    except Exception as error:
        raise ClusterError(
            f"The cluster doesn't take what was to be synced: {type(error).__name__}: {error}",
            hint="See the scheduler's log; or start a cluster from a new image: imagesync build",
        ) from error


async def _refresh(
    client: Client, modules: list[str], own: list[str], restart: bool | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Have changed modules imported anew, by starting workers again if need be.

    Returns
    -------
    tuple
        The addresses of the workers that were, and what to know.
    """
    question = Remote("imports", "refresh")
    scheduler: Mapping[str, Any]
    held: dict[str, list[str]]
    scheduler, held = await asyncio.gather(
        client.run_on_scheduler(question, modules, own, forced=True), _refresh_workers(client, modules, own)
    )
    remarks = []
    if scheduler["held"]:
        reasons = "; ".join(scheduler["held"])
        remarks.append(f"The scheduler can't be restarted, and holds on to what it had: {reasons}.")
    able: list[str] = []
    if held and restart is not False:
        ways = await client.run(Remote("workers", "way_back"), workers=list(held), on_error="ignore")
        able = sorted(address for address, way in ways.items() if way)
    if able and not restart:
        lost = await client.run_on_scheduler(Remote("workers", "irreplaceable"), able)
        if lost:
            remarks.append(
                f"Workers weren't started again: {counted(lost, 'piece')} of data that can't be computed anew"
                " would be lost (scattered data, actors). sync(client, restart=True) does it anyway."
            )
            able = []
    if able:
        await _restart(client, able)
        left = {address: held[address] for address in set(held) - set(able)}
        held = left | await _refresh_workers(client, modules, own)
    if held:
        why = "; ".join(sorted({reason for reasons in held.values() for reason in reasons}))
        remarks.append(f"Still with what they had imported ({why}): {', '.join(sorted(held))}.")
    return tuple(able), tuple(remarks)


async def _refresh_workers(client: Client, modules: list[str], own: list[str]) -> dict[str, list[str]]:
    """Have workers forget changed modules; return those that can't, with what holds on to them."""
    states: Mapping[str, Any] = await client.run(
        Remote("imports", "refresh"), modules, own, on_error="ignore"
    )
    return {address: state["held"] for address, state in states.items() if state["state"] == "held"}


async def _restart(client: Client, workers: list[str]) -> None:
    """Start *workers* again, and wait until as many are there."""
    scheduler: Any = client.scheduler  # whose methods aren't typed; asked this way, its log doesn't fill
    number = len((await scheduler.identity())["workers"])
    await client.run(Remote("workers", "leave"), workers=workers, on_error="ignore")
    end = time.monotonic() + RESTART_TIMEOUT
    while True:
        there = (await scheduler.identity())["workers"]
        if len(there) >= number and not set(there) & set(workers):
            return
        if time.monotonic() > end:
            raise ClusterError(
                f"{number - len(there)} of {number} workers haven't come back after {RESTART_TIMEOUT:.0f} s.",
                hint="See the workers' logs.",
            )
        await asyncio.sleep(0.05)
