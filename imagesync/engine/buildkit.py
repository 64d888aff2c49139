"""Build an image by one request to the engine's API: BuildKit on Docker, Buildah on Podman."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imagesync.engine.build_steps import Steps
from imagesync.engine.build_stream import BuildStream
from imagesync.engine.client import SEND_TIMEOUT, engine_errors, messages, refusal
from imagesync.errors import BuildError

if TYPE_CHECKING:
    import docker
    import requests

    from imagesync.core.progress import Progress
    from imagesync.engine.build_context import BuildRequest

KEPT_LOGS = 20
_CANCEL_TIMEOUT = 5
_CONTAINERD_STORE = "1.43"
"""The API of Docker 24, the first engine that may have such an image store."""


def build_by_api(
    api: docker.APIClient,
    context: Iterable[bytes],
    request: BuildRequest,
    *,
    progress: Progress,
    logs: Path | None,
) -> str:
    """Send the context, follow the build, and return the image's ID.

    Any exception, :class:`KeyboardInterrupt` included, cancels the build.

    Parameters
    ----------
    api
        The engine's client.
    context
        A tar archive in pieces.
    request
        The options of the build.
    progress
        Shows the steps.
    logs
        The folder for the whole log; the latest logs stay there.

    Raises
    ------
    BuildError
        A step failed, or the engine refuses the build.

    Notes
    -----
    ``version=2`` asks for BuildKit: https://docs.docker.com/reference/api/engine/. Without a session it has
    neither secrets nor the user's credentials for images.
    """
    build_id = uuid4().hex
    steps = Steps(progress=progress, log=None if logs is None else _new_log(logs, build_id))
    stream = BuildStream(steps)
    with engine_errors("build the image"), steps:
        try:
            response = api.post(
                f"{api.base_url}/v{api.api_version}/build",
                params={**_parameters(request, build_id), **_output(api)},
                data=iter(context),
                headers={"Content-Type": "application/x-tar"},
                stream=True,
                timeout=(SEND_TIMEOUT, None),
            )
            _follow(response, stream, steps)
        except BaseException:
            _cancel(api, build_id, stream.image_id)
            raise
    if stream.image_id is None:
        raise steps.error("The engine ended the build without an image.")
    return stream.image_id


_NEEDED = "It takes Docker Engine 20.10 or later with BuildKit, or Podman 4.3 or later; see `docker version`."


def _follow(response: requests.Response, stream: BuildStream, steps: Steps) -> None:
    with response:
        if not response.ok:
            raise BuildError(
                f"The engine refuses the build: {steps.error(refusal(response)).message}", hint=_NEEDED
            )
        for message in messages(response):
            stream.feed(message)
        stream.end()


def _parameters(request: BuildRequest, build_id: str) -> dict[str, str]:
    from docker.utils.config import load_general_config
    from docker.utils.proxy import ProxyConfig

    arguments = dict(request.build_args)
    if request.network != "none":
        # As the Docker CLI does: BuildKit keeps these predefined arguments out of the image and its history.
        proxies = load_general_config().get("proxies") or {}
        arguments = {**ProxyConfig.from_dict(proxies.get("default") or {}).get_environment(), **arguments}
    parameters: dict[str, str] = {
        "version": "2",
        "buildid": build_id,
        "dockerfile": request.dockerfile,
        "buildargs": json.dumps(arguments),
        "labels": json.dumps(dict(request.labels)),
        "platform": request.platform,
        "rm": "1",
        "forcerm": "1",
    }
    if request.network == "none":
        parameters["networkmode"] = "none"
    if request.target is not None:
        parameters["target"] = request.target
    if request.no_cache:
        parameters["nocache"] = "1"
    return parameters


def _output(api: docker.APIClient) -> dict[str, str]:
    """Return the output parameter of a containerd image store; other stores keep layers uncompressed.

    It compresses each layer during the build, on one core; gzip, the default, takes most of a build's time.
    """
    from docker.utils import version_lt

    if version_lt(api.api_version, _CONTAINERD_STORE):
        return {}
    if ["driver-type", "io.containerd.snapshotter.v1"] not in (api.info().get("DriverStatus") or []):
        return {}
    return {"outputs": json.dumps([{"Type": "moby", "Attrs": {"compression": "zstd"}}])}


def _cancel(api: docker.APIClient, build_id: str, image_id: str | None) -> None:
    """Cancel a build, and remove its image if it was finished."""
    import docker.errors
    import requests

    # Podman has no such request: it cancels when the connection is closed.
    with suppress(requests.RequestException, docker.errors.DockerException):
        api.post(
            f"{api.base_url}/v{api.api_version}/build/cancel",
            params={"id": build_id},
            timeout=_CANCEL_TIMEOUT,
        )
    if image_id is not None:
        remove_untagged(api, image_id)


def remove_untagged(api: docker.APIClient, image_id: str) -> None:
    """Remove an image unless it has a tag: the image of an entirely cached build may have one."""
    import docker.errors
    import requests

    with suppress(requests.RequestException, docker.errors.DockerException):
        if not any("<none>" not in tag for tag in _tags(api.inspect_image(image_id))):
            api.remove_image(image_id, noprune=False)


def _tags(inspected: Mapping[str, Any]) -> list[str]:
    return inspected.get("RepoTags") or []


def _new_log(folder: Path, build_id: str) -> Path | None:
    """Return a path for the build's log, and remove old ones; ``None`` where *folder* can't be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("build-*.log"))[: -KEPT_LOGS + 1]:
            old.unlink(missing_ok=True)
        log = folder / f"build-{time.strftime('%Y%m%d-%H%M%S')}-{build_id[:8]}.log"
        log.touch()
    except OSError:
        return None
    return log
