# SPDX-License-Identifier: GPL-3.0-or-later
"""`batch`: one bad job does not stop the rest, a killed worker neither, and `--resume` does only what is left."""

import functools
import json
from pathlib import Path

import pytest
from maquette.core import batch, cli
from maquette.core.jobs.runner import Worker

FAKE = Path(__file__).parent / "jobs" / "fake_worker.py"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(cli, "Worker", functools.partial(Worker, script=FAKE))
    (tmp_path / "a 1.jpg").write_bytes(b"jpeg")
    return tmp_path


def write(place, *lines):
    path = place / "jobs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def run(place, *more):
    report = place / "report.json"
    code = cli.main(
        ["batch", str(place / "jobs.jsonl"), "--out", str(place / "out"), "--report", str(report), *more]
    )
    summary = place / "out" / "summary.json"
    rows = json.loads(summary.read_text())["jobs"] if summary.exists() else []
    content = json.loads(report.read_text())
    assert content["exit_code"] == code
    return content, rows


def mesh(name, **options):
    return {"verb": "mesh", "inputs": ["a 1.jpg"], "name": name, "device": "cpu", **options}


def test_one_bad_job_does_not_stop_the_rest(place):
    write(
        place,
        "# a comment",
        mesh("chair", quality="draft"),
        "{not json",
        mesh("absent", inputs=["b.jpg"]),
        mesh("odd", quality="best"),
        mesh("helpless", help=""),
        {"verb": "extract", "inputs": ["out/chair"], "out": "out/killed", "device": "cpu"},
        {"verb": "sculpt", "inputs": []},
        "",
        mesh("table", region=[-1, -1, 0, 1, 1, 2]),
    )
    report, rows = run(place)
    assert [(row["line"], row["exit_code"]) for row in rows] == [
        (2, 0),
        (3, 2),
        (4, 2),
        (5, 2),
        (6, 2),
        (7, 5),
        (8, 2),
        (10, 0),
    ]
    codes = [json.loads(Path(row["report"]).read_text())["error"] for row in rows]
    assert [code and code["code"] for code in codes] == [
        None, "BAD_JOB", "NOT_FOUND", "BAD_ARGUMENT", "BAD_JOB", "WORKER_DIED", "BAD_JOB", None,
    ]  # fmt: skip
    assert (report["status"], report["exit_code"]) == ("partly", 3)
    counts = {key: value for key, value in report["metrics"].items() if key.startswith("jobs")}
    assert counts == {"jobs": 8, "jobs_done": 2, "jobs_partly": 0, "jobs_failed": 6, "jobs_skipped": 0}
    assert len(report["metrics"]["partly"]) == 6
    assert json.loads((place / "out" / "table" / "scene.json").read_text())["settings"]["region"] == [
        -1,
        -1,
        0,
        1,
        1,
        2,
    ]


def test_resume_skips_what_is_finished_and_unchanged(place):
    write(place, mesh("a"), mesh("b"), mesh("c", inputs=["later.jpg"]))
    _, first = run(place)
    assert [row["exit_code"] for row in first] == [0, 0, 2]
    (place / "later.jpg").write_bytes(b"jpeg")
    write(place, mesh("a"), mesh("b", seed=2), mesh("c", inputs=["later.jpg"]))
    stamp = (place / "out" / "a" / "scene.json").stat().st_mtime_ns
    report, rows = run(place, "--resume")
    assert [(row["exit_code"], row["skipped"]) for row in rows] == [(0, True), (0, False), (0, False)]
    assert (place / "out" / "a" / "scene.json").stat().st_mtime_ns == stamp
    assert (report["status"], report["metrics"]["jobs_skipped"]) == ("done", 1)
    (place / "out" / "a" / "scene.json").unlink()
    (place / "out" / "a" / "mesh.txt").unlink()
    _, rows = run(place, "--resume")
    assert [row["skipped"] for row in rows] == [False, True, True]


@pytest.mark.parametrize(
    ("lines", "code"), [([], "NO_JOBS"), ([mesh("a"), mesh("a")], "NAME_TWICE"), ([mesh("../a")], None)]
)
def test_a_file_that_cannot_be_used(place, lines, code):
    write(place, *lines)
    report, rows = run(place)
    if code is None:  # a name that would leave the folder is a bad line, not a bad file
        assert (rows[0]["name"], rows[0]["exit_code"]) == ("job-0001", 2)
        assert not (place / "a").exists()
    else:
        assert (report["exit_code"], report["error"]["code"]) == (2, code)


def test_a_missing_file_is_2(place):
    report, _ = run(place)
    assert (report["exit_code"], report["error"]["code"]) == (2, "NOT_FOUND")


def test_heads_are_jobs_too(place):
    """A verb of two words keeps its place before the report; switches are true or false."""
    path = write(
        place,
        {"verb": "head sample", "seed": 4, "truncation": 0.5, "name": "four"},
        {
            "verb": "head blend",
            "inputs": ["four", "a 1.jpg"],
            "region": "nose",
            "poisson": True,
            "shape-only": False,
        },
    )
    sample, blend = (
        cli.build_parser().parse_args(job.arguments) for job in batch.read_jobs(path, place / "out")
    )
    assert (sample.action, sample.seed, sample.truncation) == ("sample", 4, 0.5)
    assert sample.report == str(place / "out" / "four.report.json")
    assert (blend.action, blend.region, blend.poisson, blend.shape_only) == ("blend", "nose", True, False)
    assert blend.inputs == [str(place / "four"), str(place / "a 1.jpg")]
