"""Parts of tables that several commands print: sources and findings."""

from __future__ import annotations

from collections.abc import Iterable

from imagesync.cli.output import Row, Section, Tone
from imagesync.core.text import counted
from imagesync.scan.environment import Finding, Severity, Source

_TONES: dict[Severity, Tone] = {Severity.ERROR: "bad", Severity.WARNING: "warning", Severity.INFO: "quiet"}
_SEVERITIES = [Severity.ERROR, Severity.WARNING, Severity.INFO]


def source_text(source: Source) -> str:
    """Return a short description of *source*, with an abbreviated commit."""
    if source.kind == "index":
        return "index"
    if source.kind == "directory":
        return f"{'editable ' if source.editable else ''}directory {source.url or '(unknown)'}"
    if source.refused:
        return f"{source.vcs or 'vcs'}, refused"
    if source.kind == "vcs":
        commit = f" at {source.commit[:12]}" if source.commit else ""
        revision = f" ({source.requested_revision})" if source.requested_revision else ""
        return f"{source.vcs or 'vcs'} {source.url or '(unknown)'}{commit}{revision}"
    return f"archive {source.url or '(unknown)'}"


def finding_sections(findings: Iterable[Finding]) -> tuple[Section, ...]:
    """Return the table of findings, errors first, or nothing if there are none."""
    ordered = sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))
    if not ordered:
        return ()
    rows = [
        Row((finding.severity.value, finding.code, _finding_text(finding)), _TONES[finding.severity])
        for finding in ordered
    ]
    return (Section(title=counted(len(ordered), "finding"), rows=tuple(rows)),)


def _finding_text(finding: Finding) -> str:
    text = finding.message
    if finding.path and finding.path not in text:
        text = f"{text} ({finding.path})"
    return f"{text} -> {finding.hint}" if finding.hint else text
