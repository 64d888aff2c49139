"""Looking for a password where it must not be: in output, files, archives, and images."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import docker

from tests.commands import Finished


@dataclass(frozen=True)
class Password:
    """A user's password, in all its spellings: plain, as in URLs, and as in HTTP headers."""

    user: str
    word: str
    _spellings: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        header = base64.b64encode(f"{self.user}:{self.word}".encode()).decode()
        words = {self.word, quote(self.word), quote(self.word, safe=""), header}
        object.__setattr__(self, "_spellings", tuple(word.encode() for word in sorted(words)))

    @property
    def in_url(self) -> str:
        """Return user and password as they stand before the host."""
        return f"{quote(self.user, safe='')}:{quote(self.word, safe='')}"

    @property
    def authorization(self) -> str:
        """Return the header that logs in (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.word}".encode()).decode()

    def assert_absent(self, content: bytes, where: str) -> None:
        """Fail if the password is in *content*."""
        for spelling in self._spellings:
            assert spelling not in content, f"the password is in {where}"

    def assert_absent_inside(self, content: bytes, where: str) -> None:
        """Look into archives, too: a layer, a wheel, or a file that is compressed."""
        self.assert_absent(content, where)
        if content[:2] == b"\x1f\x8b":
            self.assert_absent_inside(gzip.decompress(content), f"{where}, unzipped")
        elif content[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in archive.namelist():
                    self.assert_absent_inside(archive.read(name), f"{where}: {name}")

    def assert_absent_from_output(self, commands: Iterable[Finished]) -> None:
        """Look into what commands printed."""
        for command in commands:
            output = command.stdout.encode() + command.stderr.encode()
            self.assert_absent(output, f"output of {command.arguments}")

    def assert_absent_below(self, *folders: Path) -> None:
        """Look into all files below *folders*, and at their names."""
        for folder in folders:
            for path in folder.rglob("*"):
                self.assert_absent(str(path).encode(), "a file's name")
                if path.is_file():
                    self.assert_absent_inside(path.read_bytes(), str(path))

    def assert_absent_from_image(self, engine: docker.DockerClient, reference: str) -> None:
        """Look into an image's configuration, labels, history, and layers."""
        image = engine.images.get(reference)
        self.assert_absent(json.dumps(image.attrs).encode(), "image configuration")
        self.assert_absent(json.dumps(image.history()).encode(), "history")
        saved = io.BytesIO(b"".join(image.save(named=True)))
        with tarfile.open(fileobj=saved) as archive:
            for member in archive:
                if member.isfile():
                    self.assert_absent_inside(
                        archive.extractfile(member).read(), f"{member.name} of the image"
                    )
