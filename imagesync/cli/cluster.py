"""``imagesync cluster``: Dask clusters that outlive a script, configurations for other systems, cleanup."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.options import (
    PATH,
    Group,
    format_option,
    invocation_of,
    platform_option,
    session_of,
    settings_options,
)
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.cluster.cleanup import FoundCluster, find_clusters
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import cluster_image, make_plan
from imagesync.cluster.container_options import (
    ClusterSize,
    SchedulerOptions,
    WorkerOptions,
    require_dask,
    size_workers,
    with_defaults,
)
from imagesync.cluster.detached import cluster_logs, scale_cluster, start_cluster, stop_cluster
from imagesync.cluster.engine_options import make_engine_options
from imagesync.core.files import write_text
from imagesync.core.text import counted
from imagesync.deploy.configuration import (
    TARGETS,
    Target,
    environment_image,
    make_shape,
    pinned,
    render_configuration,
)
from imagesync.deploy.replace_image import update_image
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.run_options import parse_mounts, parse_variables
from imagesync.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from imagesync.cluster.connection import Connection
    from imagesync.session import Session

_HEADERS = ("cluster", "workers", "scheduler", "ends with", "image")
_WIDTH = max(map(len, TARGETS))
_REMOVAL_SECONDS = 20.0  # for the containers of a cluster, when its start is interrupted
# A backspace keeps click from filling the lines.
_TARGETS = "\b\nTargets:\n" + "\n".join(
    f"  {name:{_WIDTH}}  {each.description}" for name, each in TARGETS.items()
)


@click.group(cls=Group)
@click.pass_context
def cluster(context: click.Context) -> None:
    """Start, list and end Dask clusters that outlive a script."""
    # Nobody else removes the containers of a cluster that was half started.
    invocation_of(context).interruption.grace = _REMOVAL_SECONDS


@cluster.command("up")
@settings_options
@click.option("--name", metavar="NAME", help="Name of the cluster; random by default.")
@click.option("--image", metavar="REF", help="Image to run; by default that of the environment.")
@click.option("-n", "--workers", type=click.IntRange(min=0), metavar="N", help="Number of workers.")
@click.option("--nthreads", type=click.IntRange(min=1), metavar="N", help="Threads of each worker.")
@click.option(
    "--memory-limit",
    default="auto",
    metavar="SIZE",
    help="Memory of each worker, such as 4GiB; 0 for no limit.",
)
@click.option(
    "--cpus", type=click.FloatRange(min=0), metavar="N", help="CPUs of each worker; 0 for no limit."
)
@click.option(
    "-e", "--env", "variables", multiple=True, metavar="NAME[=VALUE]", help="Set an environment variable."
)
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    metavar="SOURCE:TARGET[:ro]",
    help="Mount a folder or a volume into all containers.",
)
@click.option("--gpus", default="", metavar="GPUS", help="GPUs of each worker: all, a number, or IDs.")
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Address at which ports are published.")
@click.option("--port", type=int, default=0, metavar="PORT", help="Port of the scheduler; any by default.")
@click.option(
    "--dashboard-port", type=int, default=0, metavar="PORT", help="Port of the dashboard; any by default."
)
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End the cluster after this time without work.",
)
@format_option
@click.pass_context
def up(  # noqa: PLR0917  click passes what the options say
    context: click.Context,
    /,
    name: str | None,
    image: str | None,
    workers: int | None,
    nthreads: int | None,
    memory_limit: str,
    cpus: float | None,
    variables: tuple[str, ...],
    mounts: tuple[str, ...],
    gpus: str,
    host: str,
    port: int,
    dashboard_port: int,
    idle_timeout: float | None,
    output: str,
    **options: object,
) -> None:
    """Start a cluster in the environment's image, and print how to connect to it.

    The image is built if it is missing. The cluster runs until `imagesync cluster down`.
    """
    require_dask()
    session = session_of(context, options)
    endpoint = find_endpoint(os.environ)
    plan = make_plan(name, owner=None)
    environment, mounted = parse_variables(variables, os.environ), parse_mounts(mounts)
    with closing(ClusterEngine(endpoint, plan)) as engine:
        machine = engine.machine()
    size = with_defaults(ClusterSize(workers, nthreads, memory_limit, cpus), session.context.settings.cluster)
    engine_options = make_engine_options(shm_size=size.shm_size)
    count, worker = size_workers(
        machine,
        WorkerOptions(environment=environment, mounts=mounted, gpus=gpus, engine=engine_options),
        size,
    )
    connection = start_cluster(
        replace(plan, image=cluster_image(image, session, endpoint)),
        workers=count,
        worker=worker,
        scheduler=SchedulerOptions(
            host, port, dashboard_port, idle_timeout, environment, mounted, engine=engine_options
        ),
        progress=session.context.progress,
    )
    _print_connection(connection, count, output)


def _print_connection(connection: Connection, workers: int, output: str) -> None:
    facts = {
        "name": connection.name,
        "image": connection.image,
        "address": connection.address,
        "dashboard": connection.dashboard,
        "workers": workers,
        "file": str(connection.path),
    }
    if output == "json":
        click.echo(json.dumps(facts, indent=2))
        return
    notes = (
        "",
        f"From Python:            client = imagesync.connect({connection.name!r})",
        f"Without imagesync:      DASK_CONFIG={connection.path} python SCRIPT, with Client() in it",
        f"To end it:              imagesync cluster down {connection.name}",
    )
    rows = tuple(Row((key, str(value))) for key, value in facts.items() if key != "file")
    print_sections([Section(title="", rows=rows, notes=notes)])


@cluster.command("ls")
@format_option
def ls(output: str) -> None:
    """List all clusters of the engine, including remains of ended ones."""
    found = find_clusters(find_endpoint(os.environ))
    if output == "json":
        click.echo(json.dumps([entry.to_dict() for entry in found], indent=2))
        return
    print_clusters(found)


def print_clusters(clusters: Sequence[FoundCluster], stream: TextIO | None = None) -> None:
    """Print a table of clusters with leftovers marked, to stdout by default."""
    rows = tuple(
        Row(
            (
                cluster.name,
                str(cluster.workers),
                cluster.scheduler or "-",
                _end(cluster),
                cluster.image or "-",
            ),
            "warning" if cluster.is_leftover else "plain",
        )
        for cluster in clusters
    )
    notes = () if rows else ("no clusters",)
    if any(cluster.is_leftover for cluster in clusters):
        notes = ("Remove the leftovers: imagesync cluster down --leftovers",)
    print_sections([Section("", _HEADERS, rows, frozenset({1}), notes, optional=(4,))], stream)


def _end(cluster: FoundCluster) -> str:
    if cluster.is_leftover:
        return "leftover"
    owner = cluster.owner
    return "cluster down" if owner is None else f"process {owner.pid} on {owner.host}"


@cluster.command("logs")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Print the last N lines of each log.")
@click.argument("name")
@click.argument("parts", metavar="[scheduler|worker-N]...", nargs=-1)
def logs(name: str, parts: tuple[str, ...], tail: int | None) -> None:
    """Print the logs of the scheduler and the workers."""
    texts = cluster_logs(name, tail=tail)
    unknown = [part for part in parts if part not in texts]
    if unknown:
        raise click.UsageError(f"{name} has no {unknown[0]}; it has {', '.join(texts)}.")
    for part in parts or texts:
        for line in texts[part].splitlines():
            click.echo(f"{part:12} {line}")


@cluster.command("scale")
@click.argument("name")
@click.argument("workers", type=click.IntRange(min=0))
def scale(name: str, workers: int) -> None:
    """Start or retire workers until cluster NAME has WORKERS of them."""
    require_dask()
    before, after = scale_cluster(name, workers)
    click.echo(f"{name}: {counted(after, 'worker')}, {before} before")


@cluster.command("down")
@click.option("--leftovers", is_flag=True, help="Remove all clusters that nobody can use any more.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def down(names: tuple[str, ...], *, leftovers: bool) -> None:
    """End clusters of any owner, and remove all their resources from the engine."""
    if not names and not leftovers:
        raise click.UsageError("Name the clusters to end (see `imagesync cluster ls`), or use --leftovers.")
    if leftovers:
        found = find_clusters(find_endpoint(os.environ))
        names = (*names, *(entry.name for entry in found if entry.is_leftover))
    for name in dict.fromkeys(names):
        if not stop_cluster(name):
            raise ClusterError(f"There is no cluster {name}.", hint="List the clusters: imagesync cluster ls")
        click.echo(f"{name}: removed")


@cluster.command("config", epilog=_TARGETS)
@settings_options
@platform_option()
@click.option("--image", metavar="REF", help="Image; by default that of the environment.")
@click.option("--push", is_flag=True, default=None, help="Push the image to the registry first.")
@click.option("--name", metavar="NAME", default="dask", show_default=True, help="Name of the cluster.")
@click.option(
    "-n", "--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Number of workers."
)
@click.option(
    "--nthreads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each worker."
)
@click.option(
    "--memory-limit", metavar="SIZE", default="4GiB", show_default=True, help="Memory of each worker."
)
@click.option("--pull-secret", metavar="NAME", help="Kubernetes secret with the registry's credentials.")
@click.option("-o", "--output-file", type=PATH, metavar="FILE", help="Write the configuration to a file.")
@click.option("--update", type=PATH, metavar="FILE", help="Replace only the image in an existing file.")
@click.option("--replacing", metavar="IMAGE", help="With --update: image to replace, if it has another name.")
@click.argument("target", type=click.Choice(list(TARGETS)), metavar="TARGET")
@click.pass_context
def config(  # noqa: PLR0917  click passes what the options say
    context: click.Context,
    /,
    target: str,
    image: str | None,
    name: str,
    workers: int,
    nthreads: int,
    memory_limit: str,
    pull_secret: str | None,
    output_file: Path | None,
    update: Path | None,
    replacing: str | None,
    **options: object,
) -> None:
    """Print a configuration that starts Dask on TARGET, in the environment's image.

    The image is built if it is missing.
    """
    if replacing is not None and update is None:
        raise click.UsageError("--replacing needs --update.")
    if update is not None and output_file is not None:
        raise click.UsageError("--update can't be combined with --output-file.")
    shape = make_shape(name=name, workers=workers, threads=nthreads, memory=memory_limit)
    before = None if update is None else _read(update)
    session = session_of(context, options)
    reference = _image(session, TARGETS[target], image)
    if update is not None and before is not None:
        _update(update, before, reference, replacing)
        return
    text = render_configuration(
        TARGETS[target],
        image=reference,
        shape=shape,
        pull_secret=pull_secret,
        templates=session.context.settings.templates,
        platform=session.context.platform,
    )
    if output_file is None:
        click.echo(text, nl=False)
        return

    write_text(output_file, text)
    click.echo(output_file)


def _image(session: Session, target: Target, image: str | None) -> str:
    if image is not None:
        return pinned(image, local=target.local, progress=session.context.progress)
    return environment_image(session, push=session.context.settings.push, local=target.local)


def _read(path: Path) -> str:
    try:
        # As bytes, because reading text would translate line endings.
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} isn't UTF-8: {error.reason}.") from error


def _update(path: Path, before: str, image: str, replacing: str | None) -> None:
    after = update_image(before, image, replacing=replacing, where=str(path))
    if after != before:
        write_text(path, after)
    click.echo(image)
