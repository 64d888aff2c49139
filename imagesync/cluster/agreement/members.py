"""Connections to a running Dask cluster, and the inventories that its scheduler and workers report."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagesync.cluster.connection import connection_at, security_from_dict
from imagesync.core.installation import own_installation
from imagesync.core.text import counted
from imagesync.diff.sides import LocalSide, local_side
from imagesync.errors import ClusterError, ImagesyncError, UsageError
from imagesync.inventory.comparison import SCHEDULER, Side
from imagesync.inventory.inventory import LOOSE_CODE, Entry, Inventory, with_levels
from imagesync.standalone.cluster.member_facts import place
from imagesync.standalone.programs import Remote

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.spec import SpecCluster
    from distributed.security import Security

    from imagesync.session import Session


TIMEOUT = 10
"""Seconds that a scheduler may take to answer."""


@dataclass(frozen=True)
class Certificates:
    """PEM files of a TLS connection to a scheduler; ``None`` for those of Dask's configuration."""

    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@contextlib.contextmanager
def connected(address: str, certificates: Certificates) -> Iterator[Client]:
    """Yield a client of the scheduler at *address*, and close it afterwards.

    Parameters
    ----------
    address
        Address of the scheduler.
    certificates
        Required for ``tls://``, unless Dask's configuration or a connection file has them.

    Raises
    ------
    UsageError
        Dask isn't installed, or certificates are missing.
    ImagesyncError
        No scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "Dask isn't installed beside imagesync, so no scheduler can be reached.",
            hint=f"Install it there: {own_installation().add_extra('dask')}",
        ) from error
    security = _security(address, certificates)
    if address.startswith("tls://") and not security.require_encryption:
        raise UsageError(
            f"{address} requires certificates.",
            hint="Give them: --tls-ca-file FILE --tls-cert FILE --tls-key FILE;"
            " or name them in Dask's own configuration."
            " Those of a cluster that `imagesync cluster up` started here are found.",
        )
    try:
        with warnings.catch_warnings():
            # Dask's version warnings: the comparison says more.
            warnings.simplefilter("ignore")
            client = Client(address, security=security, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ImagesyncError(
            f"No scheduler answers at {address}: {type(error).__name__}: {error}",
            hint="Check the address, and that the certificates are those of the cluster.",
        ) from error
    with client:
        yield client


@contextlib.asynccontextmanager
async def client_of(cluster: SpecCluster) -> AsyncIterator[Client]:
    """Yield an asynchronous client of *cluster*, and close it afterwards."""
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


def _security(address: str, certificates: Certificates) -> Security:
    from distributed.security import Security

    files = {
        "tls_ca_file": certificates.ca_file,
        "tls_client_cert": certificates.cert,
        "tls_client_key": certificates.key,
    }
    arguments = {key: str(path) for key, path in files.items() if path is not None}
    if not arguments:
        connection = connection_at(address)
        return Security() if connection is None else security_from_dict(connection.security)
    return Security(require_encryption=True, **arguments)


Facts = Mapping[str, Any]
SCHEMES: Final = ("tcp://", "tls://", "ws://", "wss://", "ucx://")
Answers = tuple[Facts, Mapping[str, "Facts | Exception"]]


async def query_members(client: Client) -> Answers:
    """Return the facts of the scheduler, and those of each worker by address.

    The answer of a worker that fails is its exception. :func:`cluster_side` interprets the answers.

    Parameters
    ----------
    client
        A connected client, whose event loop runs the coroutine.

    Raises
    ------
    ImagesyncError
        The scheduler or a worker doesn't answer.
    """
    import asyncio

    from imagesync.cluster.agreement.liveness import while_answering

    facts = Remote("member_facts", "facts")

    async def ask() -> Answers:
        scheduler, workers = await asyncio.gather(
            client.run_on_scheduler(facts),
            client.run(facts, on_error="return"),
        )
        return scheduler, workers

    try:
        return await while_answering(client, ask())
    except ClusterError:
        raise
    except Exception as error:
        raise ImagesyncError(
            f"The scheduler doesn't report its packages: {type(error).__name__}: {error}",
            hint="Look at its log; it may have ended.",
        ) from error


def cluster_side(
    answers: Answers,
    *,
    name: str | None = None,
    local: LocalSide | None = None,
    without_syncs: bool = False,
) -> Side:
    """Return a cluster as one side of a comparison.

    Parameters
    ----------
    answers
        Answers of :func:`query_members`.
    name
        Name of the side; by default the number of workers.
    local
        This machine's environment, for members that run in it.
    without_syncs
        As in :func:`inventory_of`.
    """
    scheduler, workers = answers
    members = {SCHEDULER: inventory_of(scheduler, local=local, without_syncs=without_syncs)}
    silent = {}
    for address, answer in sorted(workers.items()):
        if isinstance(answer, Exception):
            silent[address] = f"{type(answer).__name__}: {answer}"
        else:
            members[address] = inventory_of(answer, local=local, without_syncs=without_syncs)
    return Side(name or f"scheduler and {counted(len(workers), 'worker')}", members, silent)


def read_scheduler(address: str, *, session: Session, certificates: Certificates) -> Side:
    """Return the cluster of the scheduler at *address* as one side of a comparison.

    Parameters
    ----------
    address
        Begins with one of :data:`SCHEMES`.
    session
        Session of the local environment, for members that run in it.
    certificates
        Required for ``tls://``, as in :func:`~imagesync.cluster.agreement.members.connected`.

    Raises
    ------
    ImagesyncError
        No scheduler answers, or certificates are missing.
    """
    with connected(address, certificates) as client:
        answers = client.sync(query_members, client)
    return cluster_side(answers, name=address, local=local_side(session))


def members(answers: Answers) -> tuple[Facts, ...]:
    """Return the facts of the members that answered."""
    scheduler, workers = answers
    return (scheduler, *(facts for facts in workers.values() if not isinstance(facts, Exception)))


def shares_environment(facts: Facts, local: LocalSide) -> bool:
    """Return ``True`` for a process that runs in the folder of the local environment."""
    return bool(facts["place"] == place(local.prefix))


def inventory_of(facts: Facts, *, local: LocalSide | None = None, without_syncs: bool = False) -> Inventory:
    """Return the inventory of a process.

    Versions are those installed now. Levels and the digests of local code are those of its image, for
    packages that haven't been replaced since.

    Parameters
    ----------
    facts
        Answer of the process.
    local
        This machine's environment, used if the process runs in it.
    without_syncs
        Whether to ignore packages sent by :func:`imagesync.sync`.
    """
    if without_syncs:
        facts = {**facts, "distributions": _without_overlays(facts), "synced": {}}
    built = _image_inventory(facts["environment"])
    if local is not None and shares_environment(facts, local):
        known: Inventory | None = local.inventory
    else:
        known = built
    environment_hash = "" if built is None else built.environment_hash
    return Inventory(facts["platform"], with_levels(_entries(facts, known)), environment_hash)


def _image_inventory(content: object) -> Inventory | None:
    try:
        return Inventory.from_dict(content) if isinstance(content, dict) else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # written by a later version of imagesync


def _without_overlays(facts: Facts) -> list[Facts]:
    return [found for found in facts["distributions"] if found["location"] not in facts["synced"]]


def _entries(facts: Facts, known: Inventory | None) -> Iterator[Entry]:
    planned = {} if known is None else known.by_key
    builds = {record["name"]: record["build"] for record in facts["conda"]}
    python = Entry("python", facts["python"], "python", "conda" if "python" in builds else "", conda="python")
    entries = [_planned(python, planned)]
    first: dict[str, Facts] = {found["name"]: found for found in reversed(facts["distributions"])}
    for found in first.values():
        entry = _distribution(found, facts, planned.get((found["name"], "distribution")))
        entries.append(_planned(entry, planned))
    provided = {name for entry in entries for name in (entry.name, entry.conda)}
    for record in facts["conda"]:
        name = record["name"]
        entry = Entry(name, record["version"], "conda", "conda", conda=name)
        # A metapackage may share the name of the distribution that it depends on.
        if entry.key in planned or not (record["provides"] or (known is not None and name in provided)):
            entries.append(_planned(entry, planned))
    for entry in entries:
        yield replace(entry, build=builds.get(entry.conda, "")) if entry.manager == "conda" else entry
    if code := _loose_code(facts, planned.get((LOOSE_CODE, "code"))):
        yield code


def _planned(entry: Entry, planned: Mapping[tuple[str, str], Entry]) -> Entry:
    """Return *entry* with the level and specifier of its plan."""
    plan = planned.get(entry.key)
    if plan is None:
        return entry
    return replace(
        entry,
        level=plan.level,
        specifier=plan.specifier,
        reason=plan.reason,
        left_out=plan.left_out,
        conda=plan.conda or entry.conda,
    )


def _distribution(found: Facts, facts: Facts, planned: Entry | None) -> Entry:
    """Return the entry of a distribution, with the digest of its sources if it is known."""
    name, version = found["name"], found["version"]
    record = next((r for r in facts["conda"] if name in (r["name"], *r["provides"])), None)
    as_planned = planned is not None and planned.version == version
    is_conda = (
        found["installer"] == "conda"
        or (as_planned and planned is not None and planned.manager == "conda")
        or (record is not None and found["installer"] not in ("pip", "uv"))
    )
    entry = Entry(
        name,
        version,
        manager="conda" if is_conda else "pip",
        conda=record["name"] if is_conda and record is not None else "",
        # A direct_url.json in a conda package may name a folder of the build machine.
        local=found["local"] and not is_conda,
    )
    sync = facts["synced"].get(found["location"])
    if sync is not None and name in sync["stale"]:
        # The process still runs the modules that it imported before.
        return planned if planned is not None else replace(entry, content="", local=True)
    if sync is not None:
        content = sync["packages"].get(name, "")
        return replace(entry, content=content, local=bool(content))
    if planned is None or not planned.local:
        return replace(entry, local=entry.local and not as_planned)
    # The image's package may have been replaced by hand.
    as_built = as_planned and found["location"] == facts["purelib"]
    return replace(entry, content=planned.content if as_built else "", local=True)


def _loose_code(facts: Facts, planned: Entry | None) -> Entry | None:
    for sync in facts["synced"].values():
        content = sync["packages"].get(LOOSE_CODE)
        if content and LOOSE_CODE not in sync["stale"]:
            return Entry(LOOSE_CODE, "", kind="code", content=content, local=True)
    return planned
