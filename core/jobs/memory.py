# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a job took at most, with the processes it started. Runs in the engine."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from types import TracebackType

_EVERY_S = 0.4  # our choice: finds a child's peak that lasts, at under a hundredth of a core


class MemoryWatch:
    """Between `with` and its end: the peak of this process, exact, or with its children, looked at every 0.4 s.

    The system's own figure for children cannot be used: on Linux a child's maximum counts the moment in which it still
    shares the memory of the process that starts it, which would count this process twice.
    """

    def __enter__(self) -> MemoryWatch:
        """Begin anew: what an earlier job of the same process took does not count, where the system can forget it."""
        import psutil

        self._process = psutil.Process()
        self._highest = 0
        self._over = threading.Event()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM starts again
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop looking; what is taken later does not count."""
        self._highest = self.peak_bytes
        self._over.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        """Bytes of resident memory, so far or until the end."""
        return self._highest if self._over.is_set() else max(self._highest, _own_peak_bytes())

    def _watch(self) -> None:
        import psutil

        while not self._over.wait(_EVERY_S):
            children = self._process.children(recursive=True)
            total = self._process.memory_info().rss if children else 0
            for child in children:
                with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                    total += child.memory_info().rss
            self._highest = max(self._highest, total)


def _own_peak_bytes() -> int:
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes
