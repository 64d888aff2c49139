"""Events of a cluster's containers and network, as the engine reports them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagesync.cluster import labels
from imagesync.engine.client import connect, engine_errors
from imagesync.engine.endpoint import Endpoint

if TYPE_CHECKING:
    import docker
    import docker.types


@dataclass(frozen=True)
class Event:
    """One event.

    Parameters
    ----------
    action
        ``die`` of a container, ``disconnect`` of a running container from the network, ``destroy`` of the
        network.
    container
        ID of the container; empty if there is none.
    exit_code
        Exit code of a container that died.
    """

    action: str
    container: str = ""
    exit_code: int = 0


def events_of(api: docker.APIClient, filters: Mapping[str, Any]) -> docker.types.CancellableStream:
    """Return the engine's events as the SDK does, which would wait for an answer without a limit."""
    import docker.types
    from docker.utils import convert_filters

    response = api._get(api._url("/events"), params={"filters": convert_filters(filters)}, stream=True)
    api._raise_for_status(response)
    api._disable_socket_timeout(api._get_raw_response_socket(response))
    return docker.types.CancellableStream(api._stream_helper(response, decode=True), response)


class EventListener:
    """Listens to the engine's events in a thread until it is closed.

    Parameters
    ----------
    endpoint
        Address of the engine.
    cluster
        Name of the cluster.
    network
        ID of the cluster's network.
    notify
        Called with each event, in the listener's thread.
    """

    def __init__(
        self, endpoint: Endpoint, *, cluster: str, network: str, notify: Callable[[Event], None]
    ) -> None:
        self._cluster = cluster
        self._network = network
        self._notify = notify
        self._api = connect(endpoint)
        filters = {"type": ["container", "network"], "event": ["die", "disconnect", "destroy"]}
        with engine_errors("report the events of a cluster"):
            self._events = events_of(self._api, filters)
        self._thread = threading.Thread(target=self._listen, daemon=True, name=f"imagesync-{cluster}-events")
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._events.close()
        self._thread.join(timeout=5)
        self._api.close()

    def _listen(self) -> None:
        # Closing the stream raises an error that depends on the transport.
        with suppress(Exception):
            for content in self._events:
                event = self._event(content)
                if event is not None:
                    self._notify(event)

    def _event(self, content: Mapping[str, Any]) -> Event | None:
        kind, action, actor = content.get("Type"), content.get("Action", ""), content.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        if kind == "container" and action == "die" and attributes.get(labels.CLUSTER) == self._cluster:
            return Event(action, actor["ID"], int(attributes.get("exitCode") or 0))
        if kind != "network" or actor.get("ID") != self._network:
            return None
        container = attributes.get("container", "")
        # A container that ends is disconnected too: before `die` in new engines, after it in old ones.
        if action == "destroy" or (action == "disconnect" and self._is_running(container)):
            return Event(action, container)
        return None

    def _is_running(self, container: str) -> bool:
        import docker.errors

        try:
            return bool(self._api.inspect_container(container)["State"]["Running"])
        except docker.errors.NotFound:
            return False
