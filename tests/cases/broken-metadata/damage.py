"""Does to an environment what years of use do."""

import sys
from pathlib import Path

site_packages = Path(sys.argv[1])


def dist_info(name, metadata):
    folder = site_packages / name
    folder.mkdir()
    if metadata is not None:
        (folder / "METADATA").write_bytes(metadata)


def rewrite(name, change):
    # As a new file: the installed one may be a hard link into the installer's cache.
    path = site_packages / name / "METADATA"
    metadata = path.read_bytes()
    path.unlink()
    path.write_bytes(change(metadata))


# pip renames what it uninstalls, and an interrupted uninstall leaves the renamed folder.
dist_info("~olz-0.9.dist-info", b"Metadata-Version: 2.1\nName: toolz\nVersion: 0.9\n")
# Interrupted installs: a folder without metadata, and one without a name.
dist_info("ghost-1.0.dist-info", None)
dist_info("-1.0.dist-info", b"Metadata-Version: 2.1\n")
# An upgrade that lost its uninstall: two folders for one name, of which one agrees with the files.
dist_info("click-7.0.dist-info", b"Metadata-Version: 2.1\nName: click\nVersion: 7.0\n")
(site_packages / "click-7.0.dist-info" / "RECORD").write_text("click/gone.py,,\nclick-7.0.dist-info/RECORD,,\n")
# Metadata that isn't UTF-8, and metadata that lost its first lines.
author = "\nAuthor: Jürgen Weiß\nVersion:".encode("latin-1")
rewrite("pygments-2.19.2.dist-info", lambda metadata: metadata.replace(b"\nVersion:", author, 1))
rewrite("toolz-1.0.0.dist-info", lambda metadata: b"Metadata-Version: 2.1\nSummary: cut\n")
