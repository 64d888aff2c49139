"""The inventories of a running Dask cluster: its scheduler and each of its workers say what they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from imagesync.cluster.agreement.remote import Remote
from imagesync.core.text import counted
from imagesync.errors import ImagesyncError
from imagesync.inventory.comparison import SCHEDULER, Side
from imagesync.inventory.default_levels import with_levels
from imagesync.inventory.inventory import LOOSE_CODE, Entry, Inventory
from imagesync.standalone.cluster.facts import place

if TYPE_CHECKING:
    from distributed import Client

    from imagesync.cluster.agreement.connection import Certificates
    from imagesync.diff.local import LocalSide
    from imagesync.session import Session

Facts = Mapping[str, Any]
SCHEMES: Final = ("tcp://", "tls://", "ws://", "wss://", "ucx://")
Answers = tuple[Facts, Mapping[str, "Facts | Exception"]]


async def query_members(client: Client) -> Answers:
    """Return what the scheduler says of itself, and what each worker says, by address.

    A worker that ends meanwhile has its exception instead; what to make of the answers says
    :func:`cluster_side`.

    Parameters
    ----------
    client
        A connected client, on whose event loop this runs.

    Raises
    ------
    ImagesyncError
        The scheduler gives no answer.
    """
    import asyncio

    question = Remote("facts", "facts")
    try:
        scheduler, workers = await asyncio.gather(
            client.run_on_scheduler(question),
            client.run(question, on_error="return"),
        )
    except Exception as error:
        raise ImagesyncError(
            f"The scheduler doesn't say what it runs: {type(error).__name__}: {error}",
            hint="Look at its log; it may have ended.",
        ) from error
    return scheduler, workers


def cluster_side(
    answers: Answers,
    *,
    name: str | None = None,
    here: LocalSide | None = None,
    without_syncs: bool = False,
) -> Side:
    """Return a cluster as one side of a comparison.

    Parameters
    ----------
    answers
        From :func:`query_members`.
    name
        What to call it; by default how many workers there are.
    without_syncs
        As in :func:`inventory_of`.
    """
    scheduler, workers = answers
    members = {SCHEDULER: inventory_of(scheduler, here=here, without_syncs=without_syncs)}
    silent = {}
    for address, answer in sorted(workers.items()):
        if isinstance(answer, Exception):
            silent[address] = f"{type(answer).__name__}: {answer}"
        else:
            members[address] = inventory_of(answer, here=here, without_syncs=without_syncs)
    return Side(name or f"scheduler and {counted(len(workers), 'worker')}", members, silent)


def read_scheduler(address: str, *, session: Session, certificates: Certificates) -> Side:
    """Return the cluster of the scheduler at *address* as one side of a comparison.

    Parameters
    ----------
    address
        It begins with one of :data:`SCHEMES`.
    session
        Of the environment here, which stands for members that run in its very folder.

    Raises
    ------
    ImagesyncError
        Nobody answers there, or there are no certificates.
    """
    from imagesync.cluster.agreement.connection import connected
    from imagesync.diff.local import local_side

    with connected(address, certificates) as client:
        answers = client.sync(query_members, client)
    return cluster_side(answers, name=address, here=local_side(session))


def members(answers: Answers) -> tuple[Facts, ...]:
    """Return what those said that answered."""
    scheduler, workers = answers
    return (scheduler, *(facts for facts in workers.values() if not isinstance(facts, Exception)))


def shares_environment(facts: Facts, here: LocalSide) -> bool:
    """Return whether a process runs in the very folder that this machine's environment is in."""
    return bool(facts["place"] == place(here.prefix))


def inventory_of(facts: Facts, *, here: LocalSide | None = None, without_syncs: bool = False) -> Inventory:
    """Return what a process says that it has.

    Versions are what is installed there now. What local code is made from, and which level a package has,
    its image says, as far as the packages are still those of the image.

    Parameters
    ----------
    without_syncs
        Whether what came by :func:`imagesync.sync` is passed over.
    """
    if without_syncs:
        facts = {**facts, "distributions": _without_overlays(facts), "synced": {}}
    built = _image_inventory(facts["environment"])
    if here is not None and shares_environment(facts, here):
        known: Inventory | None = here.inventory
    else:
        known = built
    environment_hash = "" if built is None else built.environment_hash
    return Inventory(facts["platform"], with_levels(_entries(facts, known)), environment_hash)


def _image_inventory(content: object) -> Inventory | None:
    try:
        return Inventory.from_dict(content) if isinstance(content, dict) else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # of a later version of imagesync


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
        # A metapackage may be called like the distribution that it stands for.
        if entry.key in planned or not (record["provides"] or (known is not None and name in provided)):
            entries.append(_planned(entry, planned))
    for entry in entries:
        yield replace(entry, build=builds.get(entry.conda, "")) if entry.manager == "conda" else entry
    if code := _loose_code(facts, planned.get((LOOSE_CODE, "code"))):
        yield code


def _planned(entry: Entry, planned: Mapping[tuple[str, str], Entry]) -> Entry:
    """Return *entry* with what was planned for it."""
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
    """Return a distribution, with what its code is made from as far as something says it."""
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
        # conda packages may have kept where their build machine had them.
        local=found["local"] and not is_conda,
    )
    sync = facts["synced"].get(found["location"])
    if sync is not None and name in sync["stale"]:
        # It runs what it imported before.
        return planned if planned is not None else replace(entry, content="", local=True)
    if sync is not None:
        content = sync["packages"].get(name, "")
        return replace(entry, content=content, local=bool(content))
    if planned is None or not planned.local:
        return replace(entry, local=entry.local and not as_planned)
    # An installation by hand may have replaced what the image has.
    update_versions = as_planned and found["location"] == facts["purelib"]
    return replace(entry, content=planned.content if update_versions else "", local=True)


def _loose_code(facts: Facts, planned: Entry | None) -> Entry | None:
    for sync in facts["synced"].values():
        content = sync["packages"].get(LOOSE_CODE)
        if content and LOOSE_CODE not in sync["stale"]:
            return Entry(LOOSE_CODE, "", kind="code", content=content, local=True)
    return planned
