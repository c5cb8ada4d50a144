"""The full law at finite h: sums over the modes of each mesh, with nothing sampled or expanded.

Means need the power of each mode. The variance of a gap needs how the modes of two levels vary
together: a coarse mode meets the 2^d fine modes that alias to it. With U = ∂σ x̂ and V = σx̂ − ŷ on
those modes, and signs s = +1 (fine) and −1 (coarse), Isserlis' theorem gives

    Var = Σ_ab s_a s_b Re[⟨V_a V̄_b⟩ conj⟨U_a Ū_b⟩ + ⟨V_a Ū_b⟩ conj⟨U_a V̄_b⟩]

for Gaussian data; independent pixels with a fourth cumulant κ₄ add κ₄ Σ_x B_xx², B the gap as a
quadratic form in the pixels. See `gradconv.laws.pairs` for the covariances.

What is summed here shares the data with the measured means (a signal's fields or spectrum), but no
code, with one exception: noise that follows a fixed signal from pixel to pixel enters both by
`gradconv.gradient.expectation.noise_spectra`, so that their agreement says nothing of that part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from gradconv.errors import unknown_name
from gradconv.fields import PixelLaw
from gradconv.gradient.inputs import InputSource
from gradconv.laws.pairs import LevelPair, level_pairs, slots
from gradconv.laws.symbols import KernelValues, closed_box, kernel_values, on_mesh
from gradconv.mesh import MeshHierarchy
from gradconv.problem import MEANS, QUANTITIES, Problem
from gradconv.restriction import LocalRestriction

BLOCK = 2**21  # numbers that a block of classes may hold at once
CANCELLED = 1e-14  # of the terms that cancel in a variance: what is left is rounding


def evaluate(
    problem: Problem, hierarchy: MeshHierarchy, levels: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Level norm, mean gap, variance and rms gap at the meshes of a hierarchy.

    Parameters
    ----------
    problem : Problem
        A periodic problem whose data have a known law.
    hierarchy : MeshHierarchy
        The levels.
    levels : mapping of str to int, optional
        On how many levels, counted from the coarsest, to evaluate a quantity; it is NaN on finer
        ones, and what is not named is left out. Default: everything on all levels.

    Returns
    -------
    dict of str to ndarray
        By quantity, coarse to fine. Where the variance has no formula, it and the rms gap are
        absent.
    """
    count = len(hierarchy)
    wanted = dict.fromkeys(QUANTITIES, count) if levels is None else levels
    for quantity in wanted:
        if quantity not in QUANTITIES:
            raise unknown_name("quantity", quantity, QUANTITIES)
    if why_no_variance(problem) is not None:
        wanted = {q: v for q, v in wanted.items() if q in MEANS}
    found = {}
    most = max((v for q, v in wanted.items() if q != "variance"), default=0)
    flat = np.zeros((0, 1))
    if most:
        flat = mean_gradients(problem, hierarchy, most).reshape(most, -1)
    gaps = np.linalg.norm(np.diff(flat, axis=0), axis=1)
    fluctuating = max((wanted.get(q, 0) for q in ("variance", "rms_gap")), default=0)
    variance = gap_variances(problem, hierarchy, fluctuating) if fluctuating else np.zeros(0)
    for quantity, own in wanted.items():
        if quantity == "level_norm":
            found[quantity] = _padded(np.linalg.norm(flat, axis=1)[:own], count)
        elif quantity == "mean_gap":
            found[quantity] = _padded(gaps[: max(own - 1, 0)], count - 1)
        elif quantity == "variance":
            found[quantity] = _padded(variance[: max(own - 1, 0)], count - 1)
        else:
            kept = max(own - 1, 0)
            found[quantity] = _padded(np.sqrt(gaps[:kept] ** 2 + variance[:kept]), count - 1)
    return found


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, (0, length - len(values)), constant_values=np.nan)


def on_level(problem: Problem, n: int) -> KernelValues:
    """Kernel of a problem on all modes of a mesh, FFT order."""
    values = kernel_values(problem.convolution, closed_box(n, problem.dim), 1.0 / n)
    return KernelValues(
        on_mesh(values.symbol, n, problem.dim), on_mesh(values.slopes, n, problem.dim)
    )


def mean_gradients(
    problem: Problem, hierarchy: MeshHierarchy, levels: int | None = None
) -> np.ndarray:
    """Expected scaled gradient of the first `levels` levels, shape ``(levels, out, in, p)``."""
    levels = len(hierarchy) if levels is None else levels
    pairs = level_pairs(problem, hierarchy, max(levels, 2))
    modes: list[tuple[np.ndarray, np.ndarray]] = [(pairs[0].coarse_power, pairs[0].coarse_cross)]
    modes += [(pair.fine_power, pair.fine_cross) for pair in pairs]
    source = InputSource(problem, hierarchy, 0)
    members = [] if problem.signal.random else source.members
    gradients = []
    for level, (power, cross) in enumerate(modes[:levels]):
        kernel = on_level(problem, hierarchy.sizes[level])
        gradient = _quadratic(kernel, power, cross)
        for signals, targets in members:
            x = problem.noise.gain * signals[level] + problem.noise.offset
            gradient = gradient + _deterministic(kernel, x, targets[level]) / len(members)
        if not members and problem.noise.offset:
            x = np.full((problem.channels, *hierarchy.meshes[level].shape), problem.noise.offset)
            gradient = gradient + _deterministic(kernel, x, 0.0 * x)
        gradients.append(gradient)
    return np.array(gradients)


def _quadratic(kernel: KernelValues, power: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Σ_k Re[conj(∂σ_oi)(σ_oi P_i − δ_oi C)]; P has shape ``(in or 1, *modes)``."""
    weighted = kernel.symbol * power
    for channel in range(weighted.shape[0]):
        weighted[channel, channel] = weighted[channel, channel] - cross
    out, inner, p = kernel.slopes.shape[:3]
    rows = kernel.slopes.reshape(out, inner, p, -1)
    return _summed(rows, weighted.reshape(out, inner, -1))


def _summed(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ_k Re[conj(rows_oipk) values_oik], shape ``(out, in, p)``.

    `numpy.sum` adds in pairs. A product of matrices adds one mode after the other: on 1024² modes
    the gap of neighbouring levels is left with seven digits.
    """
    columns = [(rows[:, :, i].conj() * values).real.sum(axis=-1) for i in range(rows.shape[2])]
    return np.stack(columns, axis=-1)


def _deterministic(kernel: KernelValues, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gradient of fixed fields, shapes ``(channels, *mesh)``."""
    axes = tuple(range(1, x.ndim))
    x_modes, y_modes = (np.fft.fftn(a, axes=axes, norm="forward") for a in (x, y))
    residual = np.einsum("oi...,i...->o...", kernel.symbol, x_modes) - y_modes
    slopes = kernel.slopes.reshape(*kernel.slopes.shape[:3], -1)
    x_flat, rest = (a.reshape(len(a), -1) for a in (x_modes, residual))
    return _summed(slopes, rest[:, None] * x_flat.conj()[None])


def why_no_variance(problem: Problem) -> str | None:
    """Why the variance of a problem has no formula here; None if it has one."""
    noise = problem.noise
    if isinstance(noise, PixelLaw) and noise.fourth_cumulant is None:
        return (
            f"noise {noise.name} depends on the signal from pixel to pixel: its fourth moments "
            "do not follow from spectra"
        )
    if isinstance(noise, PixelLaw) and not isinstance(problem.restriction, LocalRestriction):
        return (
            f"restriction {problem.restriction.name} mixes all pixels: the fourth cumulant of "
            f"{noise.name} noise is not summed here"
        )
    if not problem.restriction.shift_invariant:
        return (
            f"restriction {problem.restriction.name} depends on the position: noise is not "
            "stationary"
        )
    if problem.signal.members > 1:
        return "paths go through a folder of images in turn: their spread is no noise"
    return None


def gap_variances(
    problem: Problem, hierarchy: MeshHierarchy, levels: int | None = None
) -> np.ndarray:
    """Variance of the gap between neighbours of the first `levels` levels, ``(levels − 1,)``."""
    source = InputSource(problem, hierarchy, 0)
    members = [] if problem.signal.random else source.members
    coarse = on_level(problem, hierarchy.sizes[0])
    found = []
    for level, pair in enumerate(level_pairs(problem, hierarchy, levels)):
        fine = on_level(problem, pair.n)
        parts = _gaussian(fine, coarse, pair, list(_blocks(problem, pair)))
        if members:
            signals, targets = members[0]
            data = [(signals[i], targets[i]) for i in (level + 1, level)]
            parts.append(_linear(fine, coarse, pair, data))
        variance, size = np.sum(parts, axis=0)
        if isinstance(problem.noise, PixelLaw):
            variance += _fourth_cumulant(problem, fine, coarse, pair)
        # terms of the two levels cancel: what is left of them by rounding is no variance
        found.append(float(variance) if variance > CANCELLED * size else 0.0)
        coarse = fine
    return np.array(found)


def _blocks(problem: Problem, pair: LevelPair) -> Iterator[slice]:
    """Classes, in blocks that fit in memory."""
    dim = problem.dim
    classes, count = (pair.n // 2) ** dim, 2**dim + 1
    step = max(1, BLOCK // (count * count * problem.convolution.theta.shape[2]))
    for start in range(0, classes, step):
        yield slice(start, min(start + step, classes))


def _gaussian(
    fine: KernelValues, coarse: KernelValues, pair: LevelPair, blocks: list[slice]
) -> list[np.ndarray]:
    """Wick sums over blocks of classes, each with the size of what cancels in it."""
    dim = pair.dim
    d = np.concatenate([slots(fine.slopes, dim), slots(coarse.slopes, dim, 1)], axis=-1)
    v = np.concatenate([slots(fine.symbol, dim), slots(coarse.symbol, dim, 1)], axis=-1)
    covariances = pair.covariances()
    return [
        _wick(dim, d[..., block, :], v[..., block, :], *(c[block] for c in covariances))
        for block in blocks
    ]


def _wick(
    dim: int, d: np.ndarray, v: np.ndarray, xx: np.ndarray, yx: np.ndarray, yy: np.ndarray
) -> np.ndarray:
    """Wick sum over some classes: slopes d, symbols v, covariances of inputs x and targets y."""
    signs = np.append(np.ones(2**dim), -1.0)
    s = np.multiply.outer(signs, signs)
    out, inner = v.shape[:2]
    total, size = 0.0, 0.0
    for o in range(out):
        # ⟨V V̄⟩: channels are independent, only channel o carries the target
        vv = sum(v[o, i, :, :, None] * v[o, i, :, None, :].conj() for i in range(inner)) * xx
        own = min(o, inner - 1) == o
        if own:
            vv = vv - v[o, o, :, :, None] * np.swapaxes(yx, -1, -2).conj()
            vv = vv - yx * v[o, o, :, None, :].conj() + yy
        for i in range(inner):
            vx = v[o, i, :, :, None] * xx - (yx if i == o else 0.0)
            xv = np.swapaxes(vx, -1, -2).conj()
            # ∂σ summed over the parameters: Σ ∂σ_a conj ∂σ_b, Σ ∂σ_a ∂σ_b and a bound on both
            rows = np.moveaxis(d[o, i], 0, -1)
            columns = np.swapaxes(rows, -1, -2)
            mixed, plain = rows @ columns.conj(), rows @ columns
            bound = np.abs(rows) @ np.abs(columns)
            terms = (vv * (mixed * xx).conj() + vx * (plain * xv).conj()).real
            total += float(np.sum(s * terms))
            size += float(np.sum(bound * np.abs(vv * xx) + bound * np.abs(vx * xv)))
    return np.array([total, size])


def _linear(
    fine: KernelValues,
    coarse: KernelValues,
    pair: LevelPair,
    data: list[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """What noise on a fixed signal adds: E|Σ conj(η̂) ℓ|², ℓ = conj(∂σ)v̄ + ∂σ x̄ conj(σ).

    And the size of what cancels in it.
    """
    dim = pair.dim
    parts = []
    for kernel, (x, y) in zip((fine, coarse), data, strict=True):
        axes = tuple(range(1, dim + 1))
        x_modes, y_modes = (np.fft.fftn(a, axes=axes, norm="forward") for a in (x, y))
        v = np.einsum("oi...,i...->o...", kernel.symbol, x_modes) - y_modes
        first = kernel.slopes.conj() * v[:, None, None]
        second = kernel.slopes * x_modes[None, :, None]
        parts.append((first, second, kernel.symbol.conj()))
    out, inner = fine.symbol.shape[:2]
    signs = np.append(np.ones(2**dim), -1.0)
    noise = pair.noise_covariance()
    total, size = 0.0, 0.0
    for o in range(out):
        for i in range(inner):
            for other in range(inner):
                levels = []
                for (first, second, symbol), layers in zip(parts, (None, 1), strict=True):
                    ell = second[o, i] * symbol[o, other]
                    if other == i:
                        ell = ell + first[o, i]
                    levels.append(slots(ell, dim, layers))
                ell = np.concatenate(levels, axis=-1) * signs
                total += float(np.einsum("pca,cab,pcb->", ell, noise.conj(), ell.conj()).real)
                size += float(np.einsum("pca,caa->", np.abs(ell) ** 2, noise.real))
    return np.array([total, size])


def _fourth_cumulant(
    problem: Problem, fine: KernelValues, coarse: KernelValues, pair: LevelPair
) -> float:
    """κ₄ Σ_x B_xx² over the pixels that the noise is drawn on."""
    assert isinstance(problem.noise, PixelLaw)
    assert problem.noise.fourth_cumulant is not None
    dim = problem.dim
    maps = []
    for kernel, n, taps in (
        (fine, pair.n, pair.fine_taps),
        (coarse, pair.n // 2, pair.coarse_taps),
    ):
        factor = pair.base // n
        mixed = np.einsum("oip...,oi...->oip...", kernel.slopes.conj(), kernel.symbol).real
        axes = tuple(range(-dim, 0))
        lags = np.fft.ifftn(mixed, axes=axes).real / float(n) ** dim
        maps.append((_diagonal(lags, taps, factor, dim), factor))
    (first, factor), (second, double) = maps
    tile = (1,) * 3 + (double // factor,) * dim
    difference = np.tile(first, tile) - second
    blocks = float(pair.base // double) ** dim
    # channels: x_i x_i' with i ≠ i' has no diagonal
    return float(problem.noise.fourth_cumulant * blocks * np.sum(difference**2))


def _diagonal(lags: np.ndarray, taps: dict[int, float], factor: int, dim: int) -> np.ndarray:
    """B_xx by remainder of the pixel's position, shape ``(out, in, p, factor, …)``."""
    reach: dict[int, np.ndarray] = {}
    for offset, weight in taps.items():
        block, remainder = divmod(offset, factor)
        reach.setdefault(-block, np.zeros(factor))[remainder] += weight
    total = np.zeros((*lags.shape[:3], *(factor,) * dim))
    for one in np.ndindex(*(len(reach),) * dim):
        for two in np.ndindex(*(len(reach),) * dim):
            keys = list(reach)
            apart = tuple(keys[a] - keys[b] for a, b in zip(one, two, strict=True))
            product: np.ndarray = np.ones((1,) * dim)
            for axis, (a, b) in enumerate(zip(one, two, strict=True)):
                shape = [1] * dim
                shape[axis] = factor
                product = product * (reach[keys[a]] * reach[keys[b]]).reshape(shape)
            total += lags[(..., *apart)].reshape(*lags.shape[:3], *(1,) * dim) * product
    return total
