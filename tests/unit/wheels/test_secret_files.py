"""Files that look like secrets: which do, and what a build says of those in its own wheels."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from imagesync.core.progress import PlainProgress
from imagesync.errors import DeviationError
from imagesync.wheels.secret_files import looks_secret, report_secrets, secret_members
from tests.indexes import make_wheel

KEY = b"-----BEGIN RSA PRIVATE KEY-----\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("path", "content", "is_secret"),
    [
        ("pkg/.env", b"", True),
        ("pkg/.env.local", b"", True),
        ("pkg/.env.example", b"", False),
        ("pkg/env.py", b"", False),
        ("pkg/.npmrc", b"", True),
        ("pkg/kubeconfig", b"", True),
        ("pkg/prod.kubeconfig", b"", True),
        ("pkg/kubeconfig.yaml", b"", True),
        ("pkg/kubeconfig.py", b"", False),
        ("pkg/id_rsa", b"", True),
        ("pkg/id_ed25519.bak", b"", True),
        ("pkg/id_rsa_work", b"", True),
        ("pkg/id_rsa.pub", b"", False),
        ("pkg/id_rsa.py", b"", False),
        ("pkg/credentials", b"", True),
        ("pkg/credentials.py", b"", False),
        ("pkg/application_default_credentials.json", b"", True),
        ("pkg/service-account-prod.json", b"", True),
        ("pkg/.aws/config", b"", True),
        ("pkg/.oci/config", b"", True),
        ("pkg/a.pem", KEY, True),
        ("pkg/ca.pem", CERTIFICATE, False),
        ("pkg/tls.key", b"", True),
    ],
)
def test_file_looks_like_a_secret_by_its_name_or_its_content(
    path: str, content: bytes, is_secret: bool
) -> None:
    assert looks_secret(path, lambda: content) is is_secret


@pytest.fixture
def wheel(tmp_path: Path) -> tuple[str, Path]:
    filename, data = make_wheel("demo", "1.0", files={"demo/.env": b"", "demo/a.pem": KEY, "demo/b.pem": b""})
    (tmp_path / filename).write_bytes(data)
    return filename, tmp_path / filename


def test_own_wheel_with_secrets_is_named_or_with_strict_refused(wheel: tuple[str, Path]) -> None:
    stream = StringIO()
    with_strict = PlainProgress(stream)
    report_secrets([wheel], with_strict, strict=False)
    assert all(f"{wheel[0]}: {name}" in stream.getvalue() for name in ("demo/.env", "demo/a.pem"))
    assert "b.pem" not in stream.getvalue()
    with pytest.raises(DeviationError, match="look like secrets") as raised:
        report_secrets([wheel], with_strict, strict=True)
    assert "demo/.env" in raised.value.message


def test_damaged_wheel_names_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"PK\5\6")
    assert secret_members(tmp_path / "x.whl") == ()
