# SPDX-License-Identifier: GPL-3.0-or-later
"""`batch JOBS.jsonl`: command lines from a file, one after the other; one that fails does not stop the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EXIT_CANCELLED, EXIT_DONE, EXIT_FAILED, EXIT_PARTLY, Cancelled, InputError
from .jobs.report import Report

VERBS = ("mesh", "poses", "candidates", "extract", "bake", "head sample", "head invert", "head blend")
SUMMARY = "summary.json"
_PATHS = ("masks", "cameras", "onto", "blend", "glb", "preview", "report", "mask", "from")


@dataclass(frozen=True)
class BatchJob:
    """One line of the file."""

    line: int
    """Counted from 1."""
    name: str
    content: dict[str, Any]
    """As it stands in the file; a job whose line has changed is not finished."""
    arguments: tuple[str, ...]
    """The command line that it means; empty where it means none."""
    report: Path
    problem: str = ""
    """Why it means none."""


def read_jobs(path: Path, folder: Path) -> list[BatchJob]:
    """Read the file; a bad line is a job with a `problem`.

    Args:
        path: JSON lines; blank lines and lines that begin with # are skipped. Keys: `verb`, `inputs`, optional `name` (of
            the output folder), and options of the verb without their dashes. Relative paths start at the file's folder.
        folder: where the results go.

    Raises:
        InputError: NOT_FOUND, NO_JOBS, NAME_TWICE.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "NOT_FOUND", f"{path} cannot be read.", "Name a file with one JSON object a line."
        ) from error
    jobs = [
        _job(number, text, path.parent, folder)
        for number, text in enumerate(lines, 1)
        if text.strip() and not text.lstrip().startswith("#")
    ]
    if not jobs:
        raise InputError("NO_JOBS", f"{path} holds no job.", "Write one JSON object a line.")
    names = [job.name for job in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            "NAME_TWICE", f"Two jobs of {path} are named {twice}.", "Give every job a name of its own."
        )
    return jobs


def run(
    path: Path,
    folder: Path,
    resume: bool,
    attempt: Callable[[list[str]], Report],
    say: Callable[[str], None],
    report: Report,
) -> None:
    """Run the file's jobs and fill in the batch's own report; `summary.json` is rewritten after every job.

    Args:
        path: the file.
        folder: gets one folder and one NAME.report.json per job, and summary.json.
        resume: skip jobs that an earlier run has finished.
        attempt: runs one command line.
        say: tells a person how far it is.
        report: to fill in.

    Raises:
        InputError: as `read_jobs`, and OUT_NOT_WRITABLE.
        Cancelled: after the job that was cancelled has stopped.
    """
    jobs = read_jobs(path, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "OUT_NOT_WRITABLE", f"{folder} cannot be made.", "Choose another output folder."
        ) from error
    earlier = _earlier(folder) if resume else {}
    rows: list[dict[str, Any]] = []
    report.outputs["summary"] = str(folder / SUMMARY)
    for job in jobs:
        row = _finished(job, earlier)
        if row is None:
            say(f"{job.line}: {job.name}")
            row = _row(job, _run_one(job, attempt))
        rows.append(row)
        _write(folder / SUMMARY, rows)
        if row["exit_code"] == EXIT_CANCELLED:
            raise Cancelled()
    counts = {state: sum(row["status"] == state for row in rows) for state in ("done", "partly", "failed")}
    report.metrics = {
        "jobs": len(rows),
        "jobs_done": counts["done"],
        "jobs_partly": counts["partly"],
        "jobs_failed": counts["failed"],
        "jobs_skipped": sum(row["skipped"] for row in rows),
    }
    bad = [row for row in rows if row["exit_code"] != EXIT_DONE]
    if not bad:
        report.status, report.exit_code = "done", EXIT_DONE
        return
    report.metrics["partly"] = [f"{row['name']}: {row['error'] or row['status']}" for row in bad]
    none = counts["done"] + counts["partly"] == 0
    report.status, report.exit_code = ("failed", EXIT_FAILED) if none else ("partly", EXIT_PARTLY)


def _job(line: int, text: str, base: Path, folder: Path) -> BatchJob:
    name, content = f"job-{line:04d}", {}
    try:
        content = json.loads(text)
        name = str(content.get("name") or name)
        if Path(name).name != name or name in (".", ".."):
            raise ValueError(f"the name {name!r} is not that of a folder")
        arguments = _arguments(content, base, folder / name)
        problem = ""
    except (ValueError, AttributeError, TypeError) as error:
        name, arguments, problem = f"job-{line:04d}", [], f"line {line}: {error}"
    report = folder / f"{name}.report.json"
    if arguments and "report" not in content:
        place = len(content["verb"].split())
        arguments[place:place] = ["--report", str(report)]
    elif arguments:
        report = base / content["report"]
    return BatchJob(line, name, content, tuple(arguments), report, problem)


def _arguments(content: dict[str, Any], base: Path, out: Path) -> list[str]:
    """The command line that a line means; the common parser checks its options."""
    verb, inputs = content.get("verb"), content.get("inputs", [])
    if verb not in VERBS:
        raise ValueError(f"verb is {verb!r}; it may be {', '.join(VERBS)}")
    if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
        raise ValueError("inputs is not a list of paths")
    arguments = [*verb.split(), "--out", str(base / content["out"] if "out" in content else out)]
    for key, value in content.items():
        if key in ("verb", "inputs", "name", "out"):
            continue
        if isinstance(value, bool):
            arguments += [f"--{key.replace('_', '-')}"] * value
            continue
        values = value if isinstance(value, list) else [value]
        texts = [str(base / str(item)) if key in _PATHS else str(item) for item in values]
        arguments += [f"--{key.replace('_', '-')}", *texts]
    return [*arguments, "--", *(str(base / item) for item in inputs)] if inputs else arguments


def _run_one(job: BatchJob, attempt: Callable[[list[str]], Report]) -> Report:
    problem = job.problem
    if job.arguments:
        try:
            return attempt(list(job.arguments))
        except SystemExit:  # --help and the like
            problem = f"line {job.line} asks for help"
    report = Report()
    report.fail(InputError("BAD_JOB", f"{problem}.", "Correct the line and run the batch with --resume."))
    report.write(job.report)
    return report


def _row(job: BatchJob, report: Report) -> dict[str, Any]:
    return {
        "line": job.line,
        "name": job.name,
        "job": job.content,
        "status": report.status,
        "exit_code": report.exit_code,
        "report": str(job.report),
        "error": report.error["message"] if report.error else "; ".join(report.metrics.get("partly", [])),
        "skipped": False,
    }


def _earlier(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> row of an earlier run's summary."""
    try:
        rows = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["jobs"]
        return {row["name"]: row for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _finished(job: BatchJob, earlier: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The earlier row of a job whose line is unchanged and whose report and result still say that it is done."""
    row = earlier.get(job.name)
    if row is None or row["job"] != job.content:
        return None
    try:
        report = json.loads(job.report.read_text(encoding="utf-8"))
        there = (Path(report["outputs"]["folder"]) / "scene.json").is_file()
        return (
            {**row, "line": job.line, "skipped": True}
            if report["status"] in ("done", "partly") and there
            else None
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps({"jobs": rows}, indent=1), encoding="utf-8")
    temporary.replace(path)
