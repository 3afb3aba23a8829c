# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of many gigabytes over unsteady lines: resumed, checked, and never half there under their final name.

Bytes go to `NAME.part` beside the target, with `NAME.part.json` saying which version of the file they belong to; the
next attempt, or the next start of the program, goes on from there. Only a complete file with the right size and hash is
renamed. A thread reads from the line, so that a cancel is heard while the line is silent.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import queue
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import VERSION
from ..errors import FailedError, MaquetteError, MissingError
from ..progress import Progress
from .disk import disk_full, not_written

log = logging.getLogger(__name__)

CHUNK = 1 << 14
RETRY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers after which another attempt may succeed."""
DISK_MARGIN = 64_000_000
"""Bytes to be left free; our choice."""


@dataclass(frozen=True)
class DownloadSettings:
    """Patience with the line; our choices."""

    stall_s: float = 30.0
    """Less than one chunk of 16 KiB in this time counts as a dead line."""
    attempts: int = 5
    """In a row without a new byte."""
    pause_s: float = 1.0
    """Before the second attempt; doubled each time, at most 30."""


@dataclass(frozen=True)
class Wanted:
    """One file to download."""

    url: str
    target: Path
    size: int = 0
    """Exact bytes; 0: not known."""
    sha256: str = ""
    """Empty: not known."""


class _Retry(Exception):
    """The line failed; another attempt may go on from here."""


def download(
    wanted: Wanted, progress: Progress, online: bool, settings: DownloadSettings | None = None
) -> str:
    """Download one file.

    Args:
        wanted: what, and where to; an existing target is replaced when the new file is complete.
        progress: told the share that is done, as part of its current stage; may cancel.
        online: whether the network may be used (in Blender: `bpy.app.online_access`).
        settings: patience.

    Returns:
        The SHA-256 of the file, 64 hexadecimal digits.

    Raises:
        MissingError: ONLINE_ACCESS_OFF, LIBRARY_MISSING, DOWNLOAD_NOT_FOUND, DOWNLOAD_REFUSED, NO_NETWORK.
        FailedError: DISK_FULL, DOWNLOAD_NOT_WRITTEN, DOWNLOAD_WRONG_SIZE, DOWNLOAD_NOT_A_FILE, DOWNLOAD_FAILED, HASH_MISMATCH.
        Cancelled: what has arrived is kept for the next time.
    """
    if not online:
        raise MissingError(
            "ONLINE_ACCESS_OFF",
            "Downloading a model needs the network, and online access is off.",
            "Allow Online Access in Preferences > System > Network, or add a file that you have.",
        )
    try:
        requests = importlib.import_module("requests")
    except ImportError as error:
        raise MissingError(
            "LIBRARY_MISSING", "This Python lacks the library requests.", "Set up the engine again."
        ) from error
    settings = settings or DownloadSettings()
    part = _Part(wanted)
    failures = 0
    try:
        while True:
            before = part.size()
            try:
                part.open()
                _Attempt(wanted, part, settings, requests).run(progress)
                break
            except _Retry as trouble:
                failures = 1 if part.size() > before else failures + 1
                log.info("%s: %s (attempt %d)", wanted.target.name, trouble, failures)
                if failures >= settings.attempts:
                    raise _given_up(wanted, str(trouble)) from trouble
                _wait(min(settings.pause_s * 2 ** (failures - 1), 30.0), progress)
            finally:
                part.close()
        return part.finish(progress)
    except OSError as error:
        raise _not_written(wanted.target, error) from error


class _Part:
    """The unfinished file and what is known of the version it belongs to."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.path = wanted.target.with_name(wanted.target.name + ".part")
        self._about = self.path.with_name(self.path.name + ".json")
        self._file: Any = None

    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def open(self) -> None:
        """Make ready for writing at the end; bytes of another address or of an unknown version are dropped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.size() and (self.known().get("url") != self.wanted.url or 0 < self.wanted.size < self.size()):
            self.drop()
        self._file = self.path.open("ab")

    def known(self) -> dict[str, Any]:
        """Address, total size and version mark of the bytes that are there."""
        try:
            content = json.loads(self._about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def describe(self, total: int | None, mark: str) -> None:
        """Note which version the bytes belong to."""
        self._about.write_text(
            json.dumps({"url": self.wanted.url, "total": total, "mark": mark}), encoding="utf-8"
        )

    def restart(self) -> None:
        """Begin again at the first byte."""
        self._file.truncate(0)
        self._file.seek(0)

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def drop(self) -> None:
        """Forget everything."""
        self.close()
        for path in (self.path, self._about):
            path.unlink(missing_ok=True)

    def finish(self, progress: Progress) -> str:
        """Check the hash, rename, and return the hash."""
        total = hashlib.sha256()
        with self.path.open("rb") as file:
            while data := file.read(1 << 22):
                progress.check()
                total.update(data)
        found = total.hexdigest()
        if self.wanted.sha256 and found != self.wanted.sha256:
            self.drop()
            raise FailedError(
                "HASH_MISMATCH",
                f"{self.wanted.target.name} is not the file that its model card describes, so it was deleted.",
                "Download it again; if it happens again, the publisher has changed the file.",
            )
        self.path.replace(self.wanted.target)
        self._about.unlink(missing_ok=True)
        return found


class _Attempt:
    """One connection, read by a thread of its own."""

    def __init__(self, wanted: Wanted, part: _Part, settings: DownloadSettings, requests: ModuleType) -> None:
        self.wanted, self.part, self.settings, self.requests = wanted, part, settings, requests
        self.arrived: queue.Queue[Any] = queue.Queue(maxsize=64)
        self.given_up = threading.Event()

    def run(self, progress: Progress) -> None:
        """Fill the part until it is complete.

        Raises:
            _Retry, or as `download`.
        """
        offset = self.part.size()
        threading.Thread(target=self._read, args=(offset,), name="download", daemon=True).start()
        try:
            total = self._take(self._next(progress), offset)
            done = self.part.size()
            while (data := self._next(progress)) is not None:
                self.part.write(data)
                done += len(data)
                if total is not None and done > total:
                    self.part.drop()
                    raise _Retry("more bytes than announced")
                if total:
                    progress.update(done / total, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")
                else:
                    progress.update(0.0, f"{done / 1e6:.0f} MB")
        finally:
            self.given_up.set()
        if total is not None and done < total:
            raise _Retry(f"the line closed after {done} of {total} bytes")
        if self.wanted.size and done != self.wanted.size:
            self.part.drop()
            raise _wrong_size(self.wanted, done)

    def _read(self, offset: int) -> None:
        """In the thread: the answer, then its bytes, then None; or what went wrong."""
        headers = {"User-Agent": f"maquette/{VERSION}", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if mark := self.part.known().get("mark"):
                headers["If-Range"] = str(mark)
        try:
            answer = self.requests.get(
                self.wanted.url, headers=headers, stream=True, timeout=self.settings.stall_s
            )
            with contextlib.closing(answer):
                self._put(answer)
                if answer.status_code in (200, 206):
                    for data in answer.iter_content(CHUNK):
                        self._put(data)
                self._put(None)
        except (OSError, ValueError, RuntimeError, StopIteration) as error:  # requests' own are OSErrors
            with contextlib.suppress(StopIteration):
                self._put(error)

    def _put(self, item: Any) -> None:
        while not self.given_up.is_set():
            try:
                self.arrived.put(item, timeout=0.2)
                return
            except queue.Full:
                continue
        raise StopIteration  # nobody listens any more

    def _next(self, progress: Progress) -> Any:
        """What arrives next, while looking out for a cancel and a dead line."""
        ends = time.monotonic() + self.settings.stall_s
        while True:
            progress.check()
            try:
                item = self.arrived.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() > ends:
                    raise _Retry(f"nothing came for {self.settings.stall_s:.0f} s") from None
                continue
            if isinstance(item, BaseException):
                raise _Retry(type(item).__name__) from item
            return item

    def _take(self, answer: Any, offset: int) -> int | None:
        """Judge the answer's head: the total size, or None where it is not told. Makes the part start where the answer does."""
        status = answer.status_code
        if status == 416 and offset:
            self.part.drop()
            raise _Retry("the server has less than we have")
        if status in (404, 410):
            raise MissingError(
                "DOWNLOAD_NOT_FOUND",
                f"{self.wanted.target.name} is no longer at {self.wanted.url}.",
                "Look for the file at its publisher and add it (models add FILE).",
            )
        if status in (401, 403, 451):
            raise MissingError(
                "DOWNLOAD_REFUSED",
                f"The publisher does not hand out {self.wanted.target.name} without an account or consent.",
                "Download it in a web browser and add it (models add FILE).",
            )
        if status in RETRY:
            raise _Retry(f"answer {status}")
        if status not in (200, 206):
            raise FailedError(
                "DOWNLOAD_FAILED", f"{self.wanted.url} answered with {status}.", "Try again later."
            )
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise FailedError(
                "DOWNLOAD_NOT_A_FILE",
                f"Instead of {self.wanted.target.name} a web page came.",
                "Log in to the network, or download the file in a web browser and add it (models add FILE).",
            )
        start, total = _extent(answer)
        if start != offset:
            if start:
                self.part.drop()
                raise _Retry("another part of the file came")
            self.part.restart()
        if self.wanted.size and total is not None and total != self.wanted.size:
            self.part.drop()
            raise _wrong_size(self.wanted, total)
        self.part.describe(total, answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        missing = (total or self.wanted.size) - start
        free = shutil.disk_usage(self.wanted.target.parent).free
        if missing > 0 and free < missing + DISK_MARGIN:
            needs = f"{self.wanted.target.name} needs {missing / 1e9:.1f} GB"
            raise disk_full(f"{needs} and {free / 1e9:.1f} GB are free.")
        return total


def _extent(answer: Any) -> tuple[int, int | None]:
    """First byte of an answer and size of the whole file."""
    try:
        if answer.status_code == 206:  # "bytes 100-199/200"
            span, _, total = answer.headers["Content-Range"].removeprefix("bytes ").partition("/")
            return int(span.split("-")[0]), int(total) if total != "*" else None
        length = answer.headers.get("Content-Length")
        return 0, int(length) if length else None
    except (KeyError, ValueError) as error:
        raise _Retry("an answer without sense") from error


def _wait(seconds: float, progress: Progress) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        progress.check()
        time.sleep(min(0.1, seconds))


def _given_up(wanted: Wanted, trouble: str) -> MaquetteError:
    return MissingError(
        "NO_NETWORK",
        f"{wanted.target.name} could not be downloaded: {trouble}.",
        "Check the connection and start again; what has arrived is kept.",
    )


def _wrong_size(wanted: Wanted, found: int) -> FailedError:
    return FailedError(
        "DOWNLOAD_WRONG_SIZE",
        f"{wanted.target.name} has {found} bytes at its address, and its model card says {wanted.size}.",
        "Look for the file at its publisher and add it (models add FILE).",
    )


def _not_written(target: Path, error: OSError) -> FailedError:
    other = FailedError(
        "DOWNLOAD_NOT_WRITTEN",
        f"{target} cannot be written: {error.strerror or error}.",
        "Check the folder's permissions, or set MAQUETTE_DATA to another folder.",
    )
    return not_written(error, f"writing {target.name}", other)
