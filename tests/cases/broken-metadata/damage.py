"""Does to an environment what years of use do."""

import sys
from pathlib import Path

site_packages = Path(sys.argv[1])


def dist_info(name: str, metadata: "bytes | None") -> None:
    folder = site_packages / name
    folder.mkdir()
    if metadata is not None:
        (folder / "METADATA").write_bytes(metadata)


# pip renames what it uninstalls, and an interrupted uninstall leaves the renamed folder.
dist_info("~olz-0.9.dist-info", b"Metadata-Version: 2.1\nName: toolz\nVersion: 0.9\n")
# Interrupted installs: a folder without metadata, and one without a name.
dist_info("ghost-1.0.dist-info", None)
dist_info("nameless-1.0.dist-info", b"Metadata-Version: 2.1\n")
# An upgrade that lost its uninstall: two folders for one name, of which one agrees with the files.
dist_info("click-7.0.dist-info", b"Metadata-Version: 2.1\nName: click\nVersion: 7.0\n")
(site_packages / "click-7.0.dist-info" / "RECORD").write_text("click/gone.py,,\nclick-7.0.dist-info/RECORD,,\n")
# Metadata that isn't UTF-8.
metadata = site_packages / "pygments-2.19.2.dist-info" / "METADATA"
metadata.write_bytes(metadata.read_bytes().replace(b"\nVersion:", "\nAuthor: Jürgen Weiß\nVersion:".encode("latin-1"), 1))
