"""What is known of an image before an engine is asked: the environment, the plan, and their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.pipeline.environment_hash import Foundation
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment
    from imagesync.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """All that is known without an engine and without a network.

    Parameters
    ----------
    contents
        For each vendored package the digest of what its wheel is made from.
    hashed
        The plan that names the image, where *plan* has since got an interpreter by what channels answer.
    """

    environment: Environment
    plan: Plan
    contents: Mapping[NormalizedName, str]
    hashed: Plan | None = None

    def identify(
        self,
        settings: Settings,
        foundation: Foundation,
        contents: Mapping[NormalizedName, str] | None = None,
    ) -> str:
        """Return the environment hash.

        Parameters
        ----------
        contents
            Where a build has taken more into its wheels than was known before it.
        """
        from imagesync.pipeline.environment_hash import environment_hash

        known = self.contents if contents is None else contents
        return environment_hash(self.hashed or self.plan, contents=known, settings=settings, **foundation)

    def identify_packages(self, settings: Settings, foundation: Foundation) -> str:
        """Return the hash of the packages image."""
        from imagesync.pipeline.environment_hash import packages_hash

        indexes = self.environment.indexes
        return packages_hash(self.plan, indexes=indexes, settings=settings, **foundation)
