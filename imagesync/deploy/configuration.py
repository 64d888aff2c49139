"""From an image and a shape to the text of a configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from imagesync.core.image_reference import parse_reference, split_reference
from imagesync.deploy.shape import Shape
from imagesync.deploy.targets import Target
from imagesync.errors import RenderError
from imagesync.image.templates import render_template

# Amazon's registries, which say whose they are and where.
_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")


def render_configuration(
    target: Target, *, image: str, shape: Shape, pull_secret: str | None, templates: Path | None
) -> str:
    """Return the configuration that starts a cluster of *shape* in *image* on *target*.

    Parameters
    ----------
    image
        ``<repository>@sha256:<hex>``; where the target may be local, a reference with a tag will do.
    pull_secret
        The name of a Kubernetes secret with the registry's credentials.
    templates
        The user's own templates, which win over the shipped ones.

    Raises
    ------
    RenderError
        A template fails, or one for JSON doesn't give JSON.
    """
    text = render_template(target.template, _values(target, image, shape, pull_secret), folder=templates)
    if target.template.endswith(".json.j2"):
        try:
            json.loads(text)
        except ValueError as error:
            raise RenderError(f"{target.template} doesn't give JSON: {error}") from error
    return text


def _values(target: Target, image: str, shape: Shape, pull_secret: str | None) -> dict[str, Any]:
    reference = parse_reference(image)
    repository, tag = split_reference(image)
    ecr = _ECR.fullmatch(reference.domain)
    return {
        "target": target,
        "image": image,
        # Charts put a repository, a colon and a tag together; so "name@sha256" and the digits are a digest.
        "image_repository": repository,
        "image_tag": tag,
        "pull_secret": pull_secret,
        "shape": shape,
        "aws": None if ecr is None else {"account": ecr["account"], "region": ecr["region"]},
    }
