# SPDX-License-Identifier: GPL-3.0-or-later
"""A child process that can be ended together with everything it started. Standard library only.

POSIX: the child leads its own session and process group, and the group is killed. Windows: the child is put into a job
object that ends with its handle, so the tree also dies with Blender.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO


class ProcessTree:
    """Starts `command` with pipes for standard input and output; standard error goes to `log_file`, or with the output.

    Raises:
        OSError: if the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log_file: Path | None) -> None:
        with log_file.open("ab") if log_file else contextlib.nullcontext(subprocess.STDOUT) as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
                creationflags=_CREATION_FLAGS,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.orders: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self.messages: BinaryIO = self._process.stdout  # type: ignore[assignment]
        if sys.platform == "win32":
            self._job_object = _new_job_object(int(self._process._handle))

    @property
    def pid(self) -> int:
        """Process id of the leader."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the leader has ended; what it started may live on."""
        if self._process.returncode is None and hasattr(os, "waitid"):
            # Left unreaped, its id cannot become anybody else's before `kill` has named the group by it.
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None  # Windows, and macOS before Python 3.13

    def kill(self) -> int:
        """End the leader and all it started, at once, and return the leader's exit status (minus the signal's number).

        Also right when the leader has died alone: what it started is ended too. A process that the system cannot end
        within two seconds (a hung graphics driver) is left behind.
        """
        if sys.platform == "win32":
            _end_job_object(self._job_object)
            self._job_object = None
            if self._process.poll() is None:
                self._process.kill()
        else:
            # macOS answers PermissionError for a group of nothing but a zombie.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.orders.close()
        try:
            return self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            return -9

    def wait_and_kill(self, patience_s: float) -> int:
        """Give the leader `patience_s` seconds to end by itself, then end what is left of the tree; its exit status."""
        ends = time.monotonic() + patience_s
        while time.monotonic() < ends and not self.ended():
            time.sleep(0.01)
        return self.kill()


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _CREATION_FLAGS = subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    _EXTENDED_LIMIT_INFORMATION = 9
    _LIMIT_KILL_ON_JOB_CLOSE = 0x2000

    def _kernel() -> ctypes.WinDLL:
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = wintypes.HANDLE
        kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
        kernel.SetInformationJobObject.argtypes = (
            wintypes.HANDLE,
            ctypes.c_int,
            ctypes.c_void_p,
            wintypes.DWORD,
        )
        kernel.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
        kernel.TerminateJobObject.argtypes = (wintypes.HANDLE, wintypes.UINT)
        kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
        return kernel

    def _new_job_object(process_handle: int) -> int | None:
        """A job object that ends its processes when its last handle closes; None where Windows refuses nesting."""
        kernel = _kernel()
        job = kernel.CreateJobObjectW(None, None)
        limits = _ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = _LIMIT_KILL_ON_JOB_CLOSE
        kernel.SetInformationJobObject(
            job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        if not kernel.AssignProcessToJobObject(job, process_handle):
            kernel.CloseHandle(job)
            return None
        return int(job)

    def _end_job_object(job: int | None) -> None:
        if job is not None:
            kernel = _kernel()
            kernel.TerminateJobObject(job, 1)
            kernel.CloseHandle(job)
else:
    _CREATION_FLAGS = 0
