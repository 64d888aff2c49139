"""Where the cache folder is."""

from __future__ import annotations

from pathlib import Path

from imagesync.store.layout import default_cache_dir


def test_cache_folder_is_chosen_by_the_variable(tmp_path: Path) -> None:
    assert default_cache_dir({"IMAGESYNC_CACHE_DIR": str(tmp_path)}) == tmp_path


def test_cache_folder_follows_the_xdg_variable(tmp_path: Path) -> None:
    assert default_cache_dir({"XDG_CACHE_HOME": str(tmp_path)}, platform="linux") == tmp_path / "imagesync"
    assert default_cache_dir({"XDG_CACHE_HOME": "relative"}, platform="linux").is_absolute()
