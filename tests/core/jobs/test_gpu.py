# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Blenders with one GPU: the second waits for its turn, says so, and can be cancelled meanwhile."""

import subprocess
import sys
import time

import pytest
from maquette.core.errors import Cancelled
from maquette.core.jobs import gpu
from maquette.core.progress import Progress

HOLDER = """
import sys, time
from maquette.core.jobs import gpu
from maquette.core.progress import Progress
gpu.lock_name = lambda device: "test-card"
with gpu.turn("cuda", Progress()):
    print("held", flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def hold(tmp_path, monkeypatch):
    """Start another process that holds the card for some seconds."""
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(gpu, "lock_name", lambda device: "test-card")
    started = []

    def hold(seconds):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(seconds)], stdout=subprocess.PIPE, text=True
        )
        started.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield hold
    for holder in started:
        holder.kill()
        holder.communicate()


def test_a_free_card_is_taken_without_a_word(hold):
    sent = []
    with gpu.turn("cuda", Progress(sent.append)):
        pass
    assert sent == []


def test_the_second_waits_for_the_first(hold):
    began = time.monotonic()
    hold(0.8)
    sent = []
    with gpu.turn("cuda", Progress(sent.append)):
        waited = time.monotonic() - began
    assert 0.8 <= waited < 5.0
    assert sent[0]["stage"] == gpu.WAITING


def test_a_dead_holder_does_not_block(hold):
    holder = hold(60)
    holder.kill()
    with gpu.turn("cuda", Progress()):
        assert holder.wait(10) != 0


def test_cancel_while_waiting(hold):
    hold(60)
    ends = time.monotonic() + 0.5
    began = time.monotonic()
    with pytest.raises(Cancelled), gpu.turn("cuda", Progress(is_cancelled=lambda: time.monotonic() > ends)):
        raise AssertionError("got the card")
    assert time.monotonic() - began < 2.0


def test_the_processor_needs_no_turn():
    assert gpu.lock_name("cpu") is None
