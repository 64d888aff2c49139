"""Comparison of the client's packages with those of the scheduler and every worker, Dask's protocol first."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from imagesync.cluster.agreement.liveness import PATIENCE, silent
from imagesync.cluster.agreement.members import Answers, client_of, cluster_side, query_members
from imagesync.cluster.connection import connection_at
from imagesync.diff.sides import LocalSide, local_side
from imagesync.errors import MismatchError, MismatchWarning, UsageError
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Comparison, Side, remedy, summary

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.spec import SpecCluster

    from imagesync.session import Session

_HINT = "Build the image of this environment: imagesync build; or omit image=."


def check(client: Client, *, strict: bool = False, session: Session | None = None) -> Comparison:
    """Compare the environment of this process with those of the scheduler and each worker.

    Every package is compared, local code by the digest of its sources. A
    :class:`~imagesync.errors.MismatchWarning` lists the packages that differ or are missing there, and the
    command that fixes it.

    Parameters
    ----------
    client
        A connected Dask client.
    strict
        Raise instead of warning.
    session
        Session with the settings that the cluster's image was built with; by default those of the working
        folder.

    Raises
    ------
    MismatchError
        *strict* is true and a package differs.
    UsageError
        The client is asynchronous: await :func:`check_async`.
    """
    if client.asynchronous:
        raise UsageError(
            "This client is asynchronous.",
            hint="from imagesync.cluster.agreement.check import check_async; await check_async(client)",
        )
    local = _local_side(session)
    answers = client.sync(query_members, client)
    return report(compare_with_cluster(local, answers), reachable_address(client), strict=strict)


async def check_async(client: Client, *, strict: bool = False, session: Session | None = None) -> Comparison:
    """Compare as :func:`check` does, for an asynchronous client, without blocking the event loop."""
    import asyncio

    local, answers = await asyncio.gather(asyncio.to_thread(_local_side, session), query_members(client))
    return report(compare_with_cluster(local, answers), reachable_address(client), strict=strict)


async def check_agreement(cluster: SpecCluster, *, strict: bool, session: Session | None) -> Comparison:
    """Compare every package of scheduler and workers with this environment.

    Raises
    ------
    MismatchError
        *strict* is true and a package differs.
    """
    async with client_of(cluster) as client:
        return await check_async(client, strict=strict, session=session)


def compare_with_cluster(local: LocalSide, answers: Answers) -> Comparison:
    """Return the comparison of this environment with a cluster."""
    return compare(Side("client", {"client": local.inventory}), cluster_side(answers, local=local))


def _local_side(session: Session | None) -> LocalSide:
    """Return the environment of this process, which needn't be the active one."""
    from imagesync.session import open_session

    return local_side(session or open_session(quiet=True))


def reachable_address(client: Client) -> str:
    """Return the scheduler's address if other processes of this machine can connect to it, else ``""``."""
    address = str(client.scheduler.address) if client.scheduler is not None else ""
    if address.startswith("tls://") and connection_at(address) is None:
        return ""  # only this process has the certificates
    return "" if address.startswith("inproc://") else address


def report(comparison: Comparison, address: str, *, strict: bool) -> Comparison:
    """Warn of the differences, and return *comparison*.

    Raises
    ------
    MismatchError
        *strict* is true and a package differs.
    """
    if not comparison.differences:
        return comparison
    message, hint = summary(comparison), remedy(comparison, address)
    if strict:
        raise MismatchError(message, hint=hint)
    warnings.warn(f"{message}\n{hint}", MismatchWarning, stacklevel=3)
    return comparison


async def check_scheduler(scheduler: Any, *, strict: bool) -> None:  # noqa: ANN401  an rpc has no types
    """Compare the versions that Dask's protocol depends on, which takes milliseconds.

    Parameters
    ----------
    scheduler
        RPC connection to the scheduler.
    strict
        Raise instead of warning.

    Raises
    ------
    MismatchError
        *strict* is true and a package differs.
    ClusterError
        The scheduler doesn't answer.
    """
    import asyncio

    from distributed.versions import get_versions, required_packages

    try:
        remote = (await asyncio.wait_for(scheduler.versions(), PATIENCE))["packages"]
    except asyncio.TimeoutError as error:
        raise silent("The scheduler") from error
    local = get_versions()["packages"]
    differing = [
        f"{name} is {local.get(name)} here and {remote.get(name)} on the scheduler"
        for name in ("python", *required_packages)
        if _short(name, local.get(name)) != _short(name, remote.get(name))
    ]
    if not differing:
        return
    message = f"The cluster runs other versions than the client: {'; '.join(differing)}."
    if strict:
        raise MismatchError(message, hint=_HINT)
    warnings.warn(f"{message}\n{_HINT}", MismatchWarning, stacklevel=2)


def _short(name: str, version: str | None) -> str | None:
    """Return the part of a version to compare: of Python's, all but the patch level.

    >>> _short("python", "3.11.2.final.0"), _short("dask", "2026.8.0")
    ('3.11', '2026.8.0')
    """
    return ".".join(version.split(".")[:2]) if name == "python" and version else version
