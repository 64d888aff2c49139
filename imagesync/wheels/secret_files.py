"""Files that look like secrets: one list for loose code, copied files and wheels made on this machine."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.archive_members import ZIP_DAMAGE
from imagesync.core.progress import Severity
from imagesync.errors import DeviationError

if TYPE_CHECKING:
    from imagesync.core.progress import Progress

_NAMES = re.compile(
    r"(?i)(\.env(\..+)?|\.envrc|\.netrc|_netrc|\.pypirc|\.npmrc|\.yarnrc\.yml|\.pgpass|\.my\.cnf|\.htpasswd"
    r"|\.git-credentials|\.dockercfg|\.s3cfg|\.boto|\.vault-token|\.databrickscfg|kubeconfig|.+\.kubeconfig"
    r"|kubeconfig\.(ya?ml|json)|id_(rsa|dsa|ecdsa|ed25519)(_sk)?([._-].+)?"
    r"|.+\.(key|p12|pfx|ppk|jks|kdbx|keytab|tfstate|ovpn)|secrets\.(toml|ya?ml|json|env)"
    r"|credentials(\.(json|ya?ml|toml|csv))?|accesskeys\.csv|application_default_credentials\.json"
    r"|(client[-_]secret|service[-_]account).*\.json)"
)
# Of the names above: a public key is made to be given away, and a module's name decides what it is.
_PUBLIC = re.compile(r"(?i)\.env\.(example|sample|template|dist)|.+\.(pub|pyi?)")
# All that is in them: .aws/credentials, .kube/config, .docker/config.json and their like.
_FOLDERS = frozenset({".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".gcloud", ".oci"})
# Certificates have the same suffixes as keys, so the content of these files decides.
_UNDECIDED = (".pem", ".crt", ".cer", ".asc", "key", "key.json", "key.txt")
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")


def looks_secret(path: str, read: Callable[[], bytes]) -> bool:
    """Return True if the file at *path* looks like a secret.

    Parameters
    ----------
    path
        With ``/``.
    read
        Returns the file's bytes; only called for names that don't decide, such as ``.pem``.

    >>> [looks_secret(path, bytes) for path in ("app/.env", "app/.env.example", ".ssh/x", "app/id_rsa.old")]
    [True, False, True, True]
    """
    folder, _, name = path.rpartition("/")
    if in_secret_folder(folder):
        return True
    if _NAMES.fullmatch(name):
        return not _PUBLIC.fullmatch(name)
    return name.lower().endswith(_UNDECIDED) and _PRIVATE_KEY.search(read()) is not None


def in_secret_folder(folder: str) -> bool:
    """Return True if *folder*, with ``/``, is one of secrets such as ``.ssh``, or lies in one.

    >>> in_secret_folder("/home/me/.aws/cli"), in_secret_folder("/home/me/aws")
    (True, False)
    """
    return not _FOLDERS.isdisjoint(folder.lower().split("/"))


def secret_members(wheel: Path) -> tuple[str, ...]:
    """Return the members of *wheel* that look like secrets; none of one that is damaged."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return tuple(
                member.filename
                for member in archive.infolist()
                if not member.is_dir() and looks_secret(member.filename, partial(archive.read, member))
            )
    except ZIP_DAMAGE:
        return ()


def report_secrets(wheels: Iterable[tuple[str, Path]], progress: Progress, *, strict: bool) -> None:
    """Warn of what looks like a secret in *wheels* of the user's own sources.

    Parameters
    ----------
    wheels
        The filename of each, and its file.
    strict
        Whether to refuse them instead.

    Raises
    ------
    DeviationError
        *strict* is true, and a wheel has such a file.
    """
    suspects = [f"{filename}: {member}" for filename, path in wheels for member in secret_members(path)]
    if not suspects:
        return
    listed = "\n".join(f"  {suspect}" for suspect in suspects)
    leave_out = "Leave them out in the project's build configuration (its package data)."
    if strict:
        raise DeviationError(
            f"Files that look like secrets would go into the image, and strict allows none:\n{listed}",
            hint=f"{leave_out} Give secrets to containers as variables or mounts.",
        )
    progress.line(
        "Files that look like secrets go into the image, where everybody who has it can read them. "
        f"{leave_out}\n{listed}",
        Severity.WARNING,
    )
