# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine room: everything that knows no Blender. Importing this package loads nothing heavy."""

VERSION = "0.1.0"
