# SPDX-License-Identifier: GPL-3.0-or-later
"""The public parser of faces into 19 classes (BiSeNet)."""
