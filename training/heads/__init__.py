# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads without end from MakeHuman and ICT FaceKit, and the networks trained on their pictures."""
