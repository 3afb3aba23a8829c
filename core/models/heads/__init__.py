# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own networks for heads, trained on rendered ones: parts of the face, its place and its camera."""
