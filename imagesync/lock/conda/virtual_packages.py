"""What the image's machine has beside packages, as conda's solvers are told of it."""

from __future__ import annotations

from imagesync.lock.conda.solver import VirtualPackage
from imagesync.lock.lock import Target
from imagesync.lock.tags import machine

# An image has no kernel; this is what containers have run on for years, and what conda-lock assumes.
_LINUX = "5.10"


def virtual_packages(target: Target, *, cuda: str = "") -> tuple[VirtualPackage, ...]:
    """Return the virtual packages of *target*: nothing of this machine, and a driver only if it is asked for.

    Parameters
    ----------
    cuda
        The version of CUDA that the driver of the cluster's machines supports, such as ``12.4``.

    >>> target = Target("linux/amd64", "3.11.7", (2, 36))
    >>> [f"{package.name}={package.version}" for package in virtual_packages(target, cuda="12.4")]
    ['__glibc=2.36', '__linux=5.10', '__unix=0', '__archspec=1', '__cuda=12.4']
    """
    packages = (
        VirtualPackage("__glibc", ".".join(map(str, target.glibc))),
        VirtualPackage("__linux", _LINUX),
        VirtualPackage("__unix", "0"),
        VirtualPackage("__archspec", "1", machine(target)),
    )
    return (*packages, VirtualPackage("__cuda", cuda)) if cuda else packages
