# SPDX-License-Identifier: GPL-3.0-or-later
"""The line of jobs that a panel draws."""

import sys
import time
from pathlib import Path

import pytest
from maquette.core.errors import MissingError
from maquette.core.jobs.registry import Registry
from maquette.core.jobs.request import Request
from maquette.core.jobs.runner import Worker

FAKE = Path(__file__).with_name("fake_worker.py")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    registry = Registry(
        lambda: Path(sys.executable), make_worker=lambda python, idle: Worker(python, idle, FAKE)
    )
    yield registry
    registry.shutdown()


def submit(registry, folder, verb, name=""):
    return registry.submit(Request(verb, settings={"device": "cpu"}, out=str(folder / (name or verb))))


def poll_until(registry, condition):
    ends, changed = time.monotonic() + 20, []
    while not condition():
        assert time.monotonic() < ends, [(e.title, e.state) for e in registry.entries]
        changed += [(entry.title, entry.state) for entry in registry.poll()]
        time.sleep(0.01)
    return changed


def test_jobs_run_in_the_order_they_came(registry, tmp_path):
    for name in ("a", "b", "c"):
        submit(registry, tmp_path, "echo", name)
    assert [entry.state for entry in registry.entries] == ["queued"] * 3
    changed = poll_until(registry, lambda: not registry.busy)
    finished = [title for title, state in changed if state == "done"]
    assert finished == ["a", "b", "c"]
    started = [changed.index((name, "running")) for name in "abc"]
    assert started == sorted(started)
    assert changed.index(("a", "done")) < changed.index(("b", "running"))
    entry = registry.entries[0]
    assert (entry.progress, entry.warnings, entry.result) == (1.0, ["A word."], tmp_path / "a")
    assert entry.preview is not None and entry.report["seed"] == 7
    assert len({e.report["metrics"]["pid"] for e in registry.entries}) == 1


def test_cancel_of_a_running_and_a_waiting_job(registry, tmp_path):
    first, second, third = (
        submit(registry, tmp_path, v, n) for v, n in (("busy", "a"), ("echo", "b"), ("echo", "c"))
    )
    poll_until(registry, lambda: registry.find(first).progress > 0)
    registry.cancel(second)
    registry.poll()
    assert [entry.state for entry in registry.entries] == ["running", "cancelled", "queued"]
    began = time.monotonic()
    registry.cancel(first)
    poll_until(registry, lambda: registry.find(first).over)
    assert time.monotonic() - began < 2.0
    poll_until(registry, lambda: not registry.busy)
    assert [entry.state for entry in registry.entries] == ["cancelled", "cancelled", "done"]
    assert registry.find(first).error is None
    registry.forget(second)
    assert [entry.id for entry in registry.entries] == [first, third]


def test_a_failed_job_does_not_stop_the_line(registry, tmp_path):
    for verb in ("killed", "fault", "echo"):
        submit(registry, tmp_path, verb)
    poll_until(registry, lambda: not registry.busy)
    assert [entry.state for entry in registry.entries] == ["failed", "failed", "done"]
    assert [entry.error and entry.error["code"] for entry in registry.entries] == [
        "WORKER_DIED",
        "CRASH",
        None,
    ]
    assert "KeyError" in registry.entries[1].log_file.read_text()


def test_without_an_engine_the_job_fails_with_a_remedy(tmp_path):
    def engine():
        raise MissingError("ENGINE_MISSING", "The engine is not set up.", "Press Set Up Engine.")

    registry = Registry(engine)
    submit(registry, tmp_path, "echo")
    (entry,) = registry.poll()
    assert (entry.state, entry.error["remedy"]) == ("failed", "Press Set Up Engine.")
    assert not registry.busy


def test_shutdown_cancels_everything_and_leaves_nothing(registry, tmp_path):
    ids = [submit(registry, tmp_path, "busy"), submit(registry, tmp_path, "echo")]
    poll_until(registry, lambda: registry.find(ids[0]).progress > 0)
    registry.shutdown()
    assert [registry.find(i).state for i in ids] == ["cancelled", "cancelled"]
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
