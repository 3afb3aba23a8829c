# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing only."""


def register() -> None:
    """Nothing yet."""


def unregister() -> None:
    """Nothing yet."""
