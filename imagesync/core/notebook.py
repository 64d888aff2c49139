"""Values as notebooks show them: one line of text, and HTML whose tables open on a click.

The HTML takes fonts and colours from the notebook, light or dark, as that of Dask and xarray does. All text
in it is escaped: names, versions and messages come from files of others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from imagesync.core.text import clean

# The variables are JupyterLab's and, after them, VS Code's; the last value serves every other notebook. The
# rules of tables name two classes, because JupyterLab has some of its own that name one.
_STYLE = """
.imagesync { font-family: var(--jp-ui-font-family, var(--vscode-font-family, sans-serif)); font-size: 13px;
  color: var(--jp-content-font-color1, var(--vscode-editor-foreground, inherit)); max-width: 70em;
  border: 1px solid rgba(128, 128, 128, 0.4); border-radius: 4px; padding: 8px 12px; }
.imagesync > div { margin-bottom: 4px; overflow-wrap: anywhere; }
.imagesync summary { cursor: pointer; padding: 2px 0; }
.imagesync .scroll { max-height: 30em; overflow: auto; margin-bottom: 6px; }
.imagesync .scroll table { border-collapse: collapse; margin: 0; font-size: 12px; }
.imagesync .scroll th, .imagesync .scroll td { text-align: left; vertical-align: top;
  padding: 2px 12px 2px 0; border: none; white-space: normal; overflow-wrap: break-word; }
.imagesync .scroll th { border-bottom: 1px solid rgba(128, 128, 128, 0.4); font-weight: 600; }
.imagesync .scroll td:first-child { white-space: nowrap; }
.imagesync .scroll tr.bad td:first-child { border-left: 3px solid var(--jp-error-color1, #d32f2f); }
.imagesync .scroll tr.warning td:first-child { border-left: 3px solid var(--jp-warn-color1, #f57c00); }
.imagesync .scroll tr[class] td:first-child { padding-left: 6px; }
.imagesync pre { margin: 0; font-size: 11px; opacity: 0.7; white-space: pre-wrap; }
"""


@dataclass(frozen=True)
class Table:
    """A table that opens on a click.

    Parameters
    ----------
    title
        Shown while the table is closed, too.
    headers
        One for each column.
    rows
        The cells of each row, as plain text.
    tones
        For each row ``""``, ``warning`` or ``bad``; empty for none.
    is_open
        Whether the table is open at first.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    tones: Sequence[str] = ()
    is_open: bool = False

    def to_html(self) -> str:
        """Return the table as HTML; all text is escaped."""
        head = "".join(f"<th>{_text(header)}</th>" for header in self.headers)
        tones = self.tones or [""] * len(self.rows)
        body = "".join(
            f"<tr{_class(tone)}>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
            for row, tone in zip(self.rows, tones, strict=True)
        )
        return (
            f"<details{' open' if self.is_open else ''}><summary>{_text(self.title)}</summary>"
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
            "</details>"
        )


class NotebookValue(ABC):
    """A value that notebooks show as a line of text, or as HTML with tables."""

    @abstractmethod
    def _summary(self) -> str:
        """Return the value in one line, without its type."""

    @abstractmethod
    def _tables(self) -> Iterable[Table]:
        """Return the tables of the HTML; those without rows are left out."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {clean(self._summary())}>"

    def _repr_html_(self) -> str:
        """Return the value as HTML, for notebooks."""
        tables = "".join(table.to_html() for table in self._tables() if table.rows)
        head = f"<div><strong>{type(self).__name__}</strong> {_text(self._summary())}</div>"
        return card(head + tables)


def card(content: str) -> str:
    """Return *content*, which is HTML, in the box that all outputs have."""
    return f'<div class="imagesync"><style>{_STYLE}</style>{content}</div>'


def _class(tone: str) -> str:
    return f' class="{_text(tone)}"' if tone else ""


def _text(text: str) -> str:
    return escape(clean(text))
