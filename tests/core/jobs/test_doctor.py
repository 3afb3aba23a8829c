# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking an engine what it can do: what it answers, an engine that says nothing, none at all, and giving up."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from maquette.core.errors import Cancelled, FailedError, MissingError
from maquette.core.jobs import doctor


def script(path: Path, body: str) -> Path:
    """A stand-in for the engine's Python."""
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for the interpreter")
def test_answers(tmp_path: Path) -> None:
    talking = script(tmp_path / "talking", "print('[1]'); print('{\"python\": \"3.11\"}'); print('bye')")
    assert doctor.examine(talking) == {"python": "3.11"}
    with pytest.raises(FailedError) as broken:
        doctor.examine(script(tmp_path / "silent", "sys.exit(1)"))
    assert broken.value.code == "ENGINE_BROKEN"
    with pytest.raises(MissingError) as missing:
        doctor.examine(tmp_path / "nowhere")
    assert missing.value.code == "ENGINE_MISSING"


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for the interpreter")
def test_giving_up_ends_it_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Cancelled):
        doctor.examine(script(tmp_path / "slow", "time.sleep(60)"), lambda: time.monotonic() > began + 0.3)
    assert time.monotonic() - began < 5


def test_what_is_asked_for_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    answer = doctor._answer(capsys.readouterr().out)
    assert set(answer) >= {"python", "threads", "memory_bytes", "devices", "libraries", "missing"}
    if "psutil" in answer["libraries"]:
        assert 0 < answer["memory_bytes"]["free"] < answer["memory_bytes"]["total"]
