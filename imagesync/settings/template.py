"""The commented settings that ``imagesync init`` writes."""

from __future__ import annotations

from pathlib import Path


def template() -> str:
    """Return a ``[tool.imagesync]`` block that names every key, commented out, with its default."""
    return Path(__file__).with_name("template.toml").read_text(encoding="utf-8")
