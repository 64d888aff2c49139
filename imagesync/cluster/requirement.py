"""What clusters need beside imagesync itself."""

from __future__ import annotations

from importlib.util import find_spec

from imagesync.errors import ClusterError

EXTRA = "pip install 'imagesync[dask]'"


def require_dask() -> None:
    """Refuse to go on where Dask, or what makes certificates, isn't installed.

    Raises
    ------
    ClusterError
        With the command that installs it.
    """
    missing = [name for name in ("distributed", "cryptography") if find_spec(name) is None]
    if missing:
        raise ClusterError(
            f"Clusters need {' and '.join(missing)} in the environment that imagesync runs in.",
            hint=f"Install it there: {EXTRA}",
        )
