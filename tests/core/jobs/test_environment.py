# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's environment is found, made offline from a lock file, refused with a remedy, and leaves nothing half-made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from maquette.core.errors import Cancelled, FailedError, MissingError
from maquette.core.jobs import base_python, environment

from tests.core.jobs.small_engine import write_engine, write_wheel


@pytest.fixture
def engine(tmp_path, monkeypatch) -> Path:
    """Five small wheels, their lock file for this Python, and an empty data folder; returns the folder of all three."""
    wheels, locks = tmp_path / "wheels", tmp_path / "locks"
    wheels.mkdir()
    locks.mkdir()
    base = base_python.ask(Path(sys.executable))
    write_engine(wheels, locks / f"{base.system}-{base.tag}-cpu.txt")
    monkeypatch.setattr(base_python, "LOCKS", locks)
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory) -> Path:
    """A new virtual environment, to be copied."""
    folder = tmp_path_factory.mktemp("empty") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def quick(engine, empty_environment, monkeypatch) -> Path:
    """`engine`, with the environment itself copied instead of made: that step takes seconds each time."""

    def copy(setup, folder: Path) -> Path:
        shutil.copytree(empty_environment, folder, symlinks=True)
        return folder / "bin" / "python"

    monkeypatch.setattr(environment._Setup, "_environment", copy)
    return engine


def leftovers(engine: Path) -> list[str]:
    folder = engine / "data" / "engine"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_made_offline_found_and_replaced(engine):
    sent = []
    python = environment.create_environment(Path(sys.executable), engine / "wheels", send=sent.append)
    assert (
        subprocess.run(
            [python, "-c", "import torch; print(torch.__version__)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        == "2.0\n"
    )
    assert environment.find_engine() == environment.EngineStatus(python, "private")
    places = [message["progress"] for message in sent if message["type"] in ("stage", "progress")]
    assert places == sorted(places)
    assert 0.8 < places[-1] < 1.0
    assert any("Successfully installed" in message.get("text", "") for message in sent)

    lock = next((engine / "locks").iterdir())
    lock.write_text("# a later version\n" + lock.read_text(encoding="utf-8"), encoding="utf-8")
    assert environment.find_engine().outdated
    second = environment.create_environment(Path(sys.executable), engine / "wheels")
    assert second != python
    assert not python.exists()
    assert environment.find_engine() == environment.EngineStatus(second, "private")
    assert sorted(leftovers(engine)) == sorted(["engine.json", second.parents[1].name])


def test_changed_file_is_refused(quick):
    write_wheel(quick / "wheels", "scipy", "__version__ = 'not the one that was tested'\n")
    with pytest.raises(FailedError) as caught:
        environment.create_environment(Path(sys.executable), quick / "wheels")
    assert caught.value.code == "HASH_MISMATCH"
    assert leftovers(quick) == []


def test_missing_file_is_named(quick):
    (quick / "wheels" / "pycolmap-2.0-py3-none-any.whl").unlink()
    with pytest.raises(MissingError, match="pycolmap") as caught:
        environment.create_environment(Path(sys.executable), quick / "wheels")
    assert caught.value.code == "ENGINE_FILES_MISSING"
    assert leftovers(quick) == []


def test_folder_without_torch_is_refused_before_the_start(engine):
    with pytest.raises(MissingError, match="no torch") as caught:
        environment.create_environment(Path(sys.executable), engine / "locks")
    assert caught.value.code == "ENGINE_FILES_MISSING"


def test_engine_that_does_not_load_is_not_kept(quick):
    digest = write_wheel(quick / "wheels", "torch", "raise ImportError('libgomp.so.1 is missing')\n")
    lock = next((quick / "locks").iterdir())
    rest = lock.read_text(encoding="utf-8").split("numpy==", 1)[1]
    lock.write_text(f"torch==2.0 \\\n    --hash=sha256:{digest}\nnumpy=={rest}", encoding="utf-8")
    with pytest.raises(FailedError, match=r"libgomp\.so\.1 is missing") as caught:
        environment.create_environment(Path(sys.executable), quick / "wheels")
    assert caught.value.code == "ENGINE_BROKEN"
    assert environment.find_engine().origin != "private"
    assert leftovers(quick) == []


@pytest.mark.parametrize("when", ["environment", "packages"])
def test_cancel_ends_the_tree_and_leaves_nothing(engine, when):
    asked = []
    before = {process.pid for process in psutil.Process().children(recursive=True)}

    def is_cancelled() -> bool:
        return bool(asked) and time.monotonic() > asked[0] + 0.3

    def send(message):
        if message.get("stage") == when and not asked:
            asked.append(time.monotonic())

    began = time.monotonic()
    with pytest.raises(Cancelled):
        environment.create_environment(
            Path(sys.executable), engine / "wheels", send=send, is_cancelled=is_cancelled
        )
    assert time.monotonic() - max(began, asked[0]) < 2.0
    assert {process.pid for process in psutil.Process().children(recursive=True)} == before
    assert leftovers(engine) == []


def test_network_only_with_permission(engine):
    with pytest.raises(MissingError) as caught:
        environment.create_environment(Path(sys.executable))
    assert caught.value.code == "ONLINE_ACCESS_OFF"


def test_full_disk_is_told_before_the_start(engine, monkeypatch):
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**30})())
    with pytest.raises(FailedError) as caught:
        environment.create_environment(Path(sys.executable), engine / "wheels")
    assert caught.value.code == "DISK_FULL"
    assert leftovers(engine) == []


def test_python_without_lock_file_offers_others(engine):
    lock = next((engine / "locks").iterdir())
    lock.rename(lock.with_name(lock.name.replace("py311", "py399")))
    with pytest.raises(MissingError, match=r"No engine is prepared for Python 3\.11") as caught:
        environment.create_environment(Path(sys.executable), engine / "wheels")
    assert caught.value.code == "NO_LOCK_FILE"
    assert "Choose another Base Python" in caught.value.remedy


def test_not_a_python(engine):
    with pytest.raises(MissingError, match="does not run") as caught:
        environment.create_environment(engine / "nowhere" / "python", engine / "wheels")
    assert caught.value.code == "BASE_PYTHON_UNUSABLE"


def test_order_of_search(engine, monkeypatch):
    one, two = engine / "one", engine / "two"
    assert environment.find_engine().origin == "running"
    two.touch()
    assert environment.find_engine(str(two)) == environment.EngineStatus(two, "preferences")
    one.touch()
    monkeypatch.setenv(environment.VARIABLE, str(one))
    assert environment.find_engine(str(two)) == environment.EngineStatus(one, "variable")
    one.unlink()
    with pytest.raises(MissingError, match=environment.VARIABLE) as caught:
        environment.engine_python(str(two))
    assert caught.value.code == "ENGINE_NOT_THERE"


def test_lock_files_by_system_python_and_device(monkeypatch):
    def names(version, system, device):
        base = base_python.BasePython(Path("python"), version, system, True)
        return [path.stem for path in base_python.lock_files(base, device)]

    assert names((3, 11, 7), "linux-x64", "cpu") == ["linux-x64-py311-cpu", "linux-x64-py311-cuda"]
    assert names((3, 11, 7), "linux-x64", "cuda") == ["linux-x64-py311-cuda", "linux-x64-py311-cpu"]
    assert names((3, 13, 0), "linux-x64", "cpu") == ["linux-x64-py313-cuda"]
    assert names((3, 13, 0), "macos-arm64", "auto") == ["macos-arm64-py313-mps"]
    assert names((3, 14, 0), "linux-x64", "auto") == []
    monkeypatch.setattr(base_python, "has_nvidia_driver", lambda: True)
    assert names((3, 11, 7), "linux-x64", "auto")[0] == "linux-x64-py311-cuda"


def test_other_pythons_are_found():
    found = base_python.find_base_pythons()
    assert found
    assert all(base.version[:2] in ((3, 11), (3, 13)) for base in found)
    assert len({(base.path.resolve(), base.version) for base in found}) == len(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_real_engine_from_a_wheel_folder(tmp_path, monkeypatch):
    """Every file of the lock into a folder, then a set-up without network; about 2 GB of disk."""
    base = base_python.ask(Path(sys.executable))
    lock = base_python.lock_files(base, "cpu")[0]
    fetch = [sys.executable, "-m", "pip", "download", "--require-hashes", "--only-binary", ":all:", "--quiet"]
    done = subprocess.run(
        [*fetch, "-r", lock, "--dest", tmp_path / "wheels"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(
            f"the files of {lock.name} cannot be fetched here: {done.stderr.strip().splitlines()[-1]}"
        )
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    python = environment.create_environment(Path(sys.executable), tmp_path / "wheels")
    code = (
        "import torch, pycolmap, xatlas, trimesh; print((torch.ones(2, 2) @ torch.ones(2, 2)).sum().item())"
    )
    assert (
        subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
        == "8.0\n"
    )
