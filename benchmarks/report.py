"""``python -m benchmarks.report``: the tables and plots of docs/benchmarks.md.

Reads docs/benchmarks.json and the file of results. Each figure is of the last session that measured it, so a
new checkout that measures one figure keeps the others. Writes between the markers ``<!-- results -->`` and
``<!-- end of results -->`` of docs/benchmarks.md, and of README.md where it has them, and writes
docs/benchmarks.json, docs/benchmarks.svg and, with more builders of images than it shows,
docs/benchmarks-all.svg.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.builds import WORKS
from benchmarks.commands import FIGURES as COMMANDS
from benchmarks.environments import SIZES
from benchmarks.measure import Run, ratio
from benchmarks.plot import Bar, draw
from benchmarks.results import FILE, Result, read_results, write_document
from benchmarks.scripts import run_script

_MARKED = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)
_TITLES = {
    "cold": "Cold build: nothing cached but the base image",
    "warm": "Built anew, with the packages in the cache",
    "unchanged": "Nothing changed",
    "light": "One light package changed (click)",
    "heavy": "One heavy package changed (pandas)",
    "edit": "One line of own code changed",
}
_COMMANDS = {
    "scan": "Scan",
    "scan-coiled": "Scan of S with Coiled's client in it",
    "plan": "Plan",
    "lock-empty": "Lock, with an empty cache",
    "lock": "Lock again, with a full cache",
    "lock-arm64": "Lock for Linux on arm64, with a full cache",
}
_OURS = ("imagesync", "imagesync, no engine")
_SHORT = (*_OURS, "Docker, pip", "Docker, uv")

Runs = Mapping[tuple[str, str], Mapping[str, list[Run]]]


def main() -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=FILE, help="the file of results")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the folder of benchmarks.md")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    arguments = parser.parse_args()
    document = arguments.docs / "benchmarks.json"
    results, sessions = read_results(document, arguments.results)
    runs = _by_contender(results)
    size = next((size for size in ("M", "S", "L") if ("cold", size) in runs), "")
    text = "\n".join(_report(runs, results, sessions, plotted=size)) + "\n"
    _write_between(arguments.docs / "benchmarks.md", text)
    write_document(document, results, sessions)
    if size:
        (arguments.docs / "benchmarks.svg").write_text(_plot(runs, size, _SHORT), "utf-8")
        if _has_others(runs, size):
            (arguments.docs / "benchmarks-all.svg").write_text(_plot(runs, size, None), "utf-8")
        if _MARKED.search(arguments.readme.read_text("utf-8")):
            picture = f"![{_description(runs, size)}](docs/benchmarks.svg)\n"
            _write_between(arguments.readme, picture)
    return 0


def _write_between(file: Path, text: str) -> None:
    old = file.read_text("utf-8")
    if not _MARKED.search(old):
        raise SystemExit(f"{file} has no markers <!-- results --> and <!-- end of results -->")
    file.write_text(_MARKED.sub(lambda found: f"{found[1]}{text}{found[2]}", old), "utf-8")


def _has_others(runs: Runs, size: str) -> bool:
    """Return True if builders of images were measured that the short plot leaves out."""
    return any(set(runs.get((work, size), ())) - set(_SHORT) for work in WORKS)


def _by_contender(results: Sequence[Result]) -> Runs:
    runs: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for result in sorted(results, key=lambda result: result.turn):
        runs.setdefault((result.figure, result.size), {}).setdefault(result.contender, []).append(result.run)
    return runs


def _report(
    runs: Runs, results: Sequence[Result], sessions: Mapping[str, dict[str, Any]], *, plotted: str
) -> Iterator[str]:
    yield from _machines(results, sessions)
    if plotted:
        yield f"\n![{_description(runs, plotted)}](benchmarks.svg)\n"
        if _has_others(runs, plotted):
            yield f"All who build images, environment {plotted}:\n\n![The same with all](benchmarks-all.svg)"
    for size in SIZES:
        figures = [figure for figure in COMMANDS if (figure, size) in runs]
        if figures:
            yield f"\n### Commands, environment {size}\n"
            yield from _commands(runs, size, figures)
        works = [work for work in WORKS if (work, size) in runs]
        if works:
            yield f"\n### Images, environment {size}\n"
            yield from _images(runs, size, works)
        if ("import", size) in runs:
            yield f"\n### The finished image, environment {size}\n"
            yield from _finished(runs, size)
        if ("cluster", size) in runs:
            yield f"\n### A cluster of four workers, environment {size}\n"
            yield from _cluster(runs, size)
    if any(figure.startswith("growth") for figure, _ in runs):
        yield "\n### Growth\n"
        yield from _growth(runs)


def _machines(results: Sequence[Result], sessions: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Yield for each machine what was measured on it, then the versions of what is compared."""
    found: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if result.session in sessions:
            machine = sessions[result.session]["machine"]
            key = tuple(machine[name] for name in ("cpu", "cores", "system", "python"))
            found.setdefault(key, []).append(result)
    for (cpu, cores, system, python), measured in found.items():
        growth = [result for result in measured if result.figure.startswith("growth")]
        sizes = {result.size for result in measured if result not in growth}
        names = [*filter(sizes.__contains__, SIZES), *(["growth"] if growth else [])]
        used = sorted({result.session for result in measured})
        loads = [float(sessions[session]["machine"]["load"]) for session in used]
        yield (
            f"{', '.join(names)}: {used[-1][:10]}, {cpu}, {cores} cores, {system}, Python {python}; "
            f"load before the sessions {min(loads):.2f} to {max(loads):.2f}.\n"
        )
    last = max((result.session for result in results if result.session in sessions), default=None)
    if last is not None:
        yield f"{', '.join(f'{name} {version}' for name, version in sessions[last]['versions'].items())}."


def _commands(runs: Runs, size: str, figures: Sequence[str]) -> Iterator[str]:
    yield _row(
        *("", "seconds", "imagesync is", "processor, s", "memory, MB", "read, MB", "files opened"),
        "processes and threads",
    )
    yield _row(*["---"] * 8)
    for figure in figures:
        yield _row(f"**{_COMMANDS[figure]}**", *[""] * 7)
        contenders = runs[figure, size]
        for name, measured, compared in _beside_ours(contenders):
            yield _row(
                name,
                _spread(measured),
                compared,
                _median(measured, lambda run: run.own_cpu, "{:.2f}"),
                _megabytes(measured, lambda run: run.memory),
                _megabytes(measured, lambda run: run.read),
                _median(measured, _counted("files"), "{:.0f}"),
                _median(measured, lambda run: run.processes, "{:.0f}"),
            )


def _images(runs: Runs, size: str, works: Sequence[str]) -> Iterator[str]:
    yield _row(
        *("", "build, s", "imagesync is", "without an engine it is", "processor, s", "memory, MB"),
        *("to the engine, MB (requests)", "layers", "push, s", "pushed, MB (requests)"),
    )
    yield _row(*["---"] * 10)
    for work in works:
        contenders = runs[work, size]
        yield _row(f"**{_TITLES[work]}**", *[""] * 9)
        for name, measured in contenders.items():
            compared = [
                "" if name in _OURS or ours not in contenders else _compared(contenders[ours], measured)
                for ours in _OURS
            ]
            pushes = runs.get((f"{work}, push", size), {}).get(name, [])
            yield _row(
                name,
                _spread(measured),
                *compared,
                _median(measured, lambda run: run.cpu, "{:.1f}"),
                _megabytes(measured, lambda run: run.memory),
                _bytes_and_requests(measured, "engine"),
                _layers(measured),
                _spread(pushes) if pushes else "",
                _bytes_and_requests(pushes, "registry"),
            )


def _beside_ours(contenders: Mapping[str, list[Run]]) -> Iterator[tuple[str, list[Run], str]]:
    """Yield each contender with its runs, and what the first one, ours, is of them."""
    ours = next(iter(contenders))
    for name, measured in contenders.items():
        yield name, measured, _compared(contenders[ours], measured) if name != ours else ""


def _layers(measured: Sequence[Run]) -> str:
    layers = _median(measured, _counted("layers"), "{:.0f}")
    same = _median(measured, _counted("same layers"), "{:.0f}")
    return f"{layers}, {same} as before" if same else layers


def _finished(runs: Runs, size: str) -> Iterator[str]:
    yield _row("", "size, MB", "compressed, MB", "layers", "`docker run` to `import pandas`, s")
    yield _row(*["---"] * 5)
    for name, measured in runs["import", size].items():
        pushes = runs.get(("cold, push", size), {}).get(name, [])
        yield _row(
            name,
            _megabytes(measured, _counted("size")),
            _megabytes(pushes, _counted("compressed")),
            _median(measured, _counted("layers"), "{:.0f}"),
            _spread(measured),
        )


def _cluster(runs: Runs, size: str) -> Iterator[str]:
    yield _row("", "until all have come, s", "imagesync is", "processor, s", "memory, MB", "closing, s")
    yield _row(*["---"] * 6)
    contenders = runs["cluster", size]
    for name, measured, compared in _beside_ours(contenders):
        yield _row(
            name,
            _spread(measured),
            compared,
            _median(measured, lambda run: run.cpu, "{:.1f}"),
            _megabytes(measured, lambda run: run.memory),
            _spread(runs["cluster, closing", size][name]),
        )


def _growth(runs: Runs) -> Iterator[str]:
    counts = sorted({int(size) for figure, size in runs if figure == "growth, scan"})
    if counts:
        yield _row("packages", *map(str, counts))
        yield _row(*["---"] * (len(counts) + 1))
        for name in ("scan", "plan", "build"):
            found = [runs.get((f"growth, {name}", str(count)), {}).get("imagesync", []) for count in counts]
            yield _row(f"{name}, s", *(_spread(measured) if measured else "" for measured in found))
    environments = runs.get(("growth, environments", "S"), {})
    if environments:
        yield ""
        yield _row("environments of S", "built and pushed, s", "pushed, MB", "store, MB")
        yield _row(*["---"] * 4)
        for name, measured in environments.items():
            seconds = list(accumulate(run.seconds for run in measured))
            pushed = list(accumulate(run.counted["registry bytes"] for run in measured))
            for count in (1, 4, 16):
                if count <= len(measured):
                    store = measured[count - 1].counted.get("store bytes")
                    cells = (f"{seconds[count - 1]:.1f}", f"{pushed[count - 1] / 1e6:.1f}")
                    yield _row(f"{count}, {name}", *cells, f"{store / 1e6:.0f}" if store else "")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(measured: Sequence[Run]) -> str:
    seconds = [run.seconds for run in measured]
    middle = statistics.median(seconds)
    if len(seconds) == 1:
        return f"{middle:.2f}"
    return f"{middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _compared(ours: list[Run], theirs: list[Run]) -> str:
    turns = min(len(ours), len(theirs))
    median = ratio(ours[:turns], theirs[:turns]).median
    if 0.95 < median < 1.05:
        return "as fast"
    if median > 1:
        return f"{median:.1f} times slower"
    return f"{1 / median:.1f} times faster"


def _counted(name: str) -> Callable[[Run], float | None]:
    return lambda run: run.counted.get(name)


def _median(measured: Sequence[Run], value: Callable[[Run], float | None], form: str) -> str:
    values = [found for run in measured if (found := value(run)) is not None]
    return form.format(statistics.median(values)) if values else ""


def _megabytes(measured: Sequence[Run], value: Callable[[Run], float | None]) -> str:
    values = [found / 1e6 for run in measured if (found := value(run)) is not None]
    if not values:
        return ""
    middle = statistics.median(values)
    return f"{middle:.2f}" if middle < 1 else f"{middle:.1f}" if middle < 100 else f"{middle:.0f}"


def _bytes_and_requests(measured: Sequence[Run], name: str) -> str:
    sent = _megabytes(measured, _counted(f"{name} bytes"))
    requests = _median(measured, _counted(f"{name} requests"), "{:.0f}")
    return f"{sent} ({requests})" if requests else sent


def _plot(runs: Runs, size: str, contenders: Sequence[str] | None) -> str:
    panels = []
    for work in WORKS:
        bars = []
        for name, measured in runs.get((work, size), {}).items():
            if contenders is None or name in contenders:
                pushes = runs.get((f"{work}, push", size), {}).get(name, [])
                seconds = statistics.median(run.seconds for run in measured)
                pushed = statistics.median(run.seconds for run in pushes) if pushes else 0.0
                bars.append(Bar(name, seconds, pushed, name.startswith("imagesync")))
        if bars:
            panels.append((_TITLES[work], bars))
    return draw(
        panels,
        legend=f"Seconds to build + to push to a local registry. Environment {size}; less is better.",
        description=_description(runs, size),
    )


def _description(runs: Runs, size: str) -> str:
    parts = []
    for work in WORKS:
        medians = [
            f"{name} {statistics.median(run.seconds for run in measured):.1f} s"
            for name, measured in runs.get((work, size), {}).items()
            if name in _SHORT
        ]
        if medians:
            parts.append(f"{_TITLES[work]}: {', '.join(medians)}")
    return "; ".join(parts)


if __name__ == "__main__":
    run_script(main)
