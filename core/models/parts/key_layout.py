# SPDX-License-Identifier: GPL-3.0-or-later
"""How the names in a public checkpoint correspond to the names in our modules.

A layout is a list of substitutions from our names to the public ones. Two forms in a public name stand for packed
tensors: `a.{query,key,value}.weight` says that ours is those three on top of one another (dimension 0), and
`a.in_proj_weight[1/3]` says that ours is slice 1 of 3 of it. Because the direction is from us to the file, the complete
public key list with shapes follows from a model on the meta device, and so do missing and extra keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...errors import InputError

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
_BRACES = re.compile(r"\{([^}]*)\}")
_SLICE = re.compile(r"\[(\d+)/(\d+)\]$")


@dataclass(frozen=True)
class KeyLayout:
    """Correspondence of our parameter names to those of one published file format."""

    rules: Sequence[Rule] = ()
    """(regular expression, replacement), all applied in order to our name by `re.sub`."""
    transposed: str = ""
    """Regular expression: public matrices that are stored transposed (e.g. CLIP's `proj` in the diffusers layout)."""
    flat: str = ""
    """Regular expression: public tensors without the dimensions of size one that ours have (1x1 convolutions as matrices)."""
    optional: str = ""
    """Regular expression over our names: buffers that may be absent from a file (they keep their value)."""
    ignored: str = ""
    """Regular expression over public names that a file may hold besides (optimiser state, losses, schedules)."""
    _cache: dict[str, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)

    def public_names(self, name: str) -> tuple[str, ...]:
        """Our name -> the public name, or several when ours packs them; a slice keeps its `[i/n]`."""
        if name not in self._cache:
            public = name
            for pattern, replacement in self.rules:
                public = re.sub(pattern, replacement, public)
            braces = _BRACES.search(public)
            choices = braces.group(1).split(",") if braces else []
            self._cache[name] = tuple(_BRACES.sub(choice, public) for choice in choices) or (public,)
        return self._cache[name]

    def public_shapes(self, model: nn.Module) -> dict[str, list[int]]:
        """Complete key list of the public file of this model: name -> shape. Works on the meta device."""
        shapes: dict[str, list[int]] = {}
        for name, tensor in model.state_dict().items():
            names = self.public_names(name)
            rows = list(tensor.shape)
            for public in names:
                part = _SLICE.search(public)
                bare = _SLICE.sub("", public)
                if part:
                    shape = [rows[0] * int(part.group(2)), *rows[1:]]
                elif len(names) > 1:
                    shape = [rows[0] // len(names), *rows[1:]]
                else:
                    shape = list(rows)
                if self.flat and re.search(self.flat, bare):
                    shape = _squeezed(shape)
                shapes[bare] = shape[::-1] if self._is_transposed(bare) else shape
        return shapes

    def ours(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Public tensors -> a state dictionary of `model`, float dtypes as stored.

        1x1 convolutions and matrices stand for one another (both are published for the same layer).

        Raises:
            InputError: WEIGHTS_MISMATCH with the missing, extra and wrongly shaped names of the file.
        """
        expected = self.public_shapes(model)
        missing, misshaped, used = [], [], set()
        state: dict[str, Tensor] = {}
        for name, parameter in model.state_dict().items():
            parts = []
            for public in self.public_names(name):
                bare = _SLICE.sub("", public)
                used.add(bare)
                if bare not in tensors:
                    missing.append(bare)
                    continue
                tensor = tensors[bare]
                if _squeezed(tensor.shape) != _squeezed(expected[bare]):
                    misshaped.append(f"{bare} {list(tensor.shape)} instead of {expected[bare]}")
                    continue
                part = _SLICE.search(public)
                tensor = tensor.mT if self._is_transposed(bare) else tensor
                parts.append(tensor.chunk(int(part.group(2)))[int(part.group(1))] if part else tensor)
            if len(parts) == len(self.public_names(name)):
                whole = parts[0] if len(parts) == 1 else torch.cat(parts)
                state[name] = whole.reshape(parameter.shape)
            elif self.optional and re.search(self.optional, name):
                state[name] = parameter
                missing = [key for key in missing if key not in self.public_names(name)]
        extra = [
            key for key in tensors if key not in used and not (self.ignored and re.search(self.ignored, key))
        ]
        if missing or misshaped or extra:
            raise mismatch(missing, extra, misshaped)
        return state

    def _is_transposed(self, public: str) -> bool:
        return bool(self.transposed) and re.search(self.transposed, public) is not None


def load_public(
    model: nn.Module, tensors: Mapping[str, Tensor], layout: KeyLayout, dtype: torch.dtype | None = None
) -> None:
    """Give `model` (any device, meta too) the weights of a public file; the tensors are taken over, not copied.

    Args:
        model: network whose names `layout` knows.
        tensors: public name -> tensor.
        layout: correspondence of names.
        dtype: floating tensors are converted to it; None keeps float32 and turns everything else into it.

    Raises:
        InputError: WEIGHTS_MISMATCH, see `KeyLayout.ours`.
    """
    target = dtype or torch.float32
    state = layout.ours(model, tensors)
    state = {name: t.to(target) if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()


def mismatch(missing: Sequence[str], extra: Sequence[str], misshaped: Sequence[str]) -> InputError:
    """The error for a file whose keys are not those of the model; at most eight names of a kind are spelt out."""
    kinds = {
        "missing": sorted(set(missing)),
        "not expected": sorted(set(extra)),
        "wrongly shaped": list(misshaped),
    }
    text = "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
        for kind, names in kinds.items()
        if names
    )
    return InputError(
        "WEIGHTS_MISMATCH",
        f"The weight file does not belong to this model: {text}.",
        "Choose the file of this model.",
    )


def _squeezed(shape: Sequence[int]) -> list[int]:
    """Shape without ones, so that a 1x1 convolution [C, C, 1, 1] equals a matrix [C, C]."""
    return [size for size in shape if size != 1]
