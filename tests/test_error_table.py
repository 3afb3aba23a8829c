# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual lists every error that the code can raise and no other; each has a remedy, and a test that produces it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.error_table import (
    ELLIPSIS,
    ROOT,
    TABLE,
    Raised,
    Said,
    cell,
    hidden,
    raised,
    said,
    section_of,
    table,
)

HANDED_ON = ("BAD_ARGUMENT", "BAD_JOB", "DISK_FULL", "MODEL_DAMAGED")
"""Some of their messages are put together elsewhere."""


def listed() -> dict[str, list[str]]:
    """Code -> remedies, as they stand in the manual."""
    found: dict[str, list[str]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| `([A-Z0-9_]+)` \| (.+) \| (.+) \|$", line)
        if row:
            found.setdefault(row[1], []).append(row[3])
    return found


def test_the_manual_lists_what_the_code_raises() -> None:
    codes = {error.code for error in raised()}
    assert len(codes) > 100
    assert set(listed()) == codes, "write it anew: python -m tests.error_table"


def test_no_code_hides_from_the_table() -> None:
    """Codes are written out where errors are made, or the reader of the source would miss them."""
    assert [place.partition(":")[0] for place in hidden()] == [
        "core/jobs/foreground.py"
    ]  # hands on a worker's error


def test_every_error_has_a_remedy_and_a_message() -> None:
    for error in raised():
        assert error.message.strip(f"{ELLIPSIS} .") or error.code in HANDED_ON, error
        assert error.remedy == ELLIPSIS or (error.remedy[0].isupper() and len(error.remedy) > 8), error
        assert (
            error.remedy == ELLIPSIS or error.remedy.rstrip(ELLIPSIS)[-1] in ".,)" or "ffmpeg" in error.remedy
        ), error
    for code, remedies in listed().items():
        assert any(remedy != ELLIPSIS for remedy in remedies), code


def test_every_error_is_produced_by_a_test() -> None:
    """By its code, or by three words in a row of its message (tests in Blender see no codes)."""
    tests, plain = written_tests()
    missing = {e.code for e in raised()} - {
        e.code for e in raised() if e.code in tests or quoted((e.message, e.remedy), plain)
    }
    assert not missing, f"no test names the code or a part of its message: {missing}"


def test_what_buttons_say_is_listed_and_produced() -> None:
    page, (_, plain) = TABLE.read_text(encoding="utf-8"), written_tests()
    assert len(said()) > 20
    for item in said():
        assert item.button, item
        assert f"| {cell(item.text)} |" in page, f"{item.text}: write it anew: python -m tests.error_table"
        assert quoted((item.text,), plain), f"no test brings about: {item.text}"


def written_tests() -> tuple[str, str]:
    """All tests but these, and the same without the backslashes of patterns."""
    here = {"error_table.py", "test_error_table.py"}
    tests = "\n".join(
        path.read_text(encoding="utf-8")
        for path in Path(ROOT / "tests").rglob("test_*.py")
        if path.name not in here
    ) + "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "parity_checks").glob("*.py")
    )
    return tests, tests.replace("\\", "")


def quoted(parts: tuple[str, ...], text: str) -> bool:
    """Whether three words in a row of a part, none of them an ellipsis, stand in a text."""
    for part in parts:
        words = part.split()
        for three in zip(words, words[1:], words[2:], strict=False):
            phrase = " ".join(three).rstrip(".,")
            if ELLIPSIS not in phrase and phrase in text:
                return True
    return False


def test_the_page_is_complete_and_plain() -> None:
    sample = Raised("A_CODE", "It | broke in {x}.", "Mend  it.", "core/surface/uv.py")
    page = table([sample])
    assert "| `A_CODE` | It \\| broke in {x}. | Mend it. |" in page
    assert (
        section_of("core/poses/given.py") == "Cameras" and section_of("core/jobs/gpu.py") == "Engine and disk"
    )
    assert cell("a\nb") == "a b"


def test_sentences_of_buttons_stand_below_the_errors() -> None:
    page = table([], (Said("Do this first", "Go", True), Said("Do this first", "Run", True)))
    assert page.count("Do this first") == 1 and "| Do this first | Go, Run |" in page
