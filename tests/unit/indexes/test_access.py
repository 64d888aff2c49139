"""Credentials go to the scheme, host and port that they belong to."""

from __future__ import annotations

import pytest

from imagesync.indexes.pypi.access import Access, Credential

ACCESS = Access(
    credentials=(
        Credential("https://pypi.example.com/team/simple", "team", "secret-1"),
        Credential("https://pypi.example.com/all/simple", "all", "secret-2"),
        Credential("http://plain.example.com:8080/simple", "plain", "secret-3"),
        Credential("https://token.example.com/simple", "tk-1"),
        Credential("https://open.example.com/simple"),
    )
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://pypi.example.com/team/files/a.whl", ("team", "secret-1")),
        ("https://pypi.example.com/all/files/a.whl", ("all", "secret-2")),
        ("https://pypi.example.com:443/all/a.whl", ("all", "secret-2")),
        ("https://pypi.example.com/elsewhere/a.whl", ("team", "secret-1")),
        ("http://plain.example.com:8080/a.whl", ("plain", "secret-3")),
        ("https://token.example.com/a.whl", ("tk-1", "")),
        ("http://pypi.example.com/team/a.whl", None),
        ("https://pypi.example.com:8443/team/a.whl", None),
        ("https://pypi.example.com.evil.org/team/a.whl", None),
        ("https://plain.example.com:8080/a.whl", None),
        ("https://open.example.com/a.whl", None),
        ("https://files.pythonhosted.org/a.whl", None),
    ],
)
def test_credentials_go_to_the_origin_of_their_index(url: str, expected: tuple[str, str] | None) -> None:
    assert ACCESS.authentication(url) == expected


def test_representation_has_no_secrets() -> None:
    shown = repr(Access(credentials=ACCESS.credentials, proxy="http://me:secret-4@proxy.example.com"))
    assert "secret-" not in shown
