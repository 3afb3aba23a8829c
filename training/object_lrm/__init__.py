# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe of our bundled one-picture model: objects -> records -> training -> exported weights (README.md)."""
