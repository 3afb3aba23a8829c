# SPDX-License-Identifier: GPL-3.0-or-later
"""Set Up Engine from Blender's side: who may start it, its log, cancel and failure. The set-up itself: tests/core/jobs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import bpy
import pytest


@pytest.fixture
def set_up(module, monkeypatch):
    """`create_environment` replaced by what a test gives; the arguments it was called with."""
    engine, calls = module("operators.engine"), []

    def put(work):
        def create(base_python=None, wheel_folder=None, online=False, send=None, is_cancelled=None):
            calls.append((base_python, wheel_folder, online))
            work(send, is_cancelled)

        monkeypatch.setattr(engine, "create_environment", create)
        return calls

    yield put
    engine.stop_setup()


@pytest.fixture
def wheels(module, tmp_path):
    preferences = module("operators.settings").preferences()
    preferences.wheel_folder = str(tmp_path)
    yield tmp_path
    preferences.wheel_folder = ""


def test_without_network_and_files_the_button_says_why(scene, module):
    if bpy.app.online_access:
        pytest.skip("online access is on")
    with pytest.raises(RuntimeError, match="Allow Online Access in Preferences"):
        bpy.ops.maquette.set_up_engine()


def test_log_and_arguments(set_up, wheels, scene, module):
    def work(send, is_cancelled):
        assert threading.current_thread() is not threading.main_thread()
        send({"type": "stage", "stage": "packages", "progress": 0.4, "eta": None})
        send({"type": "log", "text": "Collecting torch"})

    calls = set_up(work)
    assert bpy.ops.maquette.set_up_engine() == {"FINISHED"}
    assert calls == [(None, wheels, bpy.app.online_access)]
    setup = module("operators.engine").engine_setup()
    assert (setup.stage, setup.progress, list(setup.lines)) == ("packages", 0.4, ["Collecting torch"])


def test_failure_is_said(set_up, wheels, scene, module):
    def work(send, is_cancelled):
        raise module("core.errors").MissingError("NO_NETWORK", "No network.", "Check it.")

    set_up(work)
    with pytest.raises(RuntimeError, match=r"No network. Check it."):
        bpy.ops.maquette.set_up_engine()


def test_a_fault_in_the_thread_is_not_lost(set_up, wheels, scene, module):
    set_up(lambda send, is_cancelled: 1 / 0)
    with pytest.raises(RuntimeError, match="division by zero"):
        bpy.ops.maquette.set_up_engine()


def test_cancel_ends_it_within_a_second(set_up, wheels, scene, module):
    def work(send, is_cancelled):
        while not is_cancelled():
            time.sleep(0.01)
        raise module("core.errors").Cancelled

    set_up(work)
    engine = module("operators.engine")
    setup = engine.start_setup(None, Path(wheels), False)
    assert setup.running
    with pytest.raises(RuntimeError, match="The engine is being set up"):
        bpy.ops.maquette.set_up_engine()
    bpy.ops.maquette.cancel_job()
    ends = time.monotonic() + 1
    while setup.running:
        assert time.monotonic() < ends
        time.sleep(0.01)
    setup.poll()
    assert setup.error is None
    assert list(setup.lines) == ["Cancelled."]
