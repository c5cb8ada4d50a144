"""Operator aliasing: what a module makes of one band-limited input on two neighbouring meshes.

If a module acts as one operator on functions, its outputs on two meshes have the same Fourier
coefficients wherever both resolve them. The aliasing error is their relative difference.

References
----------
F. Bartolucci, E. de Bézenac, B. Raonić, R. Molinaro, S. Mishra, R. Alaifari, "Representation
equivalent neural operators: a framework for alias-free operator learning", NeurIPS 2023, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gradconv.audit.measure import ROUNDING_KEY, Tick
from gradconv.audit.subject import Subject
from gradconv.bootstrap import estimate
from gradconv.errors import InputError
from gradconv.fields import SamplePath
from gradconv.fields.signal import BandLimited
from gradconv.mesh import Mesh
from gradconv.rates import Rate, fit_rate

PATHS = 8
ROUNDING = 256.0  # FFTs of input and output, and the module between them, in epsilons


@dataclass(frozen=True)
class Aliasing:
    """Relative aliasing error of each pair of neighbouring levels.

    Parameters
    ----------
    h : ndarray
        Finer mesh size of each pair, shape ``(levels − 1,)``, in units of the box.
    squares : ndarray
        Squared relative errors, shape ``(paths, levels − 1)``.
    modes : int
        Largest |j| of the input.
    epsilon : float
        Machine epsilon of the arithmetic.
    """

    h: np.ndarray
    squares: np.ndarray
    modes: int
    epsilon: float

    @property
    def values(self) -> np.ndarray:
        """Root mean square over paths, shape ``(levels − 1,)``."""
        return np.asarray(np.sqrt(self.squares.mean(axis=0)))

    @property
    def stderr(self) -> np.ndarray:
        """Standard errors of `values`."""
        return estimate(self.squares, None, 0.5)[1]

    def rate(self, confidence: float = 0.95, seed: int = 0) -> Rate:
        """Signed order in h: an operator on functions converges, or is exact."""
        return fit_rate(
            self.h,
            paths=self.squares,
            power=0.5,
            floor=ROUNDING * self.epsilon,
            confidence=confidence,
            seed=seed,
        )


def band_limited(
    mesh: Mesh, channels: int, grid: str, modes: int, seed: int, path: int
) -> torch.Tensor:
    """Sample path of a band-limited field on a mesh, shape ``(1, channels, *mesh.shape)``."""
    stream = SamplePath(seed + ROUNDING_KEY, path, "signal")
    drawn = BandLimited(modes).draw(mesh, grid, channels, stream)
    return torch.from_numpy(drawn[None])


def resolved_modes(n: int) -> int:
    """Band that n cells resolve with 8 cells a wave: products of up to 4 do not alias."""
    return max(1, min(100, n // 8))


def aliasing(subject: Subject, channels: int, grid: str, seed: int, step: Tick) -> Aliasing:
    """Measure the aliasing error of the whole module.

    Parameters
    ----------
    subject : Subject
        The module.
    channels : int
        Channels of its input.
    grid : {"cell", "vertex"}
        Where its values live.
    seed : int
        Seed of the inputs.
    step : callable
        Called after each path.

    Raises
    ------
    InputError
        If the coarsest mesh resolves no wave, or outputs cannot be compared.
    """
    meshes = subject.meshes
    modes = resolved_modes(meshes[0].n)
    if 2 * modes >= meshes[0].n:
        raise InputError(
            f"`hierarchy` must resolve a wave on the coarsest mesh; got n={meshes[0].n}"
        )
    squares = np.empty((PATHS, len(meshes) - 1))
    for path in range(PATHS):
        coarse: torch.Tensor | None = None
        for level, mesh in enumerate(meshes):
            x = band_limited(mesh, channels, grid, modes, seed, path)
            with torch.no_grad():
                made = subject.predict(level, x, path)
            if not isinstance(made, torch.Tensor):
                raise InputError("`output` must be a tensor for the aliasing error")
            if coarse is not None:
                squares[path, level - 1] = relative_difference(coarse, made, mesh.dim, grid) ** 2
            coarse = made
        step()
    epsilon = float(torch.finfo(subject.dtype).eps)
    return Aliasing(np.array([m.h for m in meshes[1:]]), squares, modes, epsilon)


def relative_difference(coarse: torch.Tensor, fine: torch.Tensor, dim: int, grid: str) -> float:
    """‖fine − coarse‖ / ‖fine‖ over what both meshes resolve; plain for outputs without a mesh."""
    coarse, fine = (t.detach().to("cpu") for t in (coarse, fine))
    if coarse.shape != fine.shape:
        halves = tuple(2 * n for n in coarse.shape[2:]) == tuple(fine.shape[2:])
        if coarse.ndim != dim + 2 or not halves or coarse.shape[:2] != fine.shape[:2]:
            raise InputError(
                "`module` must return outputs that follow the mesh for the aliasing error; "
                f"got shapes {tuple(coarse.shape)} and {tuple(fine.shape)} on neighbouring levels"
            )
        coarse, fine = common_modes(coarse, fine, dim, grid)
    scale = float(torch.linalg.vector_norm(fine))
    return float(torch.linalg.vector_norm(fine - coarse)) / scale if scale else 0.0


def common_modes(
    coarse: torch.Tensor, fine: torch.Tensor, dim: int, grid: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fourier coefficients that both meshes resolve, the coarse mesh's Nyquist modes left out.

    On cell centres the meshes' origins differ by half a fine cell, which the phase takes out.
    """
    limits = [(n - 1) // 2 for n in coarse.shape[2:]]
    return _modes(coarse, dim, grid, limits), _modes(fine, dim, grid, limits)


def _modes(x: torch.Tensor, dim: int, grid: str, limits: list[int]) -> torch.Tensor:
    spectrum = torch.fft.fftn(x, dim=tuple(range(-dim, 0)), norm="forward")
    for axis, limit in zip(range(-dim, 0), limits, strict=True):
        n = x.shape[axis]
        j = torch.arange(-limit, limit + 1)
        spectrum = spectrum.index_select(axis % x.ndim, j % n)
        if grid == "cell":
            phase = torch.exp(-1j * torch.pi * j.to(x.real.dtype) / n)
            spectrum = spectrum * phase.reshape((-1, *(1,) * (-axis - 1)))
    return spectrum
