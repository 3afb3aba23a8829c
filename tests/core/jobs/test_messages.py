# SPDX-License-Identifier: GPL-3.0-or-later
"""What crosses the process border comes back as it was."""

from pathlib import Path

import numpy as np
import pytest
from maquette.core.errors import InputError
from maquette.core.jobs import messages
from maquette.core.jobs.request import Request


def test_round_trip_of_a_message():
    sent = {
        "type": "done",
        "path": Path("/a b/ü"),
        "values": np.array([1.5, np.inf]),
        "n": np.int64(3),
        "pair": (1, None),
    }
    line = messages.encode(sent)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    path = str(Path("/a b/ü"))
    assert messages.decode(line) == {
        "type": "done",
        "path": path,
        "values": [1.5, None],
        "n": 3,
        "pair": [1, None],
    }


@pytest.mark.parametrize("line", [b"loading weights...\n", b"\xff\xfe\n", b"12\n", b"[]\n", b"\n"])
def test_a_library_that_prints_is_no_message(line):
    assert messages.decode(line) is None


def test_what_is_not_data_does_not_cross():
    with pytest.raises(TypeError, match="object cannot cross"):
        messages.encode({"value": object()})


def test_round_trip_of_a_request(tmp_path):
    request = Request("mesh", ("/photos/größe 1.jpg",), {"seed": 3, "region": [0.5]}, "/out", "/out.glb")
    request.write(tmp_path)
    assert Request.read(tmp_path) == request


@pytest.mark.parametrize("text", ["", "{", "[]", '{"verb": "mesh"}'])
def test_an_unreadable_request_is_a_typed_error(tmp_path, text):
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(InputError) as caught:
        Request.read(tmp_path)
    assert caught.value.code == "REQUEST_UNREADABLE"
