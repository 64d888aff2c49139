"""Groups of workers with options of their own, such as one with GPUs, and their scaling."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dask.utils import parse_bytes
from distributed import Status
from distributed.deploy.adaptive import Adaptive
from distributed.utils import NoOpAwaitable

from imagesync.cluster.container_options import ClusterSize, Machine, WorkerOptions, size_workers
from imagesync.cluster.engine_options import check_docker, check_json
from imagesync.cluster.supervised_cluster import SupervisedCluster
from imagesync.engine.run_options import parse_mounts, parse_size
from imagesync.errors import UsageError

Groups = Mapping[str, tuple[int, WorkerOptions]]
"""Number and options of the workers of each group."""

_OPTIONS = (
    "n_workers, nthreads, memory_limit, cpus, environment, mounts, gpus, resources, nanny, worker_options,"
    " shm_size, docker"
)
# Valid in names of containers; the other workers have numbers.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


def make_groups(
    groups: Mapping[str, Mapping[str, Any]] | None, *, machine: Machine, worker: WorkerOptions
) -> Groups:
    """Return number and options of the workers of each group.

    Parameters
    ----------
    groups
        Options by the group's name: arguments of :class:`~imagesync.cluster.docker_cluster.DockerCluster`
        that concern a worker; ``n_workers`` is 1 by default.
    machine
        CPUs that workers share.
    worker
        Options of the other workers, for what a group leaves out.

    Raises
    ------
    UsageError
        A group has an option that isn't a worker's.
    """
    return {
        name: _group(name, dict(options), machine=machine, worker=worker)
        for name, options in (groups or {}).items()
    }


def _group(
    name: str, given: dict[str, Any], *, machine: Machine, worker: WorkerOptions
) -> tuple[int, WorkerOptions]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"A group of workers can't be called {name!r}.",
            hint="Use up to 40 letters, digits, '-', '_' and '.'; begin with a letter.",
        )
    size = ClusterSize(
        given.pop("n_workers", 1),
        given.pop("nthreads", worker.nthreads),
        given.pop("memory_limit", worker.memory_limit),
        given.pop("cpus", None),
    )
    engine = replace(
        worker.engine,
        shm_size=parse_size(str(given.pop("shm_size", worker.engine.shm_size))),
        docker={**worker.engine.docker, **check_docker(given.pop("docker", None))},
    )
    resources = given.pop("resources", None)
    options = replace(
        worker,
        environment={**worker.environment, **(given.pop("environment", None) or {})},
        mounts=(*worker.mounts, *parse_mounts(given.pop("mounts", None) or ())),
        gpus=str(given.pop("gpus", worker.gpus) or ""),
        resources=dict(worker.resources if resources is None else resources),
        nanny=given.pop("nanny", worker.nanny),
        dask={**worker.dask, **check_json("worker_options", given.pop("worker_options", None))},
        engine=engine,
    )
    if given:
        raise UsageError(
            f"The group {name} has an option {next(iter(given))} that isn't a worker's.",
            hint=f"Options of a group: {_OPTIONS}.",
        )
    return size_workers(machine, options, size)


class GroupedCluster(SupervisedCluster):
    """A supervised cluster with groups of workers, each scaled by itself.

    Workers of a group are called ``<group>-<number>``, the others have numbers. Only the others are adaptive.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Any], **options: Any) -> None:  # noqa: ANN401
        self._groups = groups
        super().__init__(*args, **options)

    def scale(
        self,
        n: int = 0,
        memory: str | int | None = None,
        cores: int | None = None,
        *,
        worker_group: str = "",
    ) -> Any:  # noqa: ANN401  awaitable, if asynchronous
        """Start or retire workers until a group has *n*.

        Parameters
        ----------
        n
            Number of workers.
        memory, cores
            Memory and threads that the group is to have at least.
        worker_group
            Name of the group; by default that of the workers without one.

        Raises
        ------
        UsageError
            There is no such group, or its workers have no limit by which *memory* could be shared out.
        """
        if worker_group and worker_group not in self._groups:
            known = ", ".join(self._groups) or "none"
            raise UsageError(f"The cluster has no group {worker_group}; its groups: {known}.")
        spec = self._groups[worker_group] if worker_group else self.new_spec
        if memory is not None:
            _require_memory_limit(spec)
        if not self._groups:
            return super().scale(n, memory, cores)
        if memory is not None:
            n = max(n, math.ceil(parse_bytes(memory) / spec["options"]["memory_limit"]))
        if cores is not None:
            n = max(n, math.ceil(cores / spec["options"]["nthreads"]))
        self._resize(worker_group, spec, n)
        self._call_soon(self._fit)
        return NoOpAwaitable() if self.asynchronous else None

    def scale_up(self, n: int = 0, memory: str | int | None = None, cores: int | None = None) -> Any:  # noqa: ANN401
        """Start workers until there are *n*, not counting those of groups."""
        return self.scale(n, memory, cores)

    def adapt(  # type: ignore[override]  # they are SpecCluster's
        self,
        Adaptive: type[Adaptive] = Adaptive,  # noqa: N803  Dask's name
        **options: Any,  # noqa: ANN401
    ) -> Adaptive:
        """Start and retire workers by load; those of groups stay, and don't count.

        Parameters
        ----------
        Adaptive
            Class that decides how many there are to be.
        options
            As for :meth:`distributed.deploy.SpecCluster.adapt`.

        Raises
        ------
        UsageError
            The workers have no limit by which an amount of memory could be shared out.
        """
        if any(options.get(name) is not None for name in ("minimum_memory", "maximum_memory")):
            _require_memory_limit(self.new_spec)
        if self._groups:
            Adaptive = type(Adaptive.__name__, (_WithoutGroups, Adaptive), {})  # noqa: N806
        return super().adapt(Adaptive=Adaptive, **options)

    def _group_of(self, name: object) -> str:
        group = name.rpartition("-")[0] if isinstance(name, str) else ""
        return group if group in self._groups else ""

    def _members(self, group: str) -> list[str | int]:
        return [name for name in self.worker_spec if self._group_of(name) == group]

    def _without_groups(self, names: Iterable[Any]) -> list[Any]:
        return [name for name in names if not self._group_of(name)]

    async def _has_tasks_without_worker(self) -> bool:
        """Whether the scheduler has tasks that none of its workers may run."""
        return bool(await self.scheduler_comm.has_tasks_without_worker())  # type: ignore[union-attr]

    def _resize(self, group: str, spec: Any, n: int) -> None:  # noqa: ANN401
        members = self._members(group)
        joined = {worker["name"] for worker in self.scheduler_info["workers"].values()}
        # The latest go first, and before them those that haven't joined yet.
        latest = list(reversed(members))
        for name in sorted(latest, key=lambda name: name in joined)[: max(0, len(members) - n)]:
            del self.worker_spec[name]
        number = 0
        while len(members) < n and self.status not in (Status.closing, Status.closed):
            name = f"{group}-{number}" if group else number
            if name not in self.worker_spec:
                self.worker_spec[name] = spec
                members.append(name)
            number += 1


class _WithoutGroups(Adaptive):
    """What leaves the workers of groups out of an ``Adaptive``."""

    cluster: GroupedCluster

    @property
    def plan(self) -> set[Any]:
        return set(self.cluster._without_groups(super().plan))

    @property
    def requested(self) -> set[Any]:
        return set(self.cluster._without_groups(super().requested))

    @property
    def observed(self) -> set[Any]:
        return set(self.cluster._without_groups(super().observed))

    async def target(self) -> int:
        # The scheduler retires none of a group, so these are among those that it wants.
        others = int(await super().target()) - len(super().observed - self.observed)
        # Workers of groups may be enough in number, and lack a resource that a task needs.
        return max(others, int(await self.cluster._has_tasks_without_worker()))

    async def workers_to_close(self, target: int) -> list[Any]:
        # All of them, in the order in which to close them.
        names = self.cluster._without_groups(await super().workers_to_close(target=0))
        return names[: max(0, len(self.observed) - target)]


def _require_memory_limit(spec: Any) -> None:  # noqa: ANN401
    if not spec["options"]["memory_limit"]:
        raise UsageError(
            "These workers have no memory limit, so an amount of memory doesn't say how many of them.",
            hint="Give a number of workers, or of cores.",
        )
