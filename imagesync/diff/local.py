"""The inventory of an environment of this machine: scanned, planned, and its sources digested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.inventory.inventory import Inventory
from imagesync.inventory.planned import local_inventory

if TYPE_CHECKING:
    from imagesync.session import Session


@dataclass(frozen=True)
class LocalSide:
    """The side of this machine, for members of a cluster that run in the very same folder.

    Parameters
    ----------
    prefix
        The environment's folder.
    """

    inventory: Inventory
    prefix: str


def local_side(session: Session) -> LocalSide:
    """Return what the environment of *session* holds, and where it is.

    Raises
    ------
    ScanError, PlanError, WheelError
        It can't be read, or no image could be made of it.
    """
    inputs = session.inputs()
    inventory = local_inventory(inputs.plan, inputs.source_digests)
    return LocalSide(inventory, inputs.environment.python.prefix)
