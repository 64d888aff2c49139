"""The inventory of a local environment: scanned, planned, with digests of its sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.inventory.inventory import Inventory
from imagesync.inventory.planned import local_inventory

if TYPE_CHECKING:
    from imagesync.session import Session


@dataclass(frozen=True)
class LocalSide:
    """The inventory and the folder of a local environment.

    Members of a cluster that run in the same folder share the environment.

    Parameters
    ----------
    inventory
        Inventory of the environment.
    prefix
        Folder of the environment.
    """

    inventory: Inventory
    prefix: str


def local_side(session: Session) -> LocalSide:
    """Return the inventory and the folder of the environment of *session*.

    Raises
    ------
    ScanError, PlanError, WheelError
        The environment can't be read, or no image can be made of it.
    """
    inputs = session.inputs()
    inventory = local_inventory(inputs.plan, inputs.source_digests)
    return LocalSide(inventory, inputs.environment.python.prefix)
