"""A cache folder that a build can write to, where that of the settings can only be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.progress import Severity
from imagesync.core.text import counted, format_size
from imagesync.store.read_only import is_read_only, link_entries, new_files

if TYPE_CHECKING:
    from imagesync.pipeline.context import Context


@contextmanager
def writable_cache(context: Context) -> Iterator[Context]:
    """Give *context*, or one whose cache folder lasts until the end of the block.

    Such a folder has what is in the cache folder that can only be read. What the block adds to it is lost,
    and a warning says so.
    """
    root = context.cache_folder
    if not is_read_only(root):
        yield context
        return
    from imagesync.core.scratch import scratch_folder

    with scratch_folder("cache") as folder:
        link_entries(root, folder)
        settings = replace(context.settings, cache_dir=folder)
        try:
            yield replace(context, settings=settings, read_only_cache=root)
        finally:
            number, size = new_files(folder)
            if number:
                context.progress.line(
                    f"The cache folder {root} can't be written to:"
                    f" what was fetched or made isn't kept ({counted(number, 'file')}, {format_size(size)}).",
                    Severity.WARNING,
                )
