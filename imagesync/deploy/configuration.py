"""Configuration files of each target, which name the image by its digest."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.image_reference import check_reference, parse_reference, repository_of, split_reference
from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.core.progress import Severity
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.errors import EngineError, RegistryError, RenderError, UsageError
from imagesync.image.templates import render_template
from imagesync.registry.registry import read_digest

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.core.progress import Progress
    from imagesync.session import Session


@dataclass(frozen=True)
class Target:
    """A system that starts containers.

    Parameters
    ----------
    name
        Name on the command line.
    description
        Short description of the configuration.
    template
        Path below the folder of templates.
    use
        Command that applies the configuration in ``FILE``.
    local
        Whether it can start an image that is only in the local engine.
    """

    name: str
    description: str
    template: str
    use: str
    local: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target(
            "dask-operator",
            "a DaskCluster of the Dask operator for Kubernetes",
            "cluster/dask-operator.yaml.j2",
            "kubectl apply -f FILE",
        ),
        Target(
            "kubernetes",
            "Deployments and a Service",
            "cluster/kubernetes.yaml.j2",
            "kubectl apply -f FILE",
        ),
        Target(
            "compose",
            "a Compose file for one machine",
            "cluster/compose.yaml.j2",
            "docker compose -f FILE up -d",
            local=True,
        ),
        Target(
            "swarm-stack",
            "a stack of Docker Swarm",
            "cluster/swarm-stack.yaml.j2",
            "docker stack deploy --with-registry-auth -c FILE NAME",
            local=True,
        ),
        Target(
            "dask-gateway",
            "values of the Helm chart of Dask Gateway",
            "cluster/dask-gateway.yaml.j2",
            "helm upgrade --install --repo https://helm.dask.org RELEASE dask-gateway --values FILE",
        ),
        Target(
            "helm-dask",
            "values of the Helm chart of Dask",
            "cluster/helm-dask.yaml.j2",
            "helm upgrade --install --repo https://helm.dask.org RELEASE dask --values FILE",
        ),
        Target(
            "ecs",
            "task definitions of Amazon ECS on Fargate",
            "cluster/ecs.json.j2",
            "aws ecs register-task-definition --cli-input-json ...",
        ),
        Target(
            "coiled",
            "a configuration file of Coiled",
            "cluster/coiled.yaml.j2",
            "cp FILE ~/.config/dask/coiled.yaml",
        ),
        Target("ray", "a cluster of Ray's launcher", "cluster/ray.yaml.j2", "ray up FILE"),
        Target("prefect", "deployments of Prefect", "cluster/prefect.yaml.j2", "prefect deploy --all"),
        Target(
            "apptainer",
            "a script for Dask on Slurm, with Apptainer and dask-jobqueue",
            "cluster/apptainer.py.j2",
            "python FILE",
        ),
        Target(
            "kubernetes-job",
            "a Job that runs a command, without Dask",
            "cluster/kubernetes-job.yaml.j2",
            "kubectl apply -f FILE",
        ),
        Target(
            "devcontainer",
            "a development container of an editor",
            "cluster/devcontainer.json.j2",
            "cp FILE .devcontainer/devcontainer.json",
            local=True,
        ),
    )
}


# Amazon's registries have account and region in their names.
_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")


def render_configuration(
    target: Target,
    *,
    image: str,
    shape: Shape,
    pull_secret: str | None,
    templates: Path | None,
    platform: Platform = DEFAULT_PLATFORM,
) -> str:
    """Return the configuration that starts a cluster of *shape* in *image* on *target*.

    Parameters
    ----------
    target
        System that starts the cluster.
    image
        ``<repository>@sha256:<hex>``, or a reference with a tag for a local target.
    shape
        Name and size of the cluster.
    pull_secret
        Name of a Kubernetes secret with the registry's credentials.
    templates
        Folder of the user's templates, which take precedence over the shipped ones.
    platform
        That of the machines, where a configuration names it.

    Raises
    ------
    RenderError
        A template fails, or a JSON template doesn't render JSON.
    """
    values = {**_values(target, image, shape, pull_secret), "platform": platform}
    text = render_template(target.template, values, folder=templates)
    if target.template.endswith(".json.j2"):
        try:
            json.loads(text)
        except ValueError as error:
            raise RenderError(f"{target.template} doesn't give JSON: {error}") from error
    return text


def _values(target: Target, image: str, shape: Shape, pull_secret: str | None) -> dict[str, Any]:
    reference = parse_reference(image)
    repository, tag = split_reference(image)
    ecr = _ECR.fullmatch(reference.domain)
    return {
        "target": target,
        "image": image,
        # Charts join repository and tag with a colon, so that "name@sha256" and the digits make a digest.
        "image_repository": repository,
        "image_tag": tag,
        "pull_secret": pull_secret,
        "shape": shape,
        "aws": None if ecr is None else {"account": ecr["account"], "region": ecr["region"]},
    }


def environment_image(session: Session, *, push: bool | None, local: bool) -> str:
    """Return the environment's image as ``<repository>@sha256:<hex>``, built if necessary.

    Parameters
    ----------
    session
        Session of the environment.
    push
        Whether to push the image; by default as in the settings.
    local
        Whether to accept a reference with a tag for an image that is in no registry.

    Raises
    ------
    UsageError
        The image must be in a registry but isn't.
    ImagesyncError
        The image can't be built or pushed.
    """
    repository = session.context.settings.repository
    if not local and not parse_reference(repository).names_registry:
        # Fail before a useless build.
        raise UsageError(
            f"The image's name '{repository}' names no registry that others can pull it from.",
            hint="Name one, and push: --push --repository registry.example.com/team/NAME",
        )
    session.warn_of_drift()
    if local and not parse_reference(repository).names_registry:
        session = session.on_engine()
    image = session.build(push=push, as_installed=True, with_digest=True)
    if image.digest is not None:
        return image.digest
    if not local:
        raise UsageError(
            f"{image.reference} isn't in its registry, so others can't pull it.", hint="Push it: --push"
        )
    _warn_of_local_image(image.reference, session.context.progress)
    return image.reference


def _warn_of_local_image(reference: str, progress: Progress) -> None:
    progress.line(
        f"{reference} is in no registry: the configuration works with this engine alone.", Severity.WARNING
    )


def pinned(reference: str, *, local: bool, progress: Progress) -> str:
    """Return a user's reference as ``<repository>@sha256:<hex>``, resolved in its registry.

    Parameters
    ----------
    reference
        The reference.
    local
        Whether to look in the local engine first, and to accept a reference with a tag for an image that
        is only there.
    progress
        Gets a line about such an image.

    Raises
    ------
    UsageError
        *reference* isn't valid.
    RegistryError
        The registry doesn't answer or lacks the image.
    """
    check_reference(reference, given_as="--image")
    parsed = parse_reference(reference)
    if local and (found := _in_engine(reference)) is not None:
        if "@" not in found:
            _warn_of_local_image(found, progress)
        return found
    digest = parsed.digest or read_digest(reference, progress=progress)
    if digest is None:
        raise RegistryError(
            f"{parsed.domain} has no image {reference}.", hint="Check the image's name and its tag."
        )
    return f"{repository_of(reference)}@{digest}"


def _in_engine(reference: str) -> str | None:
    """Return an image of the local engine by its digest in a registry, or else as it is referred to.

    ``None`` if no engine answers or it has no such image.
    """
    try:
        with Engine(find_endpoint(os.environ)) as engine:
            image = engine.inspect(reference)
    except EngineError:
        return None
    if image is None:
        return None
    repository = repository_of(reference)
    digests = [digest for digest in image.digests if digest.startswith(f"{repository}@")]
    return digests[0] if digests else reference


_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kMGT]i?)?B?", re.IGNORECASE)
_UNITS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kmgt", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)},
}
# RFC 1123, section 2.1, valid in Kubernetes, Swarm and Compose, with room for their suffixes.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_GIB = 1024
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size:
# CPU units; minimum, maximum and step of the memory in MiB.
_FARGATE = (
    (1024, 2 * _GIB, 8 * _GIB, _GIB),
    (2048, 4 * _GIB, 16 * _GIB, _GIB),
    (4096, 8 * _GIB, 30 * _GIB, _GIB),
    (8192, 16 * _GIB, 60 * _GIB, 4 * _GIB),
    (16384, 32 * _GIB, 120 * _GIB, 8 * _GIB),
)


@dataclass(frozen=True)
class Shape:
    """A cluster's name and size.

    Parameters
    ----------
    name
        Lower-case letters, digits and dashes.
    workers
        Number of workers.
    threads
        Threads and CPUs of each worker.
    memory
        Memory of each worker in MiB.
    """

    name: str
    workers: int
    threads: int
    memory: int

    def fargate(self, *, scheduler: bool = False) -> tuple[int, int]:
        """Return CPU units and MiB of the smallest Fargate task for a worker or the scheduler.

        Raises
        ------
        UsageError
            No task size is large enough.

        >>> Shape("dask", workers=2, threads=2, memory=5000).fargate()
        (2048, 5120)
        >>> Shape("dask", workers=2, threads=1, memory=10240).fargate()
        (2048, 10240)
        """
        threads, memory = (1, 4 * _GIB) if scheduler else (self.threads, self.memory)
        for cpu, least, most, step in _FARGATE:
            if cpu >= 1024 * threads and memory <= most:
                return cpu, max(least, -(-memory // step) * step)
        raise UsageError(
            f"Fargate has no task with {threads} CPUs and {memory} MiB of memory.",
            hint="Fargate offers up to 16 CPUs and 120 GiB: choose more and smaller workers.",
        )


def make_shape(*, name: str, workers: int, threads: int, memory: str) -> Shape:
    """Return the shape from a user's options.

    Parameters
    ----------
    name, workers, threads
        As for :class:`Shape`.
    memory
        Memory of each worker, such as ``4GiB`` or ``500MB``.

    Raises
    ------
    UsageError
        The name or the size is invalid.

    >>> make_shape(name="dask", workers=2, threads=1, memory="4GiB").memory
    4096
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"A cluster can't be called {name!r}.",
            hint="Use up to 40 lower-case letters, digits and dashes, starting with a letter.",
        )
    match = _SIZE.fullmatch(memory.strip())
    size = 0 if match is None else float(match["number"]) * _UNITS[(match["unit"] or "").lower()]
    if size < 64 * 2**20:
        raise UsageError(
            f"A worker's memory can't be {memory!r}.", hint="Use a size of at least 64 MiB, such as 4GiB."
        )
    return Shape(name, workers, threads, int(size / 2**20))
