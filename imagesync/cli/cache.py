"""``imagesync cache``: the size of the cache folder, and its pruning."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.options import Group, cache_option, format_option, session_of
from imagesync.cli.output import print_json
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.core.text import counted, format_size
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesync.image.prune_images import Kind
    from imagesync.pipeline.context import Context
    from imagesync.registry.oci_layout import ImageLayout
    from imagesync.store.prune import Total, Usage


@click.group(cls=Group)
def cache() -> None:
    """Show the size of the cache folder, or prune it."""


@cache.command("info")
@format_option
@cache_option
@click.pass_context
def info(context: click.Context, /, output: str, **options: object) -> None:
    """Show the location and the size of the cache folder, and count imagesync's images in the engine."""
    shared = session_of(context, options).context
    usage, images = shared.store.usage(), _count_images(shared)
    layout = _layout(shared).usage()
    if output == "json":
        print_json({**usage.to_dict(), "images": images, "layout": _as_dict(layout)})
    else:
        print_usage(usage, images=images, layout=layout)


@cache.command("prune")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="Keep files that were used in the last DAYS days.",
)
@click.option(
    "--images", is_flag=True, help="Remove images in the engine that no container uses, instead of files."
)
@click.option(
    "--archives",
    is_flag=True,
    help="Remove only wheels and conda archives whose parts of layers are kept for builds without an engine.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="With --images: number of environments to keep, the latest ones.",
)
@format_option
@cache_option
@click.pass_context
def prune(
    context: click.Context,
    /,
    *,
    output: str,
    older_than: int | None,
    images: bool,
    archives: bool,
    keep: int,
    **options: object,
) -> None:
    """Remove artifacts, cache entries, logs and build environments; later commands make them again."""
    if images and archives:
        raise UsageError("--images and --archives can't be given together.", hint="Give one at a time.")
    if images:
        _prune_images(session_of(context, options).context, keep=keep, output=output)
        return
    seconds = None if older_than is None else older_than * 86_400
    shared = session_of(context, options).context
    if archives:
        removed = shared.store.prune_archives(older_than=seconds)
        print_json(removed.to_dict()) if output == "json" else print_removed(removed)
        return
    from imagesync.wheels.kept_environment import remove_kept

    since = None if seconds is None else time.time() - seconds
    # First, because what the store has, too, counts as the store's.
    layout = _layout(shared).collect(unused_since=since)
    removed = shared.store.prune(older_than=seconds)
    kept = remove_kept(older_than=seconds)
    if output == "json":
        more = {"layout": _as_dict(layout), "build_environments": _as_dict(kept)}
        print_json({**removed.to_dict(), **more})
    else:
        print_removed(removed, layout=layout, kept=kept)


def _layout(shared: Context) -> ImageLayout:
    from imagesync.registry.oci_layout import ImageLayout
    from imagesync.store.layout import IMAGES

    return ImageLayout(shared.cache_folder / IMAGES, is_cache=True)


def _as_dict(layout: tuple[int, int]) -> dict[str, int]:
    files, size = layout
    return {"files": files, "size": size}


def _count_images(shared: Context) -> dict[Kind, int] | None:
    """Return how many images of each kind the engine has; ``None`` without an engine."""
    from imagesync.errors import ImagesyncError
    from imagesync.image.prune_images import count_images

    try:
        with shared.open_engine() as engine:
            return count_images(engine)
    except ImagesyncError:
        return None


def _prune_images(shared: Context, *, keep: int, output: str) -> None:
    from imagesync.image.prune_images import KINDS, prune_images

    with shared.open_engine() as engine:
        removed = prune_images(engine, keep=keep)
    if output == "json":
        print_json({"images": [{"kind": own.kind, "names": list(own.references)} for own in removed]})
        return
    counts = {kind: sum(own.kind == kind for own in removed) for kind in KINDS}
    print_sections([Section(title="", notes=(f"{_image_counts(counts)} removed",))], None)


def _image_counts(counts: Mapping[Kind, int]) -> str:
    """Return a line of how many images of each kind there are."""
    words: dict[Kind, str] = {
        "environment": "environment",
        "packages": "packages image",
        "base": "base image",
        "mounted": "other image",
    }
    parts = [counted(counts[kind], word) for kind, word in words.items() if counts[kind]]
    return ", ".join(parts) or "0 images"


def print_usage(
    usage: Usage,
    stream: TextIO | None = None,
    *,
    images: Mapping[Kind, int] | None = None,
    layout: tuple[int, int] = (0, 0),
) -> None:
    """Print the size of the cache folder, to stdout by default, and how many images an engine has."""
    rows = (
        Row(("folder", str(usage.root))),
        Row(("artifacts", _text(usage.artifacts))),
        Row(("cache entries", _text(usage.caches))),
        Row(("logs", _text(usage.logs))),
        Row(("images without an engine", f"{counted(layout[0], 'blob')}, {format_size(layout[1])}")),
        Row(("images in the engine", "no engine answers" if images is None else _image_counts(images))),
    )
    print_sections([Section(title="cache", rows=rows)], stream)


def print_removed(
    removed: Usage,
    stream: TextIO | None = None,
    *,
    layout: tuple[int, int] = (0, 0),
    kept: tuple[int, int] = (0, 0),
) -> None:
    """Print the number and size of removed files, to stdout by default."""
    totals = {
        "artifact": (removed.artifacts.files, removed.artifacts.size),
        "image blob": layout,
        "cache entry": (removed.caches.files, removed.caches.size),
        "log": (removed.logs.files, removed.logs.size),
        "build environment file": kept,
    }
    notes = tuple(
        f"{counted(files, noun)} removed, {format_size(size)}"
        for noun, (files, size) in totals.items()
        if files or noun == "artifact"
    )
    print_sections([Section(title="", notes=notes)], stream)


def _text(total: Total) -> str:
    return f"{total.files}, {format_size(total.size)}"
