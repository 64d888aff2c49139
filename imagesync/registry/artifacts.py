"""Artifacts in a repository: documents about an image (referrers), or under a tag of their own.

Source: the OCI image specification 1.1, "Guidelines for Artifact Usage"; the OCI distribution specification
1.1, "Pushing Manifests with Subject" and "Referrers Tag Schema".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from imagesync.core.progress import Progress
from imagesync.errors import LayoutError
from imagesync.registry.manifest import EMPTY, INDEX, MANIFEST, Descriptor, Index, Manifest, parse_manifest
from imagesync.registry.oci_image import read_document
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.repository import Repository, referrers_tag
from imagesync.registry.transfer import in_parallel
from imagesync.registry.upload import upload

_EMPTY_CONFIG = b"{}"
# An SBOM of a large environment has some megabytes.
_MAX_DOCUMENT = 64 << 20


@dataclass(frozen=True)
class Artifact:
    """A document with its manifest.

    Parameters
    ----------
    descriptor
        Of the manifest, as an index of referrers lists it.
    content
        The manifest's bytes.
    manifest
        What these say.
    document
        The document's bytes.
    """

    descriptor: Descriptor
    content: bytes
    manifest: Manifest
    document: bytes

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield a blob; see :class:`~imagesync.registry.oci_image.BlobSource`."""
        yield self.document if descriptor == self.manifest.layers[0] else _EMPTY_CONFIG


def compose_artifact(
    document: bytes,
    media_type: str,
    *,
    artifact_type: str = "",
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
    also: Sequence[Descriptor] = (),
) -> Artifact:
    """Return the artifact of a document: the same bytes for the same values.

    Parameters
    ----------
    media_type
        The document's.
    artifact_type
        By which it is found; *media_type* if not given.
    subject
        The manifest of the image that it is about.
    annotations
        Of the manifest, and of the entry in the index of referrers.
    also
        Blobs of the repository that the manifest lists, too, so that the registry keeps them.
    """
    annotations = annotations or {}
    if subject is not None:
        subject = Descriptor(subject.media_type, subject.digest, subject.size)
    manifest = Manifest(
        Descriptor.of(_EMPTY_CONFIG, EMPTY),
        (Descriptor.of(document, media_type), *also),
        annotations,
        artifact_type or media_type,
        subject,
    )
    content = manifest.to_json()
    descriptor = Descriptor.of(
        content, MANIFEST, annotations=annotations, artifact_type=manifest.artifact_type
    )
    return Artifact(descriptor, content, manifest, document)


def push_artifact(artifact: Artifact, repository: Repository, *, tag: str = "", progress: Progress) -> None:
    """Push an artifact, and list it among the referrers of its subject where the registry doesn't do that.

    Parameters
    ----------
    tag
        The tag to put it under; only its digest if not given.

    Raises
    ------
    RegistryError
        The registry refuses.
    """
    blobs = [artifact.manifest.layers[0], artifact.manifest.config]
    lacking = in_parallel(lambda blob: not repository.has_blob(blob), blobs)
    total = sum(blob.size for blob, lacks in zip(blobs, lacking, strict=True) if lacks)
    with progress.task(f"Attaching {artifact.manifest.artifact_type}", total=total, unit="bytes") as task:
        for blob, lacks in zip(blobs, lacking, strict=True):
            if lacks:
                upload(repository, blob, artifact, task)
    wanted = tag or artifact.descriptor.digest
    response = repository.try_put_manifest(artifact.content, MANIFEST, wanted)
    if not response.ok:
        raise repository.connection.refused(f"push {repository.name}:{wanted}", response)
    subject = artifact.manifest.subject
    # A registry with the API for referrers says that it has seen the subject.
    if subject is not None and response.headers.get("OCI-Subject") != subject.digest:
        _list_by_tag(artifact, subject, repository)


def _list_by_tag(artifact: Artifact, subject: Descriptor, repository: Repository) -> None:
    known = _tagged_referrers(repository, subject.digest)
    if any(entry.digest == artifact.descriptor.digest for entry in known.manifests):
        return
    index = Index((*known.manifests, artifact.descriptor), known.annotations)
    content = index.to_json()
    descriptor = Descriptor.of(content, INDEX)
    repository.put_manifest(content, descriptor.media_type, referrers_tag(subject.digest))


def _tagged_referrers(repository: Repository, digest: str) -> Index:
    found = repository.manifest(referrers_tag(digest))
    if found is None:
        return Index()
    parsed = parse_manifest(found[1])
    return parsed if isinstance(parsed, Index) else Index()


def read_artifact(repository: Repository, wanted: str) -> Artifact | None:
    """Return an artifact by its tag or digest, or ``None`` where there is none.

    Raises
    ------
    RegistryError
        It can't be used, or the registry refuses.
    """
    found = repository.manifest(wanted)
    if found is None:
        return None
    descriptor, content = found
    try:
        manifest = parse_manifest(content)
    except ValueError as error:
        raise repository.unusable(str(error)) from error
    if isinstance(manifest, Index) or not manifest.layers:
        raise repository.unusable(f"{wanted} isn't an artifact with a document")
    try:
        document = read_document(manifest.layers[0], repository, _MAX_DOCUMENT)
    except ValueError as error:
        raise repository.unusable(str(error)) from error
    descriptor = replace(descriptor, annotations=manifest.annotations, artifact_type=manifest.artifact_type)
    return Artifact(descriptor, content, manifest, document)


def layout_artifacts(layout: ImageLayout, digest: str) -> list[Artifact]:
    """Return the artifacts in a layout that are about the image of a manifest's *digest*.

    Those that are damaged, or pruned in part, are left out.
    """
    found = []
    for entry in layout.index().manifests:
        if not entry.artifact_type:
            continue
        with suppress(LayoutError, ValueError):
            content = read_document(entry, layout)
            manifest = parse_manifest(content)
            if isinstance(manifest, Manifest) and manifest.subject and manifest.subject.digest == digest:
                document = read_document(manifest.layers[0], layout, _MAX_DOCUMENT)
                found.append(Artifact(entry, content, manifest, document))
    return found
