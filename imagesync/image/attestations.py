"""Attestations of an image: its SBOM (CycloneDX) and its provenance (in-toto, SLSA), always the same bytes.

Source: CycloneDX 1.6; the purl specification; in-toto Statement 1; SLSA Provenance 1.0.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.credentials import strip_credentials
from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import parse_reference
from imagesync.errors import UsageError
from imagesync.image.image_report import PREDICATE
from imagesync.registry.artifacts import Artifact, compose_artifact
from imagesync.registry.manifest import canonical_json

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.lock.locked_packages import LockedConda, LockedPackage, VendoredPackage
    from imagesync.registry.manifest import Descriptor, Index

SBOM_TYPE: Final = "application/vnd.cyclonedx+json"
STATEMENT_TYPE: Final = "application/vnd.in-toto+json"
_PROVENANCE: Final = "https://slsa.dev/provenance/v1"
_BUILD_TYPE: Final = "https://imagesync.dev/build/v1"
_BUILDER: Final = "https://imagesync.dev/builder"
# Tells imagesync's documents about an image from those of others.
_BUILDER_KEY: Final = "dev.imagesync.builder"
_PYPI: Final = ("https://files.pythonhosted.org/", "https://pypi.org/")


def attestations(
    lock: Lock, base: BaseImage, *, subject: Descriptor, name: str, version: str, created: int
) -> tuple[Artifact, ...]:
    """Return SBOM and provenance as artifacts about an image.

    Parameters
    ----------
    lock
        Its lock.
    base
        Its base image.
    subject
        The descriptor of its manifest.
    name
        Its reference, without a tag.
    version
        Of imagesync.
    created
        Seconds since the epoch.

    Raises
    ------
    UsageError
        cyclonedx-python-lib isn't installed.
    """
    bill = sbom(lock, base, digest=subject.digest, name=name, version=version, created=created)
    statement = provenance(lock, base, digest=subject.digest, name=name, version=version)
    own = {_BUILDER_KEY: _BUILDER}
    return (
        compose_artifact(bill, SBOM_TYPE, subject=subject, annotations=own),
        compose_artifact(
            statement, STATEMENT_TYPE, subject=subject, annotations={**own, PREDICATE: _PROVENANCE}
        ),
    )


def own_types(referrers: Index) -> frozenset[str]:
    """Return the artifact types of those documents about an image that :func:`attestations` made."""
    own = (entry for entry in referrers.manifests if entry.annotations.get(_BUILDER_KEY) == _BUILDER)
    return frozenset(entry.artifact_type for entry in own)


def provenance(lock: Lock, base: BaseImage, *, digest: str, name: str, version: str) -> bytes:
    """Return the in-toto statement on what an image was built from.

    Parameters
    ----------
    digest
        Of the image's manifest.
    name
        The image's reference, without a tag.
    version
        Of imagesync.
    """
    return canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": _digest(digest)}],
            "predicateType": _PROVENANCE,
            "predicate": {
                "buildDefinition": {
                    "buildType": _BUILD_TYPE,
                    "externalParameters": {
                        "base": _base_name(base),
                        "lock": lock.digest,
                        "platform": lock.target.platform.name,
                        "python": lock.target.python_version,
                    },
                    "resolvedDependencies": list(_dependencies(lock, base)),
                },
                "runDetails": {"builder": {"id": _BUILDER, "version": {"imagesync": version}}},
            },
        }
    )


def _dependencies(lock: Lock, base: BaseImage) -> Iterator[dict[str, Any]]:
    if base.digest:
        purl = _base_url(base)
        uri = {} if purl is None else {"uri": purl.to_string()}
        yield {"digest": _digest(base.digest), "name": "base image", **uri}
    for artifact in (*(each.artifact for each in lock.packages), *(each.artifact for each in lock.conda)):
        url = strip_credentials(artifact.url)
        dependency: dict[str, Any] = {"name": artifact.filename, "digest": _digest(artifact.digest)}
        # The path of a local file is this machine's own business, and so is that of a folder.
        if not url.startswith("file:"):
            dependency["uri"] = url
        yield dependency
    for vendored in lock.vendored:
        source = vendored.planned.source
        dependency = {"name": vendored.name, "annotations": {"content": vendored.content}}
        if source.url and not source.url.startswith("file:"):
            dependency["uri"] = f"{source.vcs}+{source.url}" if source.vcs else source.url
        if source.commit:
            dependency["digest"] = {"gitCommit": source.commit}
        yield dependency


def sbom(lock: Lock, base: BaseImage, *, digest: str, name: str, version: str, created: int) -> bytes:
    """Return the software bill of materials in CycloneDX 1.6, as JSON.

    Parameters
    ----------
    digest
        Of the image's manifest.
    name
        The image's reference, without a tag.
    version
        Of imagesync.
    created
        Seconds since the epoch.

    Raises
    ------
    UsageError
        cyclonedx-python-lib isn't installed.
    """
    try:
        from cyclonedx.model import HashAlgorithm, HashType
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.tool import ToolRepository
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise UsageError(
            "An SBOM needs the package cyclonedx-python-lib.",
            hint="Install it: pip install 'cyclonedx-python-lib>=11.5'",
        ) from error

    image = Component(
        name=name,
        version=digest,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.partition(":")[2])],
    )
    tool = Component(name="imagesync", version=version, type=ComponentType.APPLICATION, bom_ref="imagesync")
    metadata = BomMetaData(
        component=image,
        tools=ToolRepository(components=[tool]),
        timestamp=datetime.fromtimestamp(created, timezone.utc),
    )
    components = list(_components(lock, base))
    bom = Bom(
        components=components,
        metadata=metadata,
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"{digest} {lock.digest}"),
    )
    bom.register_dependency(image, components)
    return canonical_json(json.loads(JsonV1Dot6(bom).output_as_string()))


def _components(lock: Lock, base: BaseImage) -> Iterator[Component]:
    from cyclonedx.model.component import Component, ComponentType

    python = next((package for package in lock.conda if package.name == "python"), None)
    if python is None:
        yield Component(
            name="python",
            version=lock.target.python_version,
            type=ComponentType.APPLICATION,
            bom_ref="python",
        )
    yield Component(
        name=_base_name(base),
        version=base.digest or None,
        type=ComponentType.CONTAINER,
        bom_ref="base",
        purl=_base_url(base),
    )
    for package in lock.packages:
        yield _component(package.name, package.version, _pypi_url(package), package.artifact.digest)
    for conda in lock.conda:
        yield _component(conda.name, conda.version, _conda_url(conda), conda.artifact.digest)
    for vendored in lock.vendored:
        yield _component(vendored.name, vendored.version, _vendored_url(vendored))


def _component(name: str, version: str, url: PackageURL, digest: str = "") -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest.partition(":")[2])] if digest else []
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        hashes=hashes,
    )


def _base_name(base: BaseImage) -> str:
    # The path of a layout or an archive is this machine's own business.
    is_public = parse_location(base.root, given_as="the base image").transport == "registry"
    return base.root if is_public else base.digest or "base image"


def _base_url(base: BaseImage) -> PackageURL | None:
    from packageurl import PackageURL

    if not base.digest or parse_location(base.root, given_as="the base image").transport != "registry":
        return None
    reference = parse_reference(base.root)
    qualifiers = {"repository_url": reference.name}
    if reference.tag:
        qualifiers["tag"] = reference.tag
    # As the purl specification has it for the type oci.
    name = reference.path.rpartition("/")[2]
    return PackageURL("oci", name=name, version=base.digest, qualifiers=qualifiers)


def _pypi_url(package: LockedPackage) -> PackageURL:
    from packageurl import PackageURL

    qualifiers = {"file_name": package.artifact.filename}
    url = strip_credentials(package.artifact.url)
    if not url.startswith((*_PYPI, "file:")):
        qualifiers["repository_url"] = url.rpartition("/")[0]
    return PackageURL("pypi", name=package.name, version=package.version, qualifiers=qualifiers)


def _conda_url(package: LockedConda) -> PackageURL:
    from packageurl import PackageURL

    kind = "conda" if package.artifact.filename.endswith(".conda") else "tar.bz2"
    qualifiers = {
        "build": package.build,
        # The path of a local channel is this machine's own business.
        "channel": package.channel.rstrip("/").rpartition("/")[2],
        "subdir": package.subdir,
        "type": kind,
    }
    return PackageURL("conda", name=package.name, version=package.version, qualifiers=qualifiers)


def _vendored_url(package: VendoredPackage) -> PackageURL:
    from packageurl import PackageURL

    source = package.planned.source
    if package.repacked:
        return PackageURL("pypi", name=package.name, version=package.version)
    qualifiers = {}
    if source.vcs and source.url and not source.url.startswith("file:"):
        commit = f"@{source.commit}" if source.commit else ""
        qualifiers["vcs_url"] = f"{source.vcs}+{source.url}{commit}"
    elif source.url and source.kind == "archive" and not source.url.startswith("file:"):
        qualifiers["download_url"] = source.url
    # On no index: by that name PyPI may have another package.
    return PackageURL("generic", name=package.name, version=package.version, qualifiers=qualifiers)


def _digest(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}
