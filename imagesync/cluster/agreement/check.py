"""Does a cluster run what the client runs? Asked of the scheduler and of every worker, package by package."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from imagesync.cluster.agreement.running import Answers, cluster_side, query_members
from imagesync.diff.local import LocalSide
from imagesync.errors import MismatchError, MismatchWarning, UsageError
from imagesync.inventory.comparison import Comparison, Side, compare
from imagesync.inventory.wording import remedy, summary

if TYPE_CHECKING:
    from distributed import Client

    from imagesync.session import Session


def check(client: Client, *, strict: bool = False, session: Session | None = None) -> Comparison:
    """Compare this process's environment with what the scheduler and each worker have now.

    Every package is compared, local code by the digest of its sources. Where something differs, or is missing
    there, a :class:`~imagesync.errors.MismatchWarning` says what, and the command that mends it.

    Parameters
    ----------
    client
        A connected client of Dask's.
    strict
        Raise instead of warning.
    session
        The settings that the cluster's image was built with; by default those that hold in this folder.

    Raises
    ------
    MismatchError
        *strict*, and something differs.
    UsageError
        The client is asynchronous; await :func:`check_async`.
    """
    if client.asynchronous:
        raise UsageError(
            "This client is asynchronous.",
            hint="Use `await imagesync.cluster.agreement.check.check_async(client)`.",
        )
    here = _here(session)
    answers = client.sync(query_members, client)
    return report(compare_with_cluster(here, answers), reachable_address(client), strict=strict)


async def check_async(client: Client, *, strict: bool = False, session: Session | None = None) -> Comparison:
    """Do what :func:`check` does, for an asynchronous client; the event loop goes on meanwhile."""
    import asyncio

    here, answers = await asyncio.gather(asyncio.to_thread(_here, session), query_members(client))
    return report(compare_with_cluster(here, answers), reachable_address(client), strict=strict)


def compare_with_cluster(here: LocalSide, answers: Answers) -> Comparison:
    """Return how this environment and a cluster compare."""
    return compare(Side("client", {"client": here.inventory}), cluster_side(answers, here=here))


def _here(session: Session | None) -> LocalSide:
    """Return what this process runs, whatever environment may be active beside it."""
    from imagesync.diff.local import local_side
    from imagesync.session import open_session

    return local_side(session or open_session(quiet=True))


def reachable_address(client: Client) -> str:
    """Return the address by which other processes of this machine reach a client's scheduler, if they can."""
    from imagesync.cluster.connection import connection_at

    address = str(client.scheduler.address) if client.scheduler is not None else ""
    if address.startswith("tls://") and connection_at(address) is None:
        return ""  # only this process has its certificates
    return "" if address.startswith("inproc://") else address


def report(comparison: Comparison, address: str, *, strict: bool) -> Comparison:
    """Return *comparison*, after a warning of what differs.

    Raises
    ------
    MismatchError
        *strict*, and something differs.
    """
    if not comparison.differences:
        return comparison
    message, hint = summary(comparison), remedy(comparison, address)
    if strict:
        raise MismatchError(message, hint=hint)
    warnings.warn(f"{message}\n{hint}", MismatchWarning, stacklevel=3)
    return comparison
