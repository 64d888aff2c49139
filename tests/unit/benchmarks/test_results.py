"""Results of benchmarks: which sessions count, and the document that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import Run
from benchmarks.results import Result, read_results, write_document

FIRST, SECOND, THIRD = "2026-11-01T10:00:00+00:00", "2026-11-02T10:00:00+00:00", "2026-11-03T10:00:00+00:00"


def result(session: str, figure: str, seconds: float, turn: int = 0) -> Result:
    return Result(session, figure, "S", "imagesync", turn, Run(seconds, counted={"layers": 7}))


def lines(*results: Result) -> str:
    """Return a file of results, each session with its machine."""
    records: list[dict[str, Any]] = [
        {"session": session, "machine": {"load": "0.10"}}
        for session in dict.fromkeys(each.session for each in results)
    ]
    records += [{**vars(each), **each.run.to_dict(), "run": None} for each in results]
    return "".join(json.dumps(record) + "\n" for record in records)


def measured(*files: Path) -> dict[str, list[float]]:
    """Return the seconds of each figure."""
    found: dict[str, list[float]] = {}
    for each in read_results(*files)[0]:
        found.setdefault(each.figure, []).append(each.run.seconds)
    return found


def test_document_keeps_the_figures_that_a_new_checkout_has_not_measured(tmp_path: Path) -> None:
    document, new = tmp_path / "benchmarks.json", tmp_path / "results.jsonl"
    kept = [result(FIRST, "scan", 0.2), result(FIRST, "cold", 20.0)]
    write_document(document, kept, {FIRST: {"session": FIRST}})
    new.write_text(lines(result(SECOND, "cold", 10.0), result(SECOND, "cold", 11.0, turn=1)), "utf-8")
    assert measured(document, new) == {"scan": [0.2], "cold": [10.0, 11.0]}


def test_document_gives_back_the_results_that_it_was_written_with(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.json"
    results = [result(FIRST, "scan", 0.2), result(FIRST, "scan", 0.3, turn=1), result(SECOND, "cold", 20.0)]
    sessions = {session: {"session": session} for session in (FIRST, SECOND, THIRD)}
    write_document(document, results, sessions)
    assert read_results(document) == (results, {session: sessions[session] for session in (FIRST, SECOND)})


def test_runs_that_the_document_and_the_file_have_count_once(tmp_path: Path) -> None:
    document, file = tmp_path / "benchmarks.json", tmp_path / "results.jsonl"
    runs = [result(FIRST, "scan", 0.2), result(FIRST, "scan", 0.3, turn=1)]
    write_document(document, runs, {})
    file.write_text(lines(*runs), "utf-8")
    assert measured(document, file) == {"scan": [0.2, 0.3]}


def test_last_session_counts_in_whichever_file_it_is(tmp_path: Path) -> None:
    document, file = tmp_path / "benchmarks.json", tmp_path / "results.jsonl"
    write_document(document, [result(SECOND, "scan", 0.2)], {})
    file.write_text(lines(result(FIRST, "scan", 0.4), result(FIRST, "plan", 0.5)), "utf-8")
    assert measured(document, file) == {"scan": [0.2], "plan": [0.5]}


def test_line_that_was_cut_off_and_a_missing_file_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(lines(result(FIRST, "scan", 0.2)) + '{"session": "2026', "utf-8")
    assert measured(tmp_path / "benchmarks.json", file) == {"scan": [0.2]}
