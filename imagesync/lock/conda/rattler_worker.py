"""A program that answers questions about conda channels with py-rattler, as a separate process.

It is separate because py-rattler takes certificates and proxies from environment variables, which must not
change in the calling process; because a failed request leaves threads behind that can crash an interpreter at
exit; and because an interrupt has to end a running solve.

It reads lines of JSON: first the settings of the channels (``ChannelSettings``), then questions. For each
question it writes one line, with ``records`` or a failure (``unsolvable``, ``late``, ``silent``,
``unreadable``).
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rattler
from rattler import exceptions
from rattler.config import Config
from rattler.networking import Client

from imagesync.core.scratch import scratch_folder

_BYTES_RECEIVED = slice(128, 136)  # of struct tcp_info in linux/tcp.h
_T = TypeVar("_T")


def main() -> None:
    """Answer questions until the input ends."""
    # The caller handles interrupts, and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Warnings are about faulty channels; stderr is kept for failures.
    warnings.simplefilter("ignore")
    lines = map(json.loads, sys.stdin)
    settings = next(lines)
    _limit_files(settings["most"])
    answers = _Answers(settings)
    for question in lines:
        sys.stdout.write(json.dumps(answers.answer(question)) + "\n")
        sys.stdout.flush()
    # Threads of abandoned requests crash an interpreter that exits normally.
    os._exit(0)


def _limit_files(most: int) -> None:
    """Let writing a file of more than *most* bytes fail: py-rattler has no bound on repodata."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))


class _Answers:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._channels = [rattler.Channel(url) for url in settings["channels"]]
        self._gateway = rattler.Gateway(cache_dir=Path(settings["cache"]), client=_client(settings))
        self._silence = _Silence(settings)

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to *question*."""
        work = self._available if "names" in question else self._solve
        try:
            found = asyncio.run(self._silence.end(work(question)))
            return {"records": [json.loads(record.to_json()) for record in found]}
        except exceptions.SolverError as error:
            # py-rattler has one error for both; a cancelled request may have a solution.
            return {"late" if "has been cancelled" in str(error) else "unsolvable": str(error)}
        except (exceptions.GatewayError, exceptions.FetchRepoDataError, OSError) as error:
            return {"silent": str(error)}
        except (exceptions.InvalidMatchSpecError, exceptions.InvalidVersionError, ValueError) as error:
            return {"unreadable": str(error)}

    async def _available(self, question: Mapping[str, Any]) -> Sequence[rattler.RepoDataRecord]:
        found = await self._gateway.query(
            self._channels, question["subdirs"], question["names"], recursive=False
        )
        records = [record for part in found for record in part]
        return sorted(records, key=lambda record: (record.version, record.build_number))

    async def _solve(self, question: Mapping[str, Any]) -> Sequence[rattler.RepoDataRecord]:
        return await rattler.solve(
            self._channels,
            question["specs"],
            gateway=self._gateway,
            platforms=question["subdirs"],
            pinned_packages=[_record(package) for package in question["frozen"]],
            locked_packages=[_record(package) for package in question["preferred"]],
            virtual_packages=[_virtual(*fields) for fields in question["virtual_packages"]],
            constraints=question["constraints"],
            channel_priority=(
                rattler.ChannelPriority.Strict if question["strict"] else rattler.ChannelPriority.Disabled
            ),
            timeout=datetime.timedelta(seconds=question["timeout"]) if question["timeout"] else None,
        )


class _Silence:
    """Ends waiting for channels that send nothing: py-rattler limits only the whole time of a request."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._timeout: float = settings["timeout"]
        self._cache: str = settings["cache"]
        places = settings["places"]
        urls = [place for url in settings["channels"] for place in places.get(url, [url])]
        self._hosts = ", ".join(dict.fromkeys(urlsplit(url).hostname or "" for url in urls))
        self._channels: list[str] = settings["channels"]

    async def end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of *work*; raise ``TimeoutError`` when it neither gets bytes nor computes."""
        task = asyncio.ensure_future(work)
        tick = self._timeout / 6
        seen: set[tuple[str, int]] = set()
        computed = quiet = 0.0
        before = time.monotonic()
        while not (await asyncio.wait({task}, timeout=tick))[0]:
            now, arrived = time.monotonic(), self._arrived()
            # A longer tick isn't the channel's: this process was stopped, or the machine was asleep.
            quiet += min(now - before, 2 * tick)
            before = now
            if arrived - seen or time.process_time() - computed > self._timeout / 30:
                seen, computed, quiet = arrived, time.process_time(), 0.0
            elif quiet >= self._timeout:
                task.cancel()
                # Of several channels nobody knows which one it is.
                url = self._channels[0] if len(self._channels) == 1 else ""
                raise TimeoutError(f"{url}\nnot a byte from {self._hosts} in {self._timeout:g} s")
        return task.result()

    def _arrived(self) -> set[tuple[str, int]]:
        """Return the sizes of what was received by each connection, and of each file in the cache.

        The files tell of a download in another process, which this one waits for, and of connections where
        the system doesn't.
        """
        found = _received()
        for folder, _, names in os.walk(self._cache):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118  there may be thousands
                with suppress(OSError):
                    found.add((path, os.stat(path).st_size))  # noqa: PTH116
        return found


def _received() -> set[tuple[str, int]]:
    """Return the name of each TCP connection of this process, with the bytes that it has received."""
    found: set[tuple[str, int]] = set()
    if sys.platform == "linux":
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with suppress(OSError):
                name = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
                if name.startswith("socket:"):
                    with socket.socket(fileno=os.dup(int(number))) as connection:
                        size = _BYTES_RECEIVED.stop
                        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
                    found.add((name, int.from_bytes(info[_BYTES_RECEIVED], sys.byteorder)))
    return found


def _record(package: Mapping[str, Any]) -> rattler.RepoDataRecord:
    record = rattler.PackageRecord(
        name=package["name"],
        version=package["version"],
        build=rattler.BuildString.new_unchecked(package["build"]),
        build_number=package["build_number"],
        subdir=package["subdir"],
        noarch=package["noarch"] or None,
        depends=package["depends"],
        constrains=package["constrains"],
        sha256=bytes.fromhex(package["sha256"]) if package["sha256"] else None,
        md5=bytes.fromhex(package["md5"]) if package["md5"] else None,
        size=package["size"],
    )
    return rattler.RepoDataRecord(record, package["fn"], package["url"], package["channel"])


def _virtual(name: str, version: str, build: str) -> rattler.GenericVirtualPackage:
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString.new_unchecked(build)
    )


def _client(settings: Mapping[str, Any]) -> Client:
    with scratch_folder("channels") as folder:
        toml = f"tls-no-verify = {'false' if settings['verify'] else 'true'}\n"
        if settings["passwords"] or settings["bearers"]:
            # The client reads the file when it is created; the file is deleted afterwards.
            passwords = folder / "passwords.json"
            passwords.touch(mode=0o600)
            entries: dict[str, object] = {host: _basic(*pair) for host, pair in settings["passwords"].items()}
            entries |= {host: {"BearerToken": token} for host, token in settings["bearers"].items()}
            passwords.write_text(json.dumps(entries), "utf-8")
            toml += f"authentication-override-file = {json.dumps(str(passwords))}\n"
        # The cache is keyed by the public URL, so no token is written into it.
        toml += "[mirrors]\n"
        for url, places in settings["places"].items():
            toml += f"{json.dumps(url)} = {json.dumps(places)}\n"
        return Client.from_config(Config.from_toml(toml), max_retries=1, timeout=int(settings["total"]))


def _basic(username: str, password: str) -> dict[str, dict[str, str]]:
    return {"BasicHTTP": {"username": username, "password": password}}


if __name__ == "__main__":
    # Modules in the folder of this file must not shadow others.
    del sys.path[0]
    main()
