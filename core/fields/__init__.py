# SPDX-License-Identifier: GPL-3.0-or-later
"""What every system turns its input into: `field.Field`, and the kinds of it."""
