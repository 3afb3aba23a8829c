# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs: what crosses the border between Blender and the engine, and the processes on both sides of it.

Blender's side (standard library only): `request`, `messages`, `runner`, `registry`, `places`.
The engine's side: `bootstrap` starts `worker`, which runs the pipelines through `execution`.
"""
