"""A contradiction between installed packages, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.scan.environment import Finding, Severity

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


@dataclass(frozen=True)
class Conflict:
    """A requirement of an installed package that the environment doesn't meet.

    Parameters
    ----------
    package, version
        Who requires something.
    requirement
        What it requires, as its metadata writes it without the marker; ``python>=3.12`` for the interpreter.
    required
        The name of what is required.
    installed
        The version that is there; ``None`` where it is missing.
    remedy
        The command that mends it, or what to do where there is none.
    """

    package: NormalizedName
    version: str
    requirement: str
    required: NormalizedName
    installed: str | None
    remedy: str

    @property
    def message(self) -> str:
        """Return who requires what, and what is there, as a sentence."""
        there = f"{self.required} {self.installed} is" if self.installed else f"{self.required} isn't"
        return f"{self.package} {self.version} requires {self.requirement}, and {there} installed."

    def to_finding(self) -> Finding:
        """Return the conflict among the findings of a plan."""
        return Finding(
            severity=Severity.ERROR,
            code="inconsistent",
            message=self.message,
            package=self.package,
            hint=self.remedy,
        )
