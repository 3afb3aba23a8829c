# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line's contract: exit codes, reports, and nothing half-made. Pipelines are replaced by small ones."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from maquette.core import cli, pipelines
from maquette.core.errors import InputError
from maquette.core.jobs import blend_file, foreground
from maquette.core.jobs.runner import Worker
from maquette.core.results import Result

FAKE = Path(__file__).parent / "jobs" / "fake_worker.py"
REPORT_KEYS = {
    "status", "exit_code", "inputs", "outputs", "method", "model", "device", "seed", "timings_s", "peak_memory_bytes",
    "metrics", "warnings", "error",
}  # fmt: skip


def good(request, folder, progress):
    with progress.stage("fit"):
        progress.update(0.5)
        progress.warning("The light changed.")
    (folder / "mesh.npz").write_bytes(b"mesh")
    return Result(
        name="x",
        method="photos",
        seed=request.settings["seed"],
        settings=request.settings,
        metrics={"registered": 3},
    )


def partly(request, folder, progress):
    return Result(name="x", method="photos", metrics={"partly": ["IMG_3.jpg has no camera."]})


def unusable(request, folder, progress):
    (folder / "half.bin").write_bytes(b"half")
    raise InputError("NO_OVERLAP", "The photos do not overlap.", "Take more photos in between.")


def faulty(request, folder, progress):
    (folder / "half.bin").write_bytes(b"half")
    raise KeyError("weights")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a space and letters beyond ASCII, holding one photo; the data folder is elsewhere."""
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    for name in ("MAQUETTE_BLENDER", "MAQUETTE_BLENDER_PYTHON", "MAQUETTE_ENGINE_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(pipelines.PIPELINES, "mesh", good)
    place = tmp_path / "Fotos für Zoë – 猫"
    place.mkdir()
    (place / "Bild 1.jpg").write_bytes(b"jpeg")
    return place


def run(place, *arguments):
    report = place / "report.json"
    report.unlink(missing_ok=True)
    code = cli.main([*map(str, arguments), "--report", str(report)])
    content = json.loads(report.read_text(encoding="utf-8"))
    assert set(content) == REPORT_KEYS
    assert content["exit_code"] == code
    return content


def mesh(place, *more):
    return run(place, "mesh", place / "Bild 1.jpg", "--out", place / "Ergebnis ß", "--device", "cpu", *more)


def test_a_finished_mesh_and_its_report(place, capsys):
    report = mesh(place, "--seed", "5", "--quality", "draft", "--region", "-1", "-1", "0", "1", "1", "2")
    assert (report["status"], report["exit_code"], report["error"]) == ("done", 0, None)
    assert report["inputs"] == [str(place / "Bild 1.jpg")]
    assert report["outputs"] == {"folder": str(place / "Ergebnis ß")}
    assert (report["method"], report["seed"], report["metrics"]) == ("photos", 5, {"registered": 3})
    assert set(report["timings_s"]) == {"fit", "total"} and report["peak_memory_bytes"] > 1e7
    assert report["warnings"] == ["The light changed."]
    scene = json.loads((place / "Ergebnis ß" / "scene.json").read_text())
    assert scene["settings"]["quality"] == "draft" and scene["settings"]["region"] == [-1, -1, 0, 1, 1, 2]
    out, err = capsys.readouterr()
    assert out == f"{place / 'Ergebnis ß'}\n"
    assert "50% fit" in err or "0% fit" in err
    assert "warning: The light changed." in err


def test_an_older_result_is_replaced_but_a_folder_of_other_things_is_not(place):
    assert mesh(place)["exit_code"] == 0
    assert mesh(place)["exit_code"] == 0
    (place / "Ergebnis ß" / "scene.json").unlink()
    report = mesh(place)
    assert (report["exit_code"], report["error"]["code"]) == (2, "OUT_NOT_EMPTY")
    assert (place / "Ergebnis ß" / "mesh.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["mesh", "--out", "{p}/out"], "NO_IMAGE"),
        (["mesh", "{p}/absent.jpg", "--out", "{p}/out"], "NOT_FOUND"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/out", "--masks", "{p}/absent"], "NOT_FOUND"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/Bild 1.jpg"], "OUT_NOT_WRITABLE"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/Bild 1.jpg/out"], "OUT_NOT_WRITABLE"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "/proc/out"], "OUT_NOT_WRITABLE"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/out", "--glb", "{p}/Bild 1.jpg/x.glb"], "OUT_NOT_WRITABLE"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}"], "OUT_NOT_EMPTY"),
        (["mesh", "{p}/Bild 1.jpg"], "BAD_ARGUMENT"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/out", "--quality", "best"], "BAD_ARGUMENT"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/out", "--texture-size", "9000"], "BAD_SETTING"),
        (["extract", "{p}", "--out", "{p}/out", "--resolution", "-1"], "BAD_SETTING"),
        (["mesh", "{p}/Bild 1.jpg", "--out", "{p}/out", "--polish"], "BAD_ARGUMENT"),
        (["sculpt"], "BAD_ARGUMENT"),
        ([], "BAD_ARGUMENT"),
    ],
)
def test_bad_arguments_are_told_in_the_report_and_make_nothing(place, arguments, code):
    before = sorted(place.iterdir())
    report = run(place, *(argument.format(p=place) for argument in arguments))
    assert (report["status"], report["exit_code"], report["error"]["code"]) == ("failed", 2, code)
    assert report["error"]["remedy"]
    assert sorted(set(place.iterdir()) - {place / "report.json"}) == before


def test_photos_inside_the_output_folder_are_not_replaced(place):
    mesh(place)
    photo = place / "Ergebnis ß" / "photo.jpg"
    photo.write_bytes(b"jpeg")
    report = run(place, "mesh", photo, "--out", place / "Ergebnis ß")
    assert (report["exit_code"], report["error"]["code"]) == (2, "OUT_HOLDS_INPUT")
    assert photo.exists()


@pytest.mark.parametrize(
    ("pipeline", "status", "exit_code", "code"),
    [(unusable, "failed", 2, "NO_OVERLAP"), (faulty, "failed", 5, "CRASH")],
)
def test_a_failed_job_leaves_nothing(place, monkeypatch, capsys, pipeline, status, exit_code, code):
    monkeypatch.setitem(pipelines.PIPELINES, "mesh", pipeline)
    report = mesh(place)
    assert (report["status"], report["exit_code"], report["error"]["code"]) == (status, exit_code, code)
    assert {path.name for path in place.iterdir()} == {"Bild 1.jpg", "report.json"}
    assert report["error"]["remedy"] in (err := capsys.readouterr().err) and "Traceback" not in err
    if code == "CRASH":
        (log,) = (place.parent / "data" / "logs").glob("maquette-*.log")
        assert str(log) in report["error"]["message"] and "KeyError: 'weights'" in log.read_text()


def test_done_in_part_is_3_and_the_result_stands(place, monkeypatch, capsys):
    monkeypatch.setitem(pipelines.PIPELINES, "mesh", partly)
    report = mesh(place)
    assert (report["status"], report["exit_code"]) == ("partly", 3)
    assert (place / "Ergebnis ß" / "scene.json").exists()
    assert "not done: IMG_3.jpg has no camera." in capsys.readouterr().err


def test_no_blender_for_a_blend_is_4_before_any_work(place, monkeypatch):
    monkeypatch.setattr(blend_file, "ROOT", place)
    monkeypatch.setenv("PATH", str(place))
    report = mesh(place, "--blend", place / "x.blend")
    assert (report["exit_code"], report["error"]["code"]) == (4, "BLENDER_MISSING")
    assert not (place / "Ergebnis ß").exists()
    monkeypatch.setenv("MAQUETTE_BLENDER", str(place / "blender"))
    assert "MAQUETTE_BLENDER" in mesh(place, "--blend", place / "x.blend")["error"]["message"]


def test_a_blender_that_fails_leaves_the_job_done_in_part(place, monkeypatch):
    broken = place / "blender"
    broken.write_text("#!/bin/sh\necho no display\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("MAQUETTE_BLENDER", str(broken))
    report = mesh(place, "--blend", place / "x.blend")
    assert (report["status"], report["exit_code"], report["error"]["code"]) == (
        "partly",
        3,
        "BLEND_NOT_WRITTEN",
    )
    assert "no display" in report["error"]["message"]
    assert report["outputs"] == {"folder": str(place / "Ergebnis ß")}


def test_a_blender_that_works_gets_the_contract_of_the_script(place, monkeypatch):
    working = place / "blender"
    working.write_text('#!/bin/sh\nwhile [ "$1" != "--blend" ]; do echo "$1"; shift; done\ntouch "$2"\n')
    working.chmod(0o755)
    monkeypatch.setenv("MAQUETTE_BLENDER", str(working))
    report = mesh(place, "--blend", place / "neu" / "x.blend")
    assert (report["exit_code"], report["outputs"]["blend"]) == (0, str(place / "neu" / "x.blend"))
    command = blend_file.find_blender()
    assert command[1:3] == ["-b", "--factory-startup"] and command[-2:] == [str(blend_file.SCRIPT), "--"]
    monkeypatch.setenv("MAQUETTE_BLENDER", sys.executable)
    assert blend_file.find_blender() == [sys.executable, str(blend_file.SCRIPT)]


def test_without_an_engine_it_is_4(place, monkeypatch):
    monkeypatch.setattr(foreground, "is_engine", lambda: False)
    monkeypatch.setenv("MAQUETTE_ENGINE_PYTHON", str(place / "no python"))
    report = mesh(place)
    assert (report["exit_code"], report["error"]["code"]) == (4, "ENGINE_NOT_THERE")


@pytest.fixture
def from_blender(place, monkeypatch):
    """As inside Blender: the pipelines run in an engine process, here one with the tests' verbs."""
    monkeypatch.setattr(foreground, "is_engine", lambda: False)
    monkeypatch.setenv("MAQUETTE_ENGINE_PYTHON", sys.executable)
    monkeypatch.setattr(cli, "Worker", functools.partial(Worker, script=FAKE))
    return place


def test_through_the_engine_the_report_is_the_same(from_blender):
    report = mesh(from_blender)
    assert (report["status"], report["method"], report["seed"]) == ("done", "fake", 7)
    assert set(report["timings_s"]) == {"first", "second", "total"} and report["peak_memory_bytes"] > 1e7
    assert report["warnings"] == ["A word."] and report["metrics"]["pid"] != os.getpid()
    assert (from_blender / "Ergebnis ß" / "mesh.txt").exists()


def test_a_dead_engine_is_5(from_blender):
    mesh(from_blender)
    report = run(
        from_blender, "extract", from_blender / "Ergebnis ß", "--out", from_blender / "new", "--device", "cpu"
    )
    assert (report["exit_code"], report["error"]["code"]) == (5, "WORKER_DIED")
    assert {path.name for path in from_blender.iterdir()} == {"Bild 1.jpg", "Ergebnis ß", "report.json"}


CHILD = """
import sys, time
from pathlib import Path
from maquette.core import cli, pipelines
def slow(request, folder, progress):
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(request.out).with_name("pid").write_text(f"{child.pid}\\n")
    while True: time.sleep(0.05)
pipelines.PIPELINES["mesh"] = slow
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_130_and_leaves_nothing(place, number):
    arguments = [
        "mesh",
        place / "Bild 1.jpg",
        "--out",
        place / "out",
        "--device",
        "cpu",
        "--report",
        place / "report.json",
    ]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stderr=subprocess.PIPE)
    pid, ends = place / "pid", time.monotonic() + 60
    while not (pid.exists() and pid.read_text().endswith("\n")):
        assert time.monotonic() < ends and child.poll() is None
        time.sleep(0.02)
    began = time.monotonic()
    child.send_signal(number)
    assert child.wait(30) == 130
    assert time.monotonic() - began < 2.0
    report = json.loads((place / "report.json").read_text())
    assert (report["status"], report["exit_code"], report["error"]["code"]) == ("cancelled", 130, "CANCELLED")
    assert {path.name for path in place.iterdir()} == {"Bild 1.jpg", "report.json", "pid"}
    grandchild = Path("/proc") / pid.read_text().strip() / "stat"
    assert not grandchild.exists() or grandchild.read_text().rsplit(")", 1)[1].split()[0] == "Z"


FROM_BLENDER = """
import functools, sys
from pathlib import Path
from maquette.core import cli
from maquette.core.jobs import foreground
from maquette.core.jobs.runner import Worker
foreground.is_engine = lambda: False
cli.Worker = functools.partial(Worker, script=Path(sys.argv[1]))
sys.exit(cli.main(sys.argv[2:]))
"""


def test_ctrl_c_reaches_the_engine(place):
    environment = os.environ | {"MAQUETTE_ENGINE_PYTHON": sys.executable}
    arguments = [FAKE, "poses", place / "Bild 1.jpg", "--out", place / "out", "--device", "cpu"]
    child = subprocess.Popen(
        [sys.executable, "-c", FROM_BLENDER, *arguments], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert "busy" in child.stderr.readline()
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    assert time.monotonic() - began < 2.0
    assert {path.name for path in place.iterdir()} == {"Bild 1.jpg"}


def test_importing_the_command_line_loads_neither_torch_nor_blender(tmp_path):
    code = "import sys, maquette.core.cli; print([m for m in ('torch', 'bpy', 'scipy', 'PIL', 'trimesh') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout == "[]\n"


def test_help_names_every_verb_and_ends_well(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {verb} " in shown for verb in ("mesh", "poses", "extract", "bake", "batch", "doctor"))
