# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle adjustment with priors on the lens, in numpy and scipy.

The mappers refine one focal length and one radial term. Phones and gantries have a shifted principal point and more
distortion, which turns into pose errors of a degree; but freeing all eight numbers without a prior lets weak sets run
away (fx 1211 for a true 1520 on an object turning about one axis). So every lens number has a Gaussian prior, and the
data move it as far as they know better. Levenberg-Marquardt on the Schur complement (Triggs et al., "Bundle
adjustment: a modern synthesis", 2000, section 6), Cauchy loss by reweighting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from ..cameras import rotations
from .sparse_model import LENS, SparseModel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LensPrior:
    """Standard deviations of the prior. Our choice, from phones, kit lenses and the gantry sets of the benchmark."""

    centre: float = 0.01
    """Of cx, cy around the picture's centre, as a share of the long side."""
    aspect: float = 0.002
    """Of fx / fy around 1."""
    k1: float = 0.05
    k2: float = 0.1
    tangential: float = 0.0003
    """Of p1 and p2 around 0."""
    focal: float = 1.0
    """Of log f around the focal length given, for lenses whose focal is not known."""
    known_focal: float = 0.05
    """The same for lenses with an EXIF focal length."""


SYSTEMATIC = 3.0
"""An observation counts as if its error were so many times the spread of the residuals: what a feature's place is off by
is shared by its whole track and hides from the residuals. Without this, weak sets overrule the prior (centre 6 px off on
12 views all round; 1.2 degrees instead of 0.3)."""


@dataclass(frozen=True)
class Adjusted:
    """What `adjust` yields."""

    model: SparseModel
    sigma_px: float
    """Robust standard deviation of one coordinate of the residuals."""
    rotation_deg: Floats
    """(N,) standard deviation of each camera's rotation, degrees (free gauge)."""
    centre: Floats
    """(N,) standard deviation of each camera's position, model units (free gauge)."""
    lens: Floats
    """(C, 8) standard deviations of the lens numbers, with the prior."""


def adjust(
    model: SparseModel,
    sizes: NDArray[np.int64],
    focal: Floats,
    known: NDArray[np.bool_],
    prior: LensPrior | None = None,
    iterations: int = 12,
    max_observations: int = 60_000,
    check: Callable[[], None] = lambda: None,
) -> Adjusted:
    """Refine poses, points and lenses together.

    Args:
        model: with a start that is roughly right.
        sizes: (C, 2) width and height of the working pictures of each lens.
        focal: (C,) focal length to expect, pixels.
        known: (C,) True where it comes from EXIF or the artist.
        prior: strength of the lens prior.
        iterations: Levenberg-Marquardt steps at most, per round; there are two rounds with outlier removal between.
        check: called once a step; raises when the artist cancels.
        max_observations: with more, the longest tracks are used and the other points follow by triangulation.

    Returns:
        The refined model (outliers removed) with uncertainties.
    """
    prior = prior or LensPrior()
    whole = model
    target, sigma = _prior(sizes, focal, known, prior)
    for limit, share in ((6.0, 3), (3.0, 1)):  # a third of the observations brings everything near
        model = _longest_tracks(whole, max_observations // share)
        part = len(model.image_of) < len(whole.image_of)
        model = _minimise(model, target, sigma, iterations, check)
        model = _without_outliers(model, limit)
        if part:
            whole = refine_points(replace(whole, poses=model.poses, lenses=model.lenses))
            whole = _without_outliers(whole, limit if share > 1 else 4.0)
        else:
            whole = model
    return _with_uncertainty(whole, model, target, sigma)


def _without_outliers(model: SparseModel, limit: float) -> SparseModel:
    """Without observations that are off by more than `limit` standard deviations; those within a pixel stay."""
    error = np.linalg.norm(model.residuals(), axis=1)
    return model.keep(error < max(limit * _spread(error), 1.0))


def refine_points(model: SparseModel, steps: int = 4) -> SparseModel:
    """Move the points to where their observations agree best, cameras fixed (Gauss-Newton, Cauchy weights)."""
    for _ in range(steps):
        residual, _, _, by_point = _linearise(model)
        weight = _cauchy(residual, _spread(np.linalg.norm(residual, axis=1)))
        normal = np.zeros((len(model.points), 3, 3))
        right = np.zeros((len(model.points), 3))
        np.add.at(normal, model.point_of, np.einsum("m,mki,mkj->mij", weight, by_point, by_point))
        np.add.at(right, model.point_of, np.einsum("m,mki,mk->mi", weight, by_point, residual))
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3) + 1e-12 * np.eye(3)
        model = replace(model, points=model.points - np.linalg.solve(normal, right[..., None])[..., 0])
    return model


def _prior(
    sizes: NDArray[np.int64], focal: Floats, known: NDArray[np.bool_], prior: LensPrior
) -> tuple[Floats, Floats]:
    """(C, 9) expected values and deviations: log f, fx / fy - 1 and the other six lens numbers, in this order."""
    long_side = sizes.max(1)
    target = np.zeros((len(sizes), 8))
    target[:, 0] = np.log(focal)
    target[:, 2:4] = sizes / 2
    sigma = np.tile(
        [0.0, prior.aspect, 0.0, 0.0, prior.k1, prior.k2, prior.tangential, prior.tangential], (len(sizes), 1)
    )
    sigma[:, 0] = np.where(known, prior.known_focal, prior.focal)
    sigma[:, 2:4] = prior.centre * long_side[:, None]
    return target, sigma


def _prior_terms(lens: Floats, target: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """Residual (8,) and Jacobian (8, 8) of the prior of one lens."""
    values = lens.copy()
    values[0], values[1] = 0.5 * np.log(lens[0] * lens[1]), lens[0] / lens[1] - 1
    jacobian = np.eye(8)
    jacobian[0, :2] = 0.5 / lens[:2]
    jacobian[1, :2] = 1 / lens[1], -lens[0] / lens[1] ** 2
    return (values - target) / sigma, jacobian / sigma[:, None]


def _longest_tracks(model: SparseModel, limit: int) -> SparseModel:
    """Tracks in order of length until `limit` observations are reached, but never fewer than 60 per image."""
    if len(model.image_of) <= limit:
        return model
    length = model.track_lengths()
    order = np.argsort(-length, kind="stable")
    chosen = np.zeros(len(length), bool)
    chosen[order[: int(np.searchsorted(np.cumsum(length[order]), limit))]] = True
    for image in range(len(model.images)):
        seen = np.unique(model.point_of[model.image_of == image])
        short = 60 - int(chosen[seen].sum())
        if short > 0:
            rest = seen[~chosen[seen]]
            chosen[rest[np.argsort(-length[rest], kind="stable")[:short]]] = True
    return model.keep(chosen[model.point_of])


def _spread(errors: Floats) -> float:
    """Robust standard deviation of one coordinate from (M,) lengths of 2-vectors: the Rayleigh median is 1.1774 sigma."""
    return max(float(np.median(errors)) / 1.1774 if len(errors) else 0.0, 0.05)


def _cauchy(residual: Floats, sigma: float) -> Floats:
    return 1.0 / (1.0 + (residual**2).sum(1) / (2.0 * sigma) ** 2)


def _linearise(model: SparseModel) -> tuple[Floats, Floats, Floats, Floats]:
    """Residuals (M, 2) and Jacobians by pose (M, 2, 6: turn, shift in the camera's frame), lens (M, 2, 8), point (M, 2, 3)."""
    local = model.local()
    depth = np.where(local[:, 2] > 1e-9, local[:, 2], 1e-9)
    x, y = local[:, 0] / depth, local[:, 1] / depth
    fx, fy, cx, cy, k1, k2, p1, p2 = model.lenses[model.lens_of_image[model.image_of]].T
    r2 = x * x + y * y
    radial, slope = 1 + k1 * r2 + k2 * r2 * r2, 2 * k1 + 4 * k2 * r2
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    residual = np.stack([fx * u + cx, fy * v + cy], 1) - model.pixels
    residual = np.where(local[:, 2:] > 1e-9, residual, 1e3)
    by_ideal = np.empty((len(x), 2, 2))
    by_ideal[:, 0, 0] = fx * (radial + slope * x * x + 2 * p1 * y + 6 * p2 * x)
    by_ideal[:, 0, 1] = fx * (slope * x * y + 2 * p1 * x + 2 * p2 * y)
    by_ideal[:, 1, 0] = fy * (slope * x * y + 2 * p1 * x + 2 * p2 * y)
    by_ideal[:, 1, 1] = fy * (radial + slope * y * y + 6 * p1 * y + 2 * p2 * x)
    inverse = 1.0 / depth
    zero = np.zeros_like(x)
    ideal = np.stack(
        [np.stack([inverse, zero, -x * inverse], 1), np.stack([zero, inverse, -y * inverse], 1)], 1
    )
    by_local = by_ideal @ ideal  # (M, 2, 3)
    by_lens = np.zeros((len(x), 2, 8))
    by_lens[:, 0, 0], by_lens[:, 1, 1] = u, v
    by_lens[:, 0, 2] = by_lens[:, 1, 3] = 1.0
    by_lens[:, 0, 4:] = np.stack([x * r2, x * r2 * r2, 2 * x * y, r2 + 2 * x * x], 1) * fx[:, None]
    by_lens[:, 1, 4:] = np.stack([y * r2, y * r2 * r2, r2 + 2 * y * y, 2 * x * y], 1) * fy[:, None]
    by_turn = np.cross(local[:, None, :], by_local)  # rows g of by_local: g . (w x X) = w . (X x g)
    by_pose = np.concatenate([by_turn, by_local], 2)
    return residual, by_pose, by_lens, by_local @ model.poses[model.image_of][:, :, :3]


@dataclass(frozen=True)
class _Normal:
    """The reduced normal equations of cameras and lenses, and what is needed to get the points back."""

    schur: Floats
    right: Floats
    point_inverse: Floats
    point_right: Floats
    coupling: scipy.sparse.csr_matrix


def _normal_equations(
    model: SparseModel, target: Floats, sigma: Floats, noise: float, damping: float
) -> _Normal:
    residual, by_pose, by_lens, by_point = _linearise(model)
    root = np.sqrt(_cauchy(residual, noise))[:, None] / (SYSTEMATIC * noise)
    residual = residual * root
    by_pose, by_lens, by_point = (
        by_pose * root[..., None],
        by_lens * root[..., None],
        by_point * root[..., None],
    )
    poses, lenses, points = len(model.images), len(model.lenses), len(model.points)
    size = 6 * poses + 8 * lenses
    columns = np.concatenate(
        [
            6 * model.image_of[:, None] + np.arange(6),
            6 * poses + 8 * model.lens_of_image[model.image_of][:, None] + np.arange(8),
        ],
        1,
    )  # (M, 14)
    rows = np.arange(2 * len(residual)).reshape(-1, 2)
    both = np.concatenate([by_pose, by_lens], 2)
    shape = both.shape
    camera_jacobian = scipy.sparse.csr_matrix(
        (both.ravel(), (np.repeat(rows.ravel(), 14), np.broadcast_to(columns[:, None], shape).ravel())),
        (2 * len(residual), size),
    )
    point_columns = np.broadcast_to((3 * model.point_of[:, None] + np.arange(3))[:, None], by_point.shape)
    point_jacobian = scipy.sparse.csr_matrix(
        (by_point.ravel(), (np.repeat(rows.ravel(), 3), point_columns.ravel())),
        (2 * len(residual), 3 * points),
    )
    upper = _camera_blocks(both, columns, model.image_of, size)
    right = camera_jacobian.T @ residual.ravel()
    for number in range(lenses):
        at = slice(6 * poses + 8 * number, 6 * poses + 8 * number + 8)
        miss, jacobian = _prior_terms(model.lenses[number], target[number], sigma[number])
        upper[at, at] += jacobian.T @ jacobian
        right[at] += jacobian.T @ miss
    upper[np.diag_indices(size)] *= 1 + damping
    blocks = np.zeros((points, 3, 3))
    np.add.at(blocks, model.point_of, np.einsum("mki,mkj->mij", by_point, by_point))
    blocks += (damping + 1e-9) * blocks * np.eye(3) + 1e-12 * np.eye(3)
    inverse: Floats = np.asarray(np.linalg.inv(blocks), np.float64)
    point_right = (point_jacobian.T @ residual.ravel()).reshape(-1, 3)
    coupling = (camera_jacobian.T @ point_jacobian).tocsr()
    starts = np.arange(points + 1)
    weighted = coupling @ scipy.sparse.bsr_matrix(
        (inverse, np.arange(points), starts), (3 * points, 3 * points)
    )
    schur = upper - (weighted @ coupling.T).toarray()
    right = right - weighted @ point_right.ravel()
    return _Normal(schur, right, inverse, point_right, coupling)


def _camera_blocks(
    jacobian: Floats, columns: NDArray[np.int64], image_of: NDArray[np.int32], size: int
) -> Floats:
    """(size, size) J^T J of poses and lenses: one small dense product per image, as only its own 14 columns are not 0."""
    out = np.zeros((size, size))
    order = np.argsort(image_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(image_of[order])) + 1):
        dense = jacobian[rows].reshape(-1, jacobian.shape[2])
        at = columns[rows[0]]
        out[np.ix_(at, at)] += dense.T @ dense
    return out


def _minimise(
    model: SparseModel, target: Floats, sigma: Floats, iterations: int, check: Callable[[], None]
) -> SparseModel:
    damping = 1e-4
    noise = _spread(np.linalg.norm(model.residuals(), axis=1))
    cost = _cost(model, target, sigma, noise)
    for _ in range(iterations):
        check()
        normal = _normal_equations(model, target, sigma, noise, damping)
        ridge = 1e-10 * np.trace(normal.schur) / len(normal.schur)  # the seven free directions of the gauge
        step = -scipy.linalg.solve(
            normal.schur + ridge * np.eye(len(normal.schur)), normal.right, assume_a="sym"
        )
        trial = _step(model, normal, step)
        trial_cost = _cost(trial, target, sigma, noise)
        if trial_cost < cost:
            settled = cost - trial_cost < 1e-5 * cost
            model, damping = trial, max(damping * 0.2, 1e-9)
            noise = _spread(np.linalg.norm(model.residuals(), axis=1))
            cost = _cost(model, target, sigma, noise)
            if settled:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    return model


def _cost(model: SparseModel, target: Floats, sigma: Floats, noise: float) -> float:
    """Cauchy cost of the observations plus the prior, in units of variances."""
    squared = (model.residuals() ** 2).sum(1) / (2.0 * noise) ** 2
    prior = sum(
        float((_prior_terms(lens, t, s)[0] ** 2).sum())
        for lens, t, s in zip(model.lenses, target, sigma, strict=True)
    )
    return float(4.0 * np.log1p(squared).sum()) / SYSTEMATIC**2 + prior


def _step(model: SparseModel, normal: _Normal, step: Floats) -> SparseModel:
    moved = normal.point_right + (normal.coupling.T @ step).reshape(-1, 3)
    points = model.points - np.einsum("pij,pj->pi", normal.point_inverse, moved)
    poses = model.poses.copy()
    count = 6 * len(poses)
    for number, change in enumerate(step[:count].reshape(-1, 6)):
        turn = rotations.from_axis_angle(change[:3])
        poses[number] = turn @ poses[number]
        poses[number, :, 3] += change[3:]
    lenses = model.lenses + step[count:].reshape(-1, len(LENS))
    lenses[:, :2] = np.clip(lenses[:, :2], 0.5 * model.lenses[:, :2], 2.0 * model.lenses[:, :2])
    return replace(model, poses=poses, points=points, lenses=lenses)


def _gauge(model: SparseModel) -> Floats:
    """(6 N + 8 C, 7) what a turn, a shift and a change of size of the world do to the numbers of poses and lenses."""
    out = np.zeros((6 * len(model.images) + 8 * len(model.lenses), 7))
    for number, pose in enumerate(model.poses):
        rotation, t = pose[:, :3], pose[:, 3]
        rows = slice(6 * number, 6 * number + 3), slice(6 * number + 3, 6 * number + 6)
        out[rows[0], :3] = -rotation
        out[rows[1], :3] = np.cross(rotation.T, t).T
        out[rows[1], 3:6] = -rotation
        out[rows[1], 6] = t
    return out


def _with_uncertainty(whole: SparseModel, used: SparseModel, target: Floats, sigma: Floats) -> Adjusted:
    """Covariance of cameras and lenses from the Schur complement; the gauge is free (pseudo-inverse).

    The seven directions of the gauge are taken out by name: by their small eigenvalues alone they could not be told from
    what the data know badly, and a leaking one gave every camera of a set the same 6 or 16 degrees.
    """
    noise = _spread(np.linalg.norm(used.residuals(), axis=1))
    normal = _normal_equations(used, target, sigma, noise, 0.0)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(normal.schur), 1e-30))
    gauge = np.linalg.qr(_gauge(used) / scale[:, None])[0]
    within = np.eye(len(scale)) - gauge @ gauge.T
    values, vectors = np.linalg.eigh(within @ (normal.schur * scale[:, None] * scale) @ within)
    values, vectors = values[7:], vectors[:, 7:]  # the gauge has 0, the rest is positive
    inverse = np.where(values > 1e-12 * values[-1], 1.0 / np.maximum(values, 1e-30), 0.0)
    variance = ((vectors**2) @ inverse) * scale**2
    poses = variance[: 6 * len(used.images)].reshape(-1, 6)
    return Adjusted(
        model=whole,
        sigma_px=noise,
        rotation_deg=np.degrees(np.sqrt(poses[:, :3].sum(1))),
        centre=np.sqrt(poses[:, 3:].sum(1)),
        lens=np.sqrt(variance[6 * len(used.images) :]).reshape(-1, len(LENS)),
    )
