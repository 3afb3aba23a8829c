# SPDX-License-Identifier: GPL-3.0-or-later
"""LPIPS under its public names; equal to the paper's sum written out; other files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from maquette.core.errors import InputError
from maquette.core.models.lpips.network import FIRST, MEAN, SPREAD, TRUNK, Lpips
from torch import Tensor


def public() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors, width = {}, 3
    for number, widths in enumerate(TRUNK):
        for place, out in enumerate(widths):
            key = f"features.{FIRST[number] + 2 * place}"
            tensors[f"{key}.weight"] = (
                torch.randn(out, width, 3, 3, generator=generator) * (2 / (9 * width)) ** 0.5
            )
            tensors[f"{key}.bias"] = torch.randn(out, generator=generator) * 0.1
            width = out
        tensors[f"lin{number}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return tensors


def test_equals_the_sum_written_out(tmp_path: Path) -> None:
    tensors = public()
    trunk = {name: value for name, value in tensors.items() if name.startswith("features")}
    rest = {name: value for name, value in tensors.items() if name.startswith("lin")}
    torch.save(trunk, tmp_path / "vgg16.pth")
    torch.save(rest, tmp_path / "vgg.pth")
    network = Lpips.from_files([tmp_path / "vgg16.pth", tmp_path / "vgg.pth"])
    a, b = torch.rand(2, 3, 40, 40) * 2 - 1, torch.rand(2, 3, 40, 40) * 2 - 1
    expected = torch.zeros(2)
    mean, spread = torch.tensor(MEAN)[:, None, None], torch.tensor(SPREAD)[:, None, None]
    x, y = (a - mean) / spread, (b - mean) / spread
    slices = [range(4), range(4, 9), range(9, 16), range(16, 23), range(23, 30)]  # of torchvision's sequence
    for number, places in enumerate(slices):
        for place in places:
            if place in (4, 9, 16, 23):
                x, y = F.max_pool2d(x, 2), F.max_pool2d(y, 2)
            elif f"features.{place}.weight" in tensors:
                w, v = tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"]
                x, y = F.conv2d(x, w, v, padding=1).relu(), F.conv2d(y, w, v, padding=1).relu()
        n, m = (z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y))
        expected += (tensors[f"lin{number}.model.1.weight"] * (n - m) ** 2).sum(1).mean((1, 2))
    torch.testing.assert_close(network(a, b), expected.mean(), rtol=1e-4, atol=1e-5)
    assert float(network(a, a)) == 0


def test_other_weights_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        Lpips.from_tensors({"features.0.weight": torch.zeros(64, 3, 3, 3)})
    assert caught.value.code == "WEIGHTS_MISMATCH"
