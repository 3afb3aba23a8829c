# SPDX-License-Identifier: GPL-3.0-or-later
"""Classic marching cubes (Lorensen & Cline 1987): the 256-case table without disambiguation, vectorised over the grid.

The published occupancy systems extract their meshes with it; `surface.marching` is the product's own version, and this
one also gives the public extension's order of vertices and faces.
Vertices and faces come in the order of a scan over the cells (last axis fastest).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CORNERS = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)])
EDGES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]
)
_EDGE_AXIS = np.array([0, 1, 0, 1, 0, 1, 0, 1, 2, 2, 2, 2])
_EDGE_RANK = np.array([3, 4, 5, 6, 7, 1, 0, 8, 9, 10, 2, 11])
"""Order in which a cell names its vertices: the three edges of its far corner first."""

_CASES = """
- 083 019 183981 12a 08312a 92a029 2832a8a98 3b2 0b28b0 19023b 1b219b98b 3a1ba3 0a108a8ba 3903b9ba9
98aa8b 478 430734 019847 419471731 12a847 34730412a 92a902847 2a9297273794 8473b2 b47b24204 90184723b
47b94b9b2921 3a13ba784 1ba14b1047b4 47890b9bab03 47b4b99ba 954 954083 054150 854835315 12a954 30812a495
52a542402 2a5325354348 95423b 0b208b495 05401523b 21525828b485 a3ba13954 4950818a18ba 54050b5bab03
54858aa8b 978579 930953573 078017157 153357 978957a12 a12950530573 802825857a52 2a5253357 7957893b2
95797292027b 23b018178157 b21b17715 958857a13a3b 5705097b010aba0 ba0b03a50807570 ba57b5 a65 0835a6
9015a6 1831985a6 165261 165126308 965906026 598582526328 23ba65 b08b20a65 01923b5a6 5a61929b298b
63b653513 08b0b50515b6 3b6036065059 65969bb98 5a6478 43047365a 1905a6847 a65197173794 612651478
125526304347 847905065026 739794329596269 3b2784a65 5a647242027b 01947823b5a6 9219b294b7b45a6
8473b53515b6 51b5b610b7b404b 059065036b63847 65969b4797b9 a4964a 4a649a083 a01a60640 83181686461a
149124264 308129249264 024426 832824426 a49a64b23 08228b49a4a6 3b201606461a 64161a48121b8b1 964936913b63
8b1810b61914641 3b6360064 648b68 7a678a89a 0730a709a67a a671a7178180 a67a71173 126168189867
269291679093739 780706602 732672 23ba68a89867 20727b09767a9a7 1801781a767a23b b21b17a61671
896867916b63136 091b67 7807063b0b60 7b6 76b 308b76 019b76 819831b76 a126b7 12a3086b7 2902a96b7
6b72a3a83a98 723627 708760620 276237019 162186198876 a76a17137 a7617a187108 03707a0a96a7 76a7a88a9
684b86 36b306046 86b846901 946963931b36 6846b82a1 12a30b06b046 4b846b0292a9 a93a32943b36463 823842462
042462 190234246438 194142246 8138618466a1 a10a06604 4634386a3039a93 a946a4 49576b 083495b76 50154076b
b76834354315 954a1276b 6b712a083495 76b54a42a402 348354325a52b76 723762549 954086062687 362376150540
628687218485158 954a16176137 16a176107870954 40a4a503a6a737a 76a7a854a48a 6956b9b89 36b063056095
0b805b01556b 6b3635531 12a95b9b8b56 0b306b09656912a b85b56805a52025 6b36352a3a53 589528562382 956960062
158180568382628 156216 13616a386569896 a10a06950560 03856a a56 b5a75b b5ab75830 5b75ab190 a75ab7981831
b12b71751 08312717572b 9759279022b7 75272b592328982 25a235375 820852875a25 9015a35373a2 982921872a25752
135375 087071175 903935537 987597 5845a8ab8 5045b05abb30 01984a8aba45 ab4a45b34941314 2512852b8458
04b0b345b2b151b 0250592b5458b85 9452b3 25a352345384 5a2524420 3a235a385458019 5a2524192942 845853351
045105 845853905035 945 4b749b9ab 0834979b79ab 1ab1b414074b 3143481a474bab4 4b79b492b912 9749b791b2b1083
b74b42240 b74b42834324 29a279237749 9a7974a27870207 37a3a274a1a040a 1a2874 491417713 491417081871 403743
487 9a8ab8 30939bb9a 01a0a88ab 31ab3a 12b1b99b8 30939b1292b9 02b80b 32b 23828aa89 9a2092 23828a0181a8
1a2 138918 091 038 -
""".split()  # noqa: SIM905
"""Per case (bit b: the value at corner b is at most the level) the edges of its triangles, three hexadecimal digits each."""

_TRIANGLES = [[] if case == "-" else [int(digit, 16) for digit in case] for case in _CASES]
_CORNER_COUNT = np.array([len(edges) for edges in _TRIANGLES])
_PADDED = np.array([edges + [0] * (15 - len(edges)) for edges in _TRIANGLES])


def marching_cubes(
    volume: NDArray[np.float64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Surface where `volume` crosses `level`; faces look outward where larger values lie inside.

    Args:
        volume: (X, Y, Z) float; not finite values are not allowed.
        level: rounded to float32 as in the public extension.

    Returns:
        vertices (V, 3) float64 in index units, one per crossed grid edge, linearly interpolated (midpoint where both
        ends are equal), and faces (F, 3) int32. As in the public extension, cells do not share vertices that lie in
        the planes index = 0 of the volume; `closed_surface` pads, so that none do.
    """
    level = float(np.float32(level))
    volume = np.asarray(volume, np.float64)
    cells = np.array(volume.shape) - 1
    below = volume <= level
    case = np.zeros(cells, np.uint8)
    for bit, (x, y, z) in enumerate(CORNERS):
        case |= below[x : x + cells[0], y : y + cells[1], z : z + cells[2]].astype(np.uint8) << bit
    flat_cell = np.flatnonzero((case != 0) & (case != 255))
    case_of_cell = case.reshape(-1)[flat_cell]
    owner = np.repeat(np.arange(len(flat_cell)), _CORNER_COUNT[case_of_cell])  # the cell of each face corner
    slot = np.arange(len(owner)) - np.repeat(
        np.cumsum(_CORNER_COUNT[case_of_cell]) - _CORNER_COUNT[case_of_cell], _CORNER_COUNT[case_of_cell]
    )
    edge = _PADDED[case_of_cell[owner], slot]
    cell = np.stack(np.unravel_index(flat_cell, tuple(cells)), -1)[owner]
    low = cell + CORNERS[EDGES].min(1)[edge]  # (N, 3): the grid point where the edge starts
    axis = _EDGE_AXIS[edge]
    key = np.ravel_multi_index(tuple(low.T), volume.shape) * 3 + axis
    on_border = ((low == 0) & (np.arange(3) != axis[:, None])).any(1)
    key = np.where(on_border, key + 3 * volume.size * (1 + flat_cell[owner]), key)
    order = np.ravel_multi_index(tuple(cell.T), tuple(cells)) * 12 + _EDGE_RANK[edge]
    unique, inverse = np.unique(key, return_inverse=True)
    first = np.full(len(unique), np.iinfo(np.int64).max)
    np.minimum.at(first, inverse, order)
    rank = np.empty(len(unique), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(unique))
    vertices = np.empty((len(unique), 3))
    vertices[rank] = _crossings(volume, level, unique % (3 * volume.size))
    return vertices, rank[inverse].reshape(-1, 3).astype(np.int32)


def closed_surface(
    volume: NDArray[np.float64], level: float, box: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Mesh of a cube of samples, closed where the object touches the border (occupancy_networks, `extract_mesh`).

    Args:
        volume: (N, N, N) values, larger inside; axes x, y, z.
        level: value on the surface.
        box: edge of the sampled cube around the origin.

    Returns:
        vertices (V, 3) float64 in the frame of the cube and faces (F, 3) int32; both empty where nothing crosses.
    """
    vertices, faces = marching_cubes(np.pad(volume, 1, constant_values=-1e6), level)
    return box * ((vertices - 1.0) / (np.array(volume.shape) - 1.0) - 0.5), faces


def _crossings(volume: NDArray[np.float64], level: float, key: NDArray[np.int64]) -> NDArray[np.float64]:
    """Grid edges (3 * flat start + axis) -> (N, 3) points where the value equals `level`."""
    axis = key % 3
    start = np.stack(np.unravel_index(key // 3, volume.shape), -1)
    end = start + np.eye(3, dtype=np.int64)[axis]
    a, b = volume[tuple(start.T)], volume[tuple(end.T)]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(a == b, 0.5, (level - a) / (b - a))
    return start + t[:, None] * np.eye(3)[axis]
