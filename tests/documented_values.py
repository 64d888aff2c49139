"""The values that the documentation promises to templates."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "templates.md"


def documented_values(section: str, *, attributes_of: Collection[str]) -> list[str]:
    """Return the expressions that the table of a section lists: values, and attributes of some of them."""
    text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = []
    for names, description in re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            found.append(name)
            if name in attributes_of:
                words = re.findall(rf"`(?:{name}\.)?([a-z_]+(?:\(\))?)`", description)
                found += [f"{name}.{word}" for word in words if word != "none"]
    return found
