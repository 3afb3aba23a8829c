# SPDX-License-Identifier: GPL-3.0-or-later
"""Marching cubes (Lorensen and Cline 1987) as array operations on a list of cells.

The 256 cases are those of the classic public table (Bourke), without disambiguation; the fixtures `mc256_*` hold every
case as the public extraction libraries answer it. Bit b of a case is set where corner b is outside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LookUp = Callable[[Tensor], Tensor]

CORNERS = torch.tensor(
    [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
)
"""(8, 3) int64: offset of corner b of a cell, x y z."""

# One word per case: three edges per triangle, outward when seen counter-clockwise. Edge 4 * axis + a + 2 * b starts at
# the corner whose offsets along the two other axes (in the order x y z) are a and b.
_WORDS = """
- 084 059 584985 51b 08451b 91b019 1841b8b98 4a1 0a18a0 59014a 5a159a98a 4b5ab4 0b508b8ab 4904a9ab9 98bb8a
268 240642 059826 259265645 51b826 42640251b 91b901826 1b9196164692 8264a1 a26a12102 90582614a 26a92a9a1915
4b54ab682 5ab52a5026a2 26890a9aba04 26a2a99ab 972 972084 072570 872847457 51b972 40851b297 71b721201
1b7417472428 97214a 0a108a297 07205714a 15717818a287 b4ab54972 2970858b58ab 72070a7aba04 72878bb8a 968769
940974764 068056576 574476 968976b51 b51970740764 801817876b71 1b7174476 6976894a1 97696191016a 14a058568576
a15a56657 978876b54b4a 7607096a050bab0 ab0a04b70806760 ab76a7 b37 0847b3 9057b3 5845987b3 537135 537513408
937903013 798781713418 14ab37 a08a10b37 05914a7b3 7b35919a198a 34a374754 08a0a70757a3 4a3043037079 37939aa98
7b3268 24026437b 5907b3826 b37596564692 351375268 517713402426 826907037013 649692419793139 4a1682b37
7b326121016a 05926814a7b3 9159a192a6a27b3 8264a74757a3 75a7a350a6a202a 079037043a34826 37939a2696a9 b2932b
2b329b084 b05b30320 84585383235b 529512132 408519129132 012213 841812213 b29b32a14 08118a29b2b3 4a105303235b
32535b28515a8a5 932943954a34 8a5850a35952325 4a3430032 328a38 6b368b89b 0640b609b36b b365b6568580 b36b65564
513538589836 139195369094649 680603301 641361 14ab38b89836 10616a09636b9b6 5805685b636b14a a15a56b35365
893836953a34543 095a36 6806034a0a30 6a3 63a 408a63 059a63 859845a63 b513a6 51b4083a6 1901b93a6 3a61b4b84b98
614316 608630310 163146059 531583598863 b63b56546 b6356b586508 04606b0b93b6 63b6b88b9 382a83 43a403023
83a823905 923934945a43 3823a81b5 51b40a03a023 2a823a0191b9 b94b41924a43234 814821231 021231 590142123248
592521123 8548358233b5 b50b03302 2342483b4049b94 b923b2 29763a 084297a63 70572063a a63842472457 972b5163a
3a651b084297 63a72b21b201 428472417b71a63 614631729 972083031386 431463570720 318386158287578 972b53563546
53b563506860972 20b2b704b3b646b 63b6b872b28b 3973a9a89 43a034073097 0a807a05773a 3a4347745 51b97a9a8a73
0a403a09373951b a87a73807b71017 3a43471b4b74 789718731481 973930031 578580738481318 573153 54353b483739893
b50b03970730 04873b b73 a7b67a a7ba67840 7a67ba590 b67ba6985845 a51a65675 08451656761a 9679169011a6
67161a791418981 17b147467 810871867b17 9057b47464b1 981915861b17671 547467 086065567 904947746 986796
7827b8ba8 7027a07baa40 05982b8bab27 ba2b27a42925452 1751871a8278 02a0a427a1a575a 0170791a7278a87 9271a4
17b471427482 7b1712210 4b147b487278059 7b1712591921 827874475 027507 827874907047 927 2a629a9ba 0842969a69ba
5ba5a252062a 4524285b262aba2 2a69a291a951 9629a695a1a5084 a62a21120 a62a21842412 19b169146629
9b6962b16860106 46b4b162b5b020b 5b1862 295256654 295256085865 204624 286 9b8ba8 40949aa9b 05b0b88ba 45ba4b
51a5a99a8 40949a5191a9 01a80a 41a 14818bb89 9b1091 14818b0585b8 5b1 548958 095 048 -
"""


def _triangle_table() -> Tensor:
    table = torch.full((256, 15), -1, dtype=torch.long)
    for case, word in enumerate(_WORDS.split()):
        edges = [] if word == "-" else [int(letter, 16) for letter in word]
        table[case, : len(edges)] = torch.tensor(edges, dtype=torch.long)
    return table


TRIANGLES = _triangle_table()
"""(256, 15) int64: edges of up to five triangles, -1 where there are fewer."""
TRIANGLE_COUNT = (TRIANGLES >= 0).sum(1) // 3
"""(256,) int64."""
EDGE_AXIS = torch.arange(12) // 4
"""(12,) int64: direction of an edge."""
EDGE_START = torch.tensor(
    [
        tuple(
            0 if axis == own else (bits & 1 if axis == min({0, 1, 2} - {own}) else bits >> 1)
            for axis in range(3)
        )
        for own in range(3)
        for bits in range(4)
    ]
)
"""(12, 3) int64: corner from which an edge runs in positive direction; the cell at that corner owns the edge."""


def cases(inside: Tensor) -> Tensor:
    """(C, 8) bool: corner inside -> (C,) int64 number of the case."""
    bits = torch.tensor([1 << b for b in range(8)], device=inside.device)
    return ((~inside).long() * bits).sum(1)


def march(values: Tensor, cells: Tensor, number_of: LookUp) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Triangles of the zero set of a function that is positive inside, given at the corners of cells.

    Args:
        values: (C, 8) float, corners in the order of `CORNERS`. Every cell with an edge of two signs must be among them.
        cells: (C, 3) int64, lattice position of each cell's corner 0.
        number_of: (N, 3) int64 cell positions -> (N,) int64 rows of `cells`.

    Returns:
        (V, 3) int64 lattice point where the edge of each vertex starts, (V,) int64 its axis, (V, 2) values at its two
        ends, (F, 3) int64 faces, counter-clockwise seen from outside. One vertex per crossed edge.
    """
    device = values.device
    inside = values > 0
    case = cases(inside)
    own = torch.stack(
        [inside[:, 0] != inside[:, far] for far in (1, 3, 4)], 1
    )  # (C, 3): the cell's own edges
    owner, axis = torch.nonzero(own, as_tuple=True)
    ends = torch.stack([values[owner, 0], values[owner, torch.tensor([1, 3, 4], device=device)[axis]]], 1)
    first = own.sum(1).cumsum(0) - own.sum(1)  # number of each cell's first vertex
    rank = own.long().cumsum(1) - own.long()  # (C, 3): which of its cell's vertices an edge carries

    count = TRIANGLE_COUNT.to(device)[case]
    start = count.cumsum(0) - count
    faces = torch.empty((int(count.sum()), 3), dtype=torch.long, device=device)
    triangles, edge_start, edge_axis = (t.to(device) for t in (TRIANGLES, EDGE_START, EDGE_AXIS))
    for turn in range(5):
        index = torch.nonzero(count > turn).squeeze(1)
        for corner in range(3):
            edge = triangles[case[index], 3 * turn + corner]
            neighbour = number_of(cells[index] + edge_start[edge])
            faces[start[index] + turn, corner] = first[neighbour] + rank[neighbour, edge_axis[edge]]
    return cells[owner], axis, ends, faces


def marching_cubes(volume: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Surface of a dense volume, closed at its border, outward where inside is larger.

    Args:
        volume: (X, Y, Z) float.
        level: iso value.

    Returns:
        (V, 3) vertices in units of grid steps, in the volume's dtype; (F, 3) int64 faces. Empty tensors where nothing crosses the level.
    """
    grid = torch.nn.functional.pad(volume - level, (1, 1, 1, 1, 1, 1), value=-1e6)
    inside = grid > 0
    shape = torch.tensor(grid.shape, device=grid.device) - 1
    total = torch.zeros(tuple(shape.tolist()), dtype=torch.uint8, device=grid.device)
    for x, y, z in CORNERS.tolist():
        total += inside[x : x + int(shape[0]), y : y + int(shape[1]), z : z + int(shape[2])]
    cells = torch.nonzero(torch.logical_and(total > 0, total < 8))
    number = torch.full(tuple(shape.tolist()), -1, dtype=torch.int32, device=grid.device)
    number[tuple(cells.T)] = torch.arange(len(cells), dtype=torch.int32, device=grid.device)
    corners = cells[:, None] + CORNERS.to(grid.device)
    values = grid[corners[..., 0], corners[..., 1], corners[..., 2]]
    base, axis, ends, faces = march(values, cells, lambda at: number[at[:, 0], at[:, 1], at[:, 2]].long())
    return place(base, axis, ends) - 1.0, faces


def place(base: Tensor, axis: Tensor, ends: Tensor) -> Tensor:
    """Linear crossing on each edge: (V, 3) positions in lattice steps, dtype of `ends`."""
    vertices = base.to(ends.dtype)
    vertices[torch.arange(len(base), device=base.device), axis] += ends[:, 0] / (ends[:, 0] - ends[:, 1])
    return vertices
