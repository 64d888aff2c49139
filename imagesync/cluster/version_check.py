"""Checks that client and cluster run the same versions: Dask's protocol first, then all packages."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from imagesync.errors import MismatchError, MismatchWarning

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.spec import SpecCluster

    from imagesync.cluster.agreement.sync import Synced
    from imagesync.inventory.comparison import Comparison
    from imagesync.session import Session

_HINT = "Build the image of this environment: imagesync build; or leave image= away."


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
    """
    from distributed.versions import get_versions, required_packages

    remote = (await scheduler.versions())["packages"]
    local = get_versions()["packages"]
    differing = [
        f"{name} is {local.get(name)} here and {remote.get(name)} on the scheduler"
        for name in ("python", *required_packages)
        if _short(name, local.get(name)) != _short(name, remote.get(name))
    ]
    if not differing:
        return
    message = f"The cluster doesn't run what the client runs: {'; '.join(differing)}."
    if strict:
        raise MismatchError(message, hint=_HINT)
    warnings.warn(f"{message}\n{_HINT}", MismatchWarning, stacklevel=2)


def _short(name: str, version: str | None) -> str | None:
    """Return the part of a version to compare: of Python's, all but the patch level.

    >>> _short("python", "3.11.2.final.0"), _short("dask", "2026.8.0")
    ('3.11', '2026.8.0')
    """
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


async def check_agreement(cluster: SpecCluster, *, strict: bool, session: Session | None) -> Comparison:
    """Compare every package of scheduler and workers with this environment.

    Raises
    ------
    MismatchError
        *strict* is true and a package differs.
    """
    from imagesync.cluster.agreement.check import check_async

    async with _client_of(cluster) as client:
        return await check_async(client, strict=strict, session=session)


async def sync_code(cluster: SpecCluster, *, session: Session | None, restart: bool | None) -> Synced:
    """Send local changes since the image was built (:func:`imagesync.sync`)."""
    from imagesync.cluster.agreement.sync import sync_async

    async with _client_of(cluster) as client:
        return await sync_async(client, session=session, restart=restart)


@contextlib.asynccontextmanager
async def _client_of(cluster: SpecCluster) -> AsyncIterator[Client]:
    from distributed import Client

    with warnings.catch_warnings():
        # Dask's version warnings: the comparison says more.
        warnings.simplefilter("ignore")
        client = await Client(
            cluster.scheduler_address, security=cluster.security, asynchronous=True, set_as_default=False
        )
    try:
        yield client
    finally:
        await client.close()
