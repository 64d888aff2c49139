"""Whether client and cluster agree: Dask's own versions before the first task, all packages soon after."""

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

_MEND = "Build the image of this environment: imagesync build; or leave image= away."


async def check_scheduler(scheduler: Any, *, strict: bool) -> None:  # noqa: ANN401  an rpc has no types
    """Compare the versions that Dask's own protocol depends on, which takes milliseconds.

    Parameters
    ----------
    scheduler
        The connection to it.

    Raises
    ------
    MismatchError
        *strict*, and something differs.
    """
    from distributed.versions import get_versions, required_packages

    theirs = (await scheduler.versions())["packages"]
    ours = get_versions()["packages"]
    differing = [
        f"{name} is {ours.get(name)} here and {theirs.get(name)} on the scheduler"
        for name in ("python", *required_packages)
        if _short(name, ours.get(name)) != _short(name, theirs.get(name))
    ]
    if not differing:
        return
    message = f"The cluster doesn't run what the client runs: {'; '.join(differing)}."
    if strict:
        raise MismatchError(message, hint=_MEND)
    warnings.warn(f"{message}\n{_MEND}", MismatchWarning, stacklevel=2)


def _short(name: str, version: str | None) -> str | None:
    """Return what matters of a version: of Python's, all but the patch level.

    >>> _short("python", "3.11.2.final.0"), _short("dask", "2026.8.0")
    ('3.11', '2026.8.0')
    """
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


async def check_agreement(cluster: SpecCluster, *, strict: bool, session: Session | None) -> Comparison:
    """Compare every package of scheduler and workers with this environment.

    Raises
    ------
    MismatchError
        *strict*, and something differs.
    """
    from imagesync.cluster.agreement.check import check_async

    async with _client_of(cluster) as client:
        return await check_async(client, strict=strict, session=session)


async def sync_code(cluster: SpecCluster, *, session: Session | None, restart: bool | None) -> Synced:
    """Send what has changed here since the image was built (:func:`imagesync.sync`)."""
    from imagesync.cluster.agreement.sync import sync_async

    async with _client_of(cluster) as client:
        return await sync_async(client, session=session, restart=restart)


@contextlib.asynccontextmanager
async def _client_of(cluster: SpecCluster) -> AsyncIterator[Client]:
    from distributed import Client

    with warnings.catch_warnings():
        # Dask's own remarks on versions: what comes says more.
        warnings.simplefilter("ignore")
        client = await Client(
            cluster.scheduler_address, security=cluster.security, asynchronous=True, set_as_default=False
        )
    try:
        yield client
    finally:
        await client.close()
