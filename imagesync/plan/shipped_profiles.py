"""Which packages a cluster can't do without, as shipped; data, and nothing else.

They are there exactly in the local version, and installed, or there is no plan. Profiles are in the order in
which ``auto`` tries them.
"""

from __future__ import annotations

from typing import Final

from imagesync.core.names import canonical_name
from imagesync.plan.levels import CriticalPackage, Profile

_DASK: Final = canonical_name("dask")
_DISTRIBUTED: Final = canonical_name("distributed")

PROFILES: Final = (
    Profile(
        name="dask",
        chosen_by=(_DASK,),
        # required_packages of distributed/versions.py: what Dask compares between client, scheduler, workers.
        critical=(
            CriticalPackage(
                _DASK,
                "dask",
                "Dask sends its task graphs between your machine and the cluster, and refuses or fails on"
                " other versions.",
                same_version_as=_DISTRIBUTED,
            ),
            CriticalPackage(
                _DISTRIBUTED,
                "distributed",
                "Client, scheduler and workers speak one protocol, which changes between releases.",
                same_version_as=_DASK,
            ),
            CriticalPackage(
                canonical_name("msgpack"),
                "msgpack",
                "It packs every message between your machine and the cluster.",
                conda="msgpack-python",
            ),
            CriticalPackage(
                canonical_name("cloudpickle"),
                "cloudpickle",
                "It pickles your functions here, and the workers must be able to load them.",
            ),
            CriticalPackage(
                canonical_name("tornado"),
                "tornado",
                "It carries the connections between your machine and the cluster.",
            ),
            CriticalPackage(
                canonical_name("toolz"),
                "toolz",
                "Dask's task graphs hold its functions, pickled by reference.",
            ),
        ),
    ),
    Profile(
        name="ray",
        chosen_by=(canonical_name("ray"),),
        critical=(
            CriticalPackage(
                canonical_name("ray"),
                "ray",
                "Ray refuses to connect to a cluster that runs another version.",
            ),
        ),
    ),
    Profile(name="none", chosen_by=(), critical=()),
)
