"""Profiles: the packages that a kind of cluster can't do without, as shipped.

Critical packages must be installed, and the image gets exactly the local versions. Profiles are in the order
in which ``auto`` tries them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from imagesync.core.names import canonical_name

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


class CriticalPackage(NamedTuple):
    """A package that a cluster can't do without.

    Parameters
    ----------
    name
        The canonical name.
    import_name
        The module to import when the finished image is checked.
    reason
        Why it is critical, for the user.
    same_version_as
        The package whose version to install if this one is missing.
    conda
        The conda name, if it differs.
    """

    name: NormalizedName
    import_name: str
    reason: str
    same_version_as: NormalizedName | None = None
    conda: str = ""


class Profile(NamedTuple):
    """The needs of a kind of cluster.

    Parameters
    ----------
    name
        As the setting ``profile`` writes it.
    chosen_by
        ``auto`` takes the first profile of which one of these packages is installed.
    critical
        The critical packages.
    """

    name: str
    chosen_by: tuple[NormalizedName, ...]
    critical: tuple[CriticalPackage, ...]


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


def load_profiles() -> dict[str, Profile]:
    """Return the shipped profiles by name, in the order in which ``auto`` tries them."""
    return {profile.name: profile for profile in PROFILES}
