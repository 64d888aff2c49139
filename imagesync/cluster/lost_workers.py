"""A cluster that tells workers that are lost from workers that are being started again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster


class PatientCluster(SpecCluster):
    """A ``SpecCluster`` that closes a lost worker only if none of its name has come since.

    Dask's own looks only whether one is there when the time-out (``distributed.deploy.lost-worker-timeout``)
    ends; a worker that has come back meanwhile, and is just being started once more, would be closed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  SpecCluster has no types
        self._arrivals: Counter[object] = Counter()
        super().__init__(*args, **options)

    def _update_worker_status(self, op: str, msg: Any) -> None:  # noqa: ANN401
        if op == "add":
            self._arrivals.update(worker["name"] for worker in msg["workers"].values())
        if op != "remove":
            super()._update_worker_status(op, msg)
            return
        name = self.scheduler_info["workers"][msg]["name"]
        arrivals = self._arrivals[name]

        def close_if_lost() -> None:
            if name in self.workers and self._arrivals[name] == arrivals:
                self._futures.add(asyncio.ensure_future(self.workers.pop(name).close()))

        delay = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
        asyncio.get_running_loop().call_later(delay, close_if_lost)
        Cluster._update_worker_status(self, op, msg)
