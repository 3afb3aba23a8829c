# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress for a log and for a terminal."""

import io

from maquette.core.jobs.console import Console

AT_30 = {"type": "progress", "stage": "fit", "progress": 0.3, "eta": 75.4, "note": "29.1 dB"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_for_a_new_stage_and_then_now_and_then():
    stream = io.StringIO()
    console = Console(stream)
    console.take({"type": "stage", "stage": "fit", "progress": 0.25, "eta": None})
    console.take(AT_30)  # within five seconds of the last line
    console.take({"type": "warning", "text": "Dark."})
    console.take({"type": "preview", "path": "p.png"})
    console.take({"type": "stage", "stage": "bake", "progress": 1.0, "eta": 0.0})
    assert stream.getvalue() == " 25% fit\nwarning: Dark.\n100% bake, 0:00 left\n"


def test_a_bar_that_moves(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    console = Console(stream)
    console.take(AT_30)
    # 24 cells, 0.3 of them is 7.2; padded to one column less than the terminal so that it never wraps.
    assert stream.getvalue() == "\r" + "[#######-----------------]  30% fit 29.1 dB, 1:15 left".ljust(59)
    console.line("done")
    assert stream.getvalue().endswith("\rdone\n")
