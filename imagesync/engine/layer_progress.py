"""What pulling and pushing share: the engine's messages about layers, and what to say of a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from imagesync.core.credentials import redact
from imagesync.core.image_reference import parse_reference
from imagesync.core.progress import Task
from imagesync.engine.client import failure
from imagesync.errors import RegistryError

# What an engine says of a layer that moves, and of one whose bytes are all there.
_MOVING = frozenset({"Downloading", "Pushing"})
_MOVED = frozenset({"Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Pushed"})
# What registries and engines say to a wrong password, and to none.
_REFUSED = ("unauthorized", "denied", "authentication required", "forbidden", "no basic auth credentials")

Doing = Literal["pulled", "pushed"]


class Layers:
    """The layers of an image on their way, whose sizes become known one after the other.

    Parameters
    ----------
    reference
        Of the image, for messages.
    """

    def __init__(self, task: Task, reference: str, doing: Doing) -> None:
        self._task = task
        self._reference = reference
        self._doing = doing
        self._done: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def feed(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the engine.

        Raises
        ------
        RegistryError
            It is about a failure.
        """
        if (said := failure(message)) is not None:
            raise registry_error(self._reference, self._doing, said)
        layer, status = message.get("id"), message.get("status")
        if not layer:
            return
        sizes = message.get("progressDetail") or {}
        if status in _MOVING and sizes.get("total"):
            if layer not in self._sizes:
                self._sizes[layer] = sizes["total"]
                self._task.grow(sizes["total"])
            # What is pushed has headers, too, which the total doesn't count.
            self._reach(layer, min(sizes.get("current", 0), self._sizes[layer]))
        elif status in _MOVED:
            # Engines leave out what they would say too soon after the message before, the last bytes too.
            self._reach(layer, self._sizes.get(layer, 0))

    def _reach(self, layer: str, current: int) -> None:
        # An engine that tries a layer again starts at zero; what is shown never goes back.
        done = max(current, self._done.get(layer, 0))
        self._task.advance(done - self._done.get(layer, 0))
        self._done[layer] = done


def registry_error(reference: str, doing: Doing, said: str) -> RegistryError:
    """Return the error for what an engine *said* of a registry."""
    domain = parse_reference(reference).domain
    said = redact(said).strip().rstrip(".")
    lower = said.lower()
    if any(word in lower for word in _REFUSED):
        hint = (
            f"Log in: `docker login {domain}` (or, for Podman, `podman login {domain}`);"
            " if you have, check that the image's name is right."
        )
    elif any(word in lower for word in ("manifest unknown", "not found", "no matching manifest")):
        hint = "Check the image's name and tag, and that it exists for this platform."
    else:
        hint = f"Check that the engine reaches {domain}; a proxy belongs into the engine's own settings."
    return RegistryError(f"{reference} can't be {doing}: {said}.", hint=hint)
