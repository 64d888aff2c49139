"""SBOM and provenance of an image, judged by CycloneDX's own schema."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from imagesync.core.platforms import LINUX_AMD64
from imagesync.image.attestations import SBOM_TYPE, STATEMENT_TYPE, attestations, own_types
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.registry.artifacts import Artifact as Document
from imagesync.registry.artifacts import compose_artifact
from imagesync.registry.manifest import MANIFEST, Descriptor, Index

DIGEST = f"sha256:{'1' * 64}"
BASE = BaseImage("base:1", "ubuntu:24.04", f"sha256:{'b' * 64}", "", "3.12.3", "python3", (2, 39), DIGEST)
SUBJECT = Descriptor(MANIFEST, DIGEST, 500)
SECRET = "swordfish"


def vendored(name: str, repacked: str = "", **source: Any) -> VendoredPackage:
    document = {"name": name, "version": "0.1", "content": DIGEST, "source": source, "repacked": repacked}
    return VendoredPackage.from_dict(document)


def package(name: str, url: str) -> LockedPackage:
    filename = f"{name}-1.0-py3-none-any.whl"
    return LockedPackage.from_dict(
        {
            "name": name,
            "version": "1.0",
            "artifact": {"filename": filename, "url": f"{url}/{filename}", "digest": DIGEST},
        }
    )


def lock() -> Lock:
    archive = Artifact(
        "openssl-3.2-h1.conda", "https://conda.example.com/t/tk-1/forge/linux-64/o.conda", DIGEST
    )
    return Lock(
        Target(LINUX_AMD64, "3.12.3", (2, 39)),
        (
            package("numpy", "https://files.pythonhosted.org/packages"),
            package("inhouse", f"https://me:{SECRET}@pypi.example.com/simple"),
            package("nearby", "file:///home/me/wheels"),
        ),
        (
            vendored("mine", kind="directory", url="file:///home/me/mine", editable=True),
            vendored("theirs", kind="vcs", url="https://example.com/theirs", vcs="git", commit="c" * 40),
            vendored("changed", repacked="its files were changed"),
        ),
        conda=(LockedConda("openssl", "3.2", "h1", "https://conda.example.com/forge", "linux-64", archive),),
    )


def documents(base: BaseImage = BASE) -> tuple[Document, ...]:
    return attestations(
        lock(), base, subject=SUBJECT, name="registry.example.com/env", version="0.1.0", created=315532800
    )


def test_sbom_names_each_package_by_its_purl_and_is_valid() -> None:
    sbom, _ = documents()
    assert sbom.descriptor.artifact_type == SBOM_TYPE
    text = sbom.document.decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    content = json.loads(text)
    urls = {entry["name"]: entry.get("purl") for entry in content["components"]}
    assert urls["numpy"] == "pkg:pypi/numpy@1.0?file_name=numpy-1.0-py3-none-any.whl"
    inhouse = PackageURL.from_string(urls["inhouse"])
    assert inhouse.qualifiers["repository_url"] == "https://pypi.example.com/simple"
    assert urls["openssl"] == "pkg:conda/openssl@3.2?build=h1&channel=forge&subdir=linux-64&type=conda"
    assert urls["mine"] == "pkg:generic/mine@0.1"
    theirs = PackageURL.from_string(urls["theirs"])
    assert theirs.qualifiers["vcs_url"] == f"git+https://example.com/theirs@{'c' * 40}"
    assert urls["changed"] == "pkg:pypi/changed@0.1"
    assert {"python", "ubuntu:24.04"} <= set(urls)
    assert content["metadata"]["component"]["version"] == DIGEST


def test_provenance_has_every_artifact_with_its_digest() -> None:
    _, provenance = documents()
    assert provenance.descriptor.artifact_type == STATEMENT_TYPE
    assert provenance.descriptor.annotations["in-toto.io/predicate-type"] == "https://slsa.dev/provenance/v1"
    assert provenance.manifest.subject == SUBJECT
    content = json.loads(provenance.document)
    assert content["subject"] == [{"name": "registry.example.com/env", "digest": {"sha256": "1" * 64}}]
    definition = content["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["lock"] == lock().digest
    found = {entry["name"]: entry for entry in definition["resolvedDependencies"]}
    assert found["base image"]["digest"] == {"sha256": "b" * 64}
    base = PackageURL.from_string(found["base image"]["uri"])
    assert (base.type, base.name, base.version) == ("oci", "ubuntu", BASE.digest)
    assert base.qualifiers == {"repository_url": "docker.io/library/ubuntu", "tag": "24.04"}
    assert found["numpy-1.0-py3-none-any.whl"]["digest"] == {"sha256": "1" * 64}
    assert found["theirs"]["digest"] == {"gitCommit": "c" * 40}
    assert len(found) == 8


@pytest.mark.parametrize("secret", [SECRET, "tk-1", "/home/me", "file:"])
def test_documents_have_no_credentials_and_no_paths(secret: str) -> None:
    for document in documents():
        assert secret not in document.document.decode()


def test_documents_are_the_same_every_time() -> None:
    assert [each.descriptor for each in documents()] == [each.descriptor for each in documents()]


@pytest.mark.parametrize(
    "root",
    ["oci-archive:/home/alice/x/base.tar", "oci:/home/alice/base:1", "docker-archive:/home/alice/b.tar"],
)
def test_base_outside_of_registries_is_named_by_its_digest(root: str) -> None:
    sbom, provenance = documents(replace(BASE, root=root))
    for document in (sbom, provenance):
        assert b"alice" not in document.document
    components = json.loads(sbom.document)["components"]
    (base,) = (entry for entry in components if entry["bom-ref"] == "base")
    assert base["name"] == base["version"] == BASE.digest
    parameters = json.loads(provenance.document)["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["base"] == BASE.digest


def test_documents_of_others_are_not_ours() -> None:
    own = tuple(each.descriptor for each in documents())
    foreign = compose_artifact(
        b"{}",
        STATEMENT_TYPE,
        subject=SUBJECT,
        annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
    )
    bill = compose_artifact(b"{}", SBOM_TYPE, subject=SUBJECT)
    assert own_types(Index((foreign.descriptor, bill.descriptor))) == frozenset()
    assert own_types(Index((foreign.descriptor, *own))) == {SBOM_TYPE, STATEMENT_TYPE}
