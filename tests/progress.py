"""Progress that tests can read."""

from __future__ import annotations

from imagesync.core.progress import Severity, SilentProgress


class RecordedLines(SilentProgress):
    """Progress that records its lines, and shows nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        if severity.is_shown(Severity.INFO):
            self.lines.append(severity.lead + text)
