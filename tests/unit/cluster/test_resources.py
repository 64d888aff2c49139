"""Removal of containers that an engine is already removing, and may fail to."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest
import requests

from imagesync.cluster.resources import remove_container
from imagesync.errors import EngineError


class Engine:
    """Answers requests to remove a container with these statuses, one after another."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.waited = 0

    def remove_container(self, container: str, **_: Any) -> None:
        response = requests.Response()
        response.status_code = self.statuses.pop(0)
        if response.status_code == 404:
            raise docker.errors.NotFound("no such container", response)
        if response.status_code >= 400:
            raise docker.errors.APIError("refused", response, f"removal of {container}")

    def wait(self, _container: str, **_: Any) -> dict[str, Any]:
        # What Docker answers when the removal by auto_remove has failed; no exception of the SDK.
        self.waited += 1
        return {"StatusCode": 137, "Error": {"Message": "device or resource busy"}}


def test_container_whose_automatic_removal_failed_is_removed() -> None:
    engine = Engine(409, 409, 204)
    remove_container(engine, "0123456789abcdef")
    assert (engine.statuses, engine.waited) == ([], 2)
    remove_container(Engine(409, 404), "gone meanwhile")


def test_container_that_the_engine_cannot_remove_is_an_error() -> None:
    with pytest.raises(EngineError, match="remove the container 0123456789ab") as caught:
        remove_container(Engine(409, 500), "0123456789abcdef")
    assert "docker rm --force 0123456789ab" in str(caught.value.hint)
