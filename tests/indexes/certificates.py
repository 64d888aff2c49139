"""A certificate authority of one's own, and a server certificate for this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(
    folder: Path, address: str = "127.0.0.1", *, name: str = "localhost"
) -> tuple[Path, Path, Path]:
    """Write and return the CA's certificate, the server's certificate and its key, with ``openssl``."""
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    certificate, key, request = folder / "server.pem", folder / "server.key", folder / "server.csr"
    names = folder / "names"
    names.write_text(f"subjectAltName=IP:{address},DNS:{name}\nbasicConstraints=CA:FALSE\n")
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    usage = ["-addext", "keyUsage=critical,keyCertSign", "-days", "2"]
    for command in (
        ["req", "-x509", *ec, "-subj", "/CN=imagesync tests", *usage, "-keyout", ca_key, "-out", ca],
        ["req", *ec, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
         "-days", "2", "-extfile", names, "-out", certificate],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return ca, certificate, key
