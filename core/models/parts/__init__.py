# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that several published systems share: attention, transformers, U-Net blocks, encodings, key layouts."""
