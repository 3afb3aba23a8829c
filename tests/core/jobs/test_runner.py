# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker seen from Blender's side, with real processes and verbs that misbehave on purpose."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from maquette.core.errors import MissingError
from maquette.core.jobs.request import Request
from maquette.core.jobs.runner import Job, Worker
from maquette.core.results import read_result

FAKE = Path(__file__).with_name("fake_worker.py")
PATIENCE = 20.0


@pytest.fixture
def worker(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    worker = Worker(Path(sys.executable), script=FAKE)
    yield worker
    worker.kill()


def request_for(verb, folder, **settings):
    return Request(verb, settings={"device": "cpu", **settings}, out=str(folder / f"out of {verb} – ü"))


def run(worker, verb, folder, **settings):
    job = Job(worker, request_for(verb, folder, **settings))
    job.start()
    return job, job.wait(PATIENCE)


def wait_for(condition):
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "timed out"
        time.sleep(0.02)


def alive(pid):
    """Whether the process exists and is more than a zombie waiting for init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_job_leaves_a_result_and_the_worker_stays_warm(worker, tmp_path):
    job = Job(worker, request_for("echo", tmp_path))
    job.start()
    seen = []
    wait_for(lambda: seen.extend(job.poll()) or job.outcome)
    assert [m["type"] for m in seen if m["type"] != "progress"] == [
        "started",
        "folder",
        "stage",
        "stage",
        "preview",
        "warning",
        "done",
    ]
    # Stages weigh 1 and 3: half of the first is 1/8 of the job, the start of the second 1/4.
    assert [m["progress"] for m in seen if m.get("stage")][:3] == [0.0, 0.125, 0.25]
    result = read_result(Path(job.outcome["result"]))
    assert (result.seed, result.warnings) == (7, ["A word."])
    assert set(result.timings_s) == {"first", "second"}
    report = job.outcome["report"]
    assert report["exit_code"] == 0 and report["peak_memory_bytes"] > 5e6
    assert report["metrics"]["not_a_number"] is None
    assert report["metrics"]["nice"] >= 10
    _, again = run(worker, "echo", tmp_path)
    assert again["report"]["metrics"]["pid"] == report["metrics"]["pid"] == worker.pid
    assert leftovers(tmp_path) == []


def test_native_prints_and_greedy_children_do_not_break_the_protocol(worker, tmp_path):
    job, outcome = run(worker, "noisy", tmp_path)
    assert outcome["type"] == "done"
    assert "from a shell" in (job.folder / "log.txt").read_text()
    assert run(worker, "echo", tmp_path)[1]["type"] == "done"


@pytest.mark.parametrize(
    ("verb", "code", "exit_code"),
    [
        ("memory", "OUT_OF_MEMORY", 5),
        pytest.param(
            "disk",
            "DISK_FULL",
            5,
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full"),
        ),
        ("fault", "CRASH", 5),
        ("bad_input", "NO_OVERLAP", 2),
        ("nonsense", "UNKNOWN_VERB", 2),
    ],
)
def test_failures_are_typed_and_the_worker_lives(worker, tmp_path, verb, code, exit_code):
    job, outcome = run(worker, verb, tmp_path)
    assert (outcome["type"], outcome["code"], outcome["exit_code"]) == ("failed", code, exit_code)
    assert outcome["remedy"] and "Traceback" not in outcome["message"]
    if verb == "fault":
        assert str(job.folder / "log.txt") in outcome["message"]
        assert "KeyError: 'missing'" in (job.folder / "log.txt").read_text()
    pid = worker.pid
    assert run(worker, "echo", tmp_path)[1]["report"]["metrics"]["pid"] == pid
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("verb", ["segfault", "killed"])
def test_a_dead_worker_is_a_failed_job_and_the_next_job_works(worker, tmp_path, verb):
    _, outcome = run(worker, verb, tmp_path)
    assert outcome["code"] == "WORKER_DIED" and str(worker.log_file) in outcome["message"]
    assert leftovers(tmp_path) == []
    assert run(worker, "echo", tmp_path)[1]["type"] == "done"


def test_a_child_that_holds_the_pipes_does_not_hide_the_death(worker, tmp_path):
    pids = tmp_path / "pids"
    began = time.monotonic()
    _, outcome = run(worker, "forked", tmp_path, pids=str(pids))
    assert outcome["code"] == "WORKER_DIED" and time.monotonic() - began < 5.0
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_a_kill_by_the_system_for_lack_of_memory_says_so(worker, tmp_path, monkeypatch):
    counts = iter([3, 4])
    monkeypatch.setattr("maquette.core.jobs.failures.memory_killings", lambda: next(counts))
    assert run(worker, "killed", tmp_path)[1]["code"] == "OUT_OF_MEMORY"


def test_cancel_of_a_job_that_listens(worker, tmp_path):
    job = Job(worker, request_for("busy", tmp_path))
    job.start()
    wait_for(lambda: any(m["type"] == "progress" for m in job.poll()))
    pid, began = worker.pid, time.monotonic()
    job.cancel()
    assert job.wait(PATIENCE)["code"] == "CANCELLED"
    assert time.monotonic() - began < 2.0
    assert leftovers(tmp_path) == []
    assert run(worker, "echo", tmp_path)[1]["report"]["metrics"]["pid"] == pid


def test_cancel_of_a_stuck_job_ends_the_whole_tree(worker, tmp_path):
    pids = tmp_path / "pids"
    job = Job(worker, request_for("stuck", tmp_path, pids=str(pids)))
    job.start()
    wait_for(lambda: job.poll() is not None and pids.exists() and pids.read_text().count(" "))
    stuck, grandchild = map(int, pids.read_text().split())
    assert alive(stuck) and alive(grandchild)
    began = time.monotonic()
    job.cancel()
    assert job.wait(PATIENCE)["code"] == "CANCELLED"
    assert time.monotonic() - began < 2.0
    wait_for(lambda: not alive(stuck) and not alive(grandchild))
    assert leftovers(tmp_path) == []
    assert run(worker, "echo", tmp_path)[1]["type"] == "done"


def test_kill_at_ten_random_moments(worker, tmp_path):
    """From before the interpreter is up to the middle of a job: always a typed failure, and the next job works."""
    chance = random.Random(4)
    for _ in range(10):
        job = Job(worker, request_for("busy", tmp_path))
        job.start()
        ends = time.monotonic() + chance.uniform(0.0, 0.6)
        while time.monotonic() < ends:
            job.poll()
            time.sleep(0.005)
        os.kill(worker.pid, signal.SIGKILL)
        assert job.wait(PATIENCE)["code"] == "WORKER_DIED"
        assert leftovers(tmp_path) == []
        assert run(worker, "echo", tmp_path)[1]["type"] == "done"


def test_idle_worker_leaves_and_the_next_job_starts_another(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    worker = Worker(Path(sys.executable), idle_s=0.1, script=FAKE)
    first = run(worker, "echo", tmp_path)[1]["report"]["metrics"]["pid"]
    wait_for(lambda: not alive(first))
    # Its end has not been noticed: the order goes into a broken pipe, and the job starts a worker anew.
    assert worker.running
    second = run(worker, "echo", tmp_path)[1]["report"]["metrics"]["pid"]
    assert second != first
    worker.kill()


def test_release_keeps_the_worker(worker, tmp_path):
    pid = run(worker, "echo", tmp_path)[1]["report"]["metrics"]["pid"]
    worker.release()
    assert run(worker, "echo", tmp_path)[1]["report"]["metrics"]["pid"] == pid


def test_the_end_of_orders_ends_a_stuck_worker_and_its_children(worker, tmp_path):
    """As when Blender is killed: nobody is left to end the tree from outside."""
    pids = tmp_path / "pids"
    job = Job(worker, request_for("stuck", tmp_path, pids=str(pids)))
    job.start()
    wait_for(lambda: job.poll() is not None and pids.exists() and pids.read_text().count(" "))
    stuck, grandchild = map(int, pids.read_text().split())
    worker._tree.orders.close()
    wait_for(lambda: not alive(stuck) and not alive(grandchild))
    assert leftovers(tmp_path) == []


def test_a_missing_engine_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    with pytest.raises(MissingError) as caught:
        Job(Worker(tmp_path / "no python"), request_for("echo", tmp_path)).start()
    assert caught.value.code == "ENGINE_MISSING"


def test_bootstrap_needs_no_environment_and_loads_no_blender(tmp_path):
    """The real first file, isolated, from a copy of nothing but its own place: lists what importing the worker loads."""
    bootstrap = Path(__file__).resolve().parents[3] / "core" / "jobs" / "bootstrap.py"
    code = (
        f"import runpy, sys, json; runpy.run_path({str(bootstrap)!r})\n"
        "import maquette.core.jobs.worker as w\n"
        "print(json.dumps([w.__name__, sys.flags.utf8_mode, 'bpy' in sys.modules, 'torch' in sys.modules]))"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(out.stdout) == ["maquette.core.jobs.worker", 1, False, False]
