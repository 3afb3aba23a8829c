# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads over every kind of bad line: what arrives is right and complete, or nothing has the final name."""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from maquette.core.errors import Cancelled, MaquetteError
from maquette.core.progress import Progress
from maquette.core.weights import download as downloads
from maquette.core.weights.download import DownloadSettings, Wanted, download

from .line_server import served

CONTENT = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
FAST = DownloadSettings(stall_s=0.5, attempts=2, pause_s=0.01)
STEADY = DownloadSettings(stall_s=4.0, attempts=3, pause_s=0.01)  # a busy machine is no dead line
HALF = len(CONTENT) // 2 // downloads.CHUNK * downloads.CHUNK  # whole chunks are kept


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetch(
    url: str,
    folder: Path,
    progress: Progress | None = None,
    settings: DownloadSettings = STEADY,
    **known: Any,
) -> str:
    wanted = Wanted(url, folder / "weights.pt", **({"sha256": SHA} | known))
    return download(wanted, progress or Progress(), True, settings)


def code_of(url: str, folder: Path, **known: Any) -> str:
    with pytest.raises(MaquetteError) as caught:
        fetch(url, folder, **known)
    assert not (folder / "weights.pt").exists()
    assert caught.value.remedy
    return caught.value.code


def test_a_good_line_and_its_progress(tmp_path: Path) -> None:
    shares = []
    progress = Progress(
        lambda message: shares.append(message["progress"]) if message["type"] == "progress" else None
    )
    with served(CONTENT) as server:
        assert fetch(server.url, tmp_path, progress, size=len(CONTENT)) == SHA
        assert "Range" not in server.requests[0] and server.requests[0]["User-Agent"].startswith("maquette/")
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) >= 4


@pytest.mark.parametrize(
    ("manners", "requests"),
    [
        (("drops", "good"), 2),
        (("drops", "drops", "drops", "drops", "good"), 5),  # each brings new bytes, so patience does not end
        (("stalls", "good"), 2),
        (("lies-more",), 2),
        (("drops", "ignores-range"), 2),
        (("drops", "shifted", "good"), 3),
        (("503", "429", "good"), 3),
        (("no-length",), 1),
        (("drops", "416", "good"), 3),
    ],
)
def test_a_bad_line_still_gives_the_right_file(
    tmp_path: Path, manners: tuple[str, ...], requests: int
) -> None:
    with served(CONTENT, *manners) as server:
        if manners == ("lies-more",):
            server.manners.append("good")
        fetch(server.url, tmp_path)
        assert len(server.requests) == requests
        if manners[0] == "drops" and manners[1] == "good":
            assert server.requests[1]["Range"] == f"bytes={HALF}-"
            assert server.requests[1]["If-Range"] == '"v1"'
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize(
    ("manner", "code"),
    [
        ("404", "DOWNLOAD_NOT_FOUND"),
        ("410", "DOWNLOAD_NOT_FOUND"),
        ("403", "DOWNLOAD_REFUSED"),
        ("401", "DOWNLOAD_REFUSED"),
        ("400", "DOWNLOAD_FAILED"),
        ("html", "DOWNLOAD_NOT_A_FILE"),
        ("500", "NO_NETWORK"),
        ("stalls", "NO_NETWORK"),
        ("drips", "NO_NETWORK"),
        ("wrong-bytes", "HASH_MISMATCH"),
        ("lies-less", "HASH_MISMATCH"),
    ],
)
def test_what_cannot_be_had_is_told(tmp_path: Path, manner: str, code: str) -> None:
    with served(CONTENT, manner) as server:
        assert (
            code_of(server.url, tmp_path, settings=FAST if manner in ("stalls", "drips") else STEADY) == code
        )


def test_a_size_that_differs_from_the_cards(tmp_path: Path) -> None:
    for manner in ("good", "no-length"):
        with served(CONTENT, manner) as server:
            assert code_of(server.url, tmp_path, size=len(CONTENT) + 1, sha256="") == "DOWNLOAD_WRONG_SIZE"


def test_nobody_there(tmp_path: Path) -> None:
    with served(CONTENT) as server:
        url = server.url
    assert code_of(url, tmp_path) == "NO_NETWORK"


def test_offline_asks_nobody(tmp_path: Path) -> None:
    with served(CONTENT) as server:
        with pytest.raises(MaquetteError) as caught:
            download(Wanted(server.url, tmp_path / "weights.pt"), Progress(), False, FAST)
        assert caught.value.code == "ONLINE_ACCESS_OFF" and caught.value.exit_code == 4
        assert server.requests == []


@pytest.mark.parametrize("manner", ["stalls", "drips"])
def test_a_cancel_is_heard_at_once_and_what_came_is_kept(tmp_path: Path, manner: str) -> None:
    asked: list[float] = []
    patient = DownloadSettings(stall_s=30.0)
    part = tmp_path / "weights.pt.part"
    with served(CONTENT, manner, "good") as server:

        def cancelled() -> bool:
            """As soon as the line has gone silent."""
            silent = part.exists() and server.requests and (manner == "drips" or server.stalled.is_set())
            if silent and not asked:
                asked.append(time.monotonic())
            return bool(asked) and time.monotonic() > asked[0] + 0.5

        progress = Progress(None, cancelled)
        with pytest.raises(Cancelled):
            download(Wanted(server.url, tmp_path / "weights.pt", sha256=SHA), progress, True, patient)
        assert time.monotonic() - asked[0] < 0.5 + 2.0
        assert not (tmp_path / "weights.pt").exists()
        kept = (tmp_path / "weights.pt.part").stat().st_size
        assert kept > 0 if manner == "stalls" else kept == 0  # less than one chunk of 16 KiB dripped in
        fetch(server.url, tmp_path)
        assert server.requests[1].get("Range") == (f"bytes={kept}-" if kept else None)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_the_rest_of_another_version_is_not_appended(tmp_path: Path) -> None:
    other = bytes(reversed(CONTENT))
    with served(other, "drops") as server, pytest.raises(MaquetteError):
        download(
            Wanted(server.url, tmp_path / "weights.pt"), Progress(), True, DownloadSettings(4.0, 1, 0.01)
        )
    assert (tmp_path / "weights.pt.part").stat().st_size == HALF
    with served(CONTENT) as server:
        server.mark = '"v2"'
        about = tmp_path / "weights.pt.part.json"
        about.write_text(about.read_text().replace(about.read_text().split('"')[3], server.url))
        fetch(server.url, tmp_path)
        assert server.requests[0]["If-Range"] == '"v1"'
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_full_disk_before_and_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(CONTENT) as server:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        assert code_of(server.url, tmp_path) == "DISK_FULL"
        monkeypatch.undo()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

        def full(self: Any, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(downloads._Part, "write", full)
        assert code_of(server.url, tmp_path) == "DISK_FULL"

        def broken(self: Any, data: bytes) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(downloads._Part, "write", broken)
        assert code_of(server.url, tmp_path) == "DOWNLOAD_NOT_WRITTEN"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with served(CONTENT) as server, pytest.raises(MaquetteError) as caught:
        fetch(server.url, tmp_path / "file")
    assert caught.value.code == "DOWNLOAD_NOT_WRITTEN"


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with served(CONTENT) as server:
        assert code_of(server.url, tmp_path) == "LIBRARY_MISSING"


def test_importing_loads_neither_requests_nor_torch() -> None:
    code = "import sys, maquette.core.weights.verbs; print([m for m in ('requests', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
