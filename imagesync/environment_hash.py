"""The environment hash: one digest over everything that decides what an image holds.

It is known after planning, before any solve, and that is what makes an unchanged environment
cheap. It doesn't cover times, paths of the machine, or the order of anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.settings import Settings

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

# Raise it when the same inputs begin to give another image: no older image is then taken for a new one.
FORMAT_VERSION = 1

TAG_DIGITS = 16


def environment_hash(
    plan: Plan,
    *,
    contents: Mapping[NormalizedName, str],
    base_hash: str,
    templates_digest: str,
    settings: Settings,
) -> str:
    """Return ``sha256:<hex>`` over the plan and all else that reaches the image.

    Parameters
    ----------
    contents
        For each vendored package the digest of what its wheel is made from.
    base_hash
        The hash of the base image's inputs: root image digest, ``Dockerfile.base``, apt packages.
    templates_digest
        ``sha256:<hex>`` over the templates, the user's own included.
    """
    covered = {
        "format": FORMAT_VERSION,
        "platform": plan.platform,
        "python": [plan.python.implementation, plan.python.version],
        "packages": sorted(_covered(package, contents) for package in plan.packages),
        "code": plan.code.digest,
        "base": base_hash,
        "templates": templates_digest,
        # Both change what is accepted into an image, so an image made without them may not be handed out.
        "strict": plan.strict,
        "allow_inconsistent": settings.allow_inconsistent,
        "resolver": settings.resolver,
    }
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def image_tag(digest: str) -> str:
    """Return the tag that an environment hash gives an image: its first 16 hex digits.

    >>> image_tag("sha256:" + "ab" * 32)
    'abababababababab'
    """
    return digest.removeprefix("sha256:")[:TAG_DIGITS]


def _covered(package: PlannedPackage, contents: Mapping[NormalizedName, str]) -> list[Any]:
    return [
        package.name,
        package.version,
        package.level.value,
        package.specifier,
        sorted(package.extras),
        contents.get(package.name, ""),
    ]
