"""Break the lines of all Markdown pages so that each sentence has a line of its own, and none has two.

Usage: .venv/bin/python scripts/semantic_breaks.py

A change of a sentence then is a change of a line. Code, tables, headings and what benchmarks write stay as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
_ITEM = re.compile(r" *(?:[-*]|\d+\.) +")
# Code, and the text of a link.
_WHOLE = re.compile(r"`[^`]*`|\[[^\]`]*\](?=\()")
# A full stop that ends a sentence: not that of an abbreviation, an ellipsis, or a bold word at the beginning.
_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!\betc)(?<!\bvs)(?<!\.\.)([.!?][\"')]*) +(?=\S)")


def semantic_breaks(text: str) -> str:
    r"""Return Markdown with one sentence a line.

    >>> print(semantic_breaks("One. Two\nis\nlonger (e.g. `a. b`). Three.\n"), end="")
    One.
    Two is longer (e.g. `a. b`).
    Three.
    >>> print(semantic_breaks("- One. Two.\n\n    code. Here.\n"), end="")
    - One.
      Two.
    <BLANKLINE>
        code. Here.
    """
    return "".join(f"{line}\n" for line in _lines(text.splitlines()))


def _lines(lines: list[str]) -> Iterator[str]:
    paragraph: list[str] = []
    verbatim_until = ""
    for number, line in enumerate(lines):
        after_blank = number == 0 or not lines[number - 1].strip()
        if verbatim_until:
            verbatim_until = "" if line.strip().startswith(verbatim_until) else verbatim_until
        elif line.lstrip().startswith("```"):
            verbatim_until = "```"
        elif line.startswith("<!-- results"):
            verbatim_until = "<!-- end"
        elif _is_prose(line, in_paragraph=bool(paragraph), after_blank=after_blank):
            if _ITEM.match(line):
                yield from _broken(paragraph)
                paragraph = []
            paragraph.append(line)
            continue
        yield from _broken(paragraph)
        paragraph = []
        yield line
    yield from _broken(paragraph)


def _is_prose(line: str, *, in_paragraph: bool, after_blank: bool) -> bool:
    if not line.strip() or line.lstrip().startswith(("|", "#", "<")):
        return False
    is_code = line.startswith("    ") and not in_paragraph and after_blank
    return not is_code and (in_paragraph or not line.startswith("    "))


def _broken(paragraph: list[str]) -> Iterator[str]:
    """Yield the sentences of a paragraph or an item of a list, each as a line."""
    if not paragraph:
        return
    item = _ITEM.match(paragraph[0])
    first = item[0] if item else " " * (len(paragraph[0]) - len(paragraph[0].lstrip()))
    text = " ".join(line.strip() for line in [paragraph[0][len(first) :], *paragraph[1:]])
    wholes = _WHOLE.findall(text)
    text = _END.sub(r"\1\n", _WHOLE.sub("\0", text))
    for whole in wholes:
        text = text.replace("\0", whole, 1)
    for number, sentence in enumerate(text.splitlines()):
        yield f"{' ' * len(first) if number else first}{sentence}"


def main() -> None:
    """Rewrite the pages whose lines are broken otherwise, and name them."""
    for page in PAGES:
        old = page.read_text("utf-8")
        new = semantic_breaks(old)
        if new != old:
            page.write_text(new, "utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
