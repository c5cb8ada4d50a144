"""Variance and rms gap of many cells: sample paths drawn once, used by every kernel and target.

Input and target of a path come from streams of their own, so that cells which differ only in the
kernel, the target or the noise see the same path of what they share.
"""

from __future__ import annotations

import numpy as np

from gradconv.atlas.exact import Group, with_kernel
from gradconv.gradient import FourierGradient, InputSource
from gradconv.mesh import MeshHierarchy

Fields = list[np.ndarray]


def draw_inputs(
    group: Group, noise: str, hierarchy: MeshHierarchy, replicates: int, seed: int
) -> Fields:
    """Noisy inputs of every level, shapes ``(replicates, 1, *mesh.shape)``."""
    source = InputSource(group.problem(noise), hierarchy, seed)
    return [data.x for data in source.sample(range(replicates))]


def draw_targets(
    group: Group, target: str, hierarchy: MeshHierarchy, replicates: int, seed: int
) -> Fields:
    """Targets of every level, shapes ``(replicates or 1, 1, *mesh.shape)``."""
    source = InputSource(group.problem(target=target), hierarchy, seed)
    return [data.y for data in source.sample(range(replicates))]


def gradients(
    kernel: str, hierarchy: MeshHierarchy, inputs: Fields, targets: dict[str, Fields]
) -> dict[str, np.ndarray]:
    """Scaled gradients by target, shape ``(replicates, levels, p)``.

    Parameters
    ----------
    kernel : str
        The kernel.
    hierarchy : MeshHierarchy
        Levels on which it is wanted: the last ones of those that were drawn.
    inputs, targets
        Of `draw_inputs` and `draw_targets`.
    """
    own = with_kernel(kernel, hierarchy.dim).convolution
    scale = np.broadcast_to(own.scale, own.theta.shape)[0, 0]
    found: dict[str, list[np.ndarray]] = {target: [] for target in targets}
    offset = len(inputs) - len(hierarchy)
    for level, mesh in enumerate(hierarchy.meshes, start=offset):
        engine = FourierGradient(own, mesh)
        x = engine.spectrum(inputs[level])
        for target, fields in targets.items():
            y = engine.spectrum(fields[level])
            found[target].append(np.asarray(engine.gradient(x, y))[:, 0, 0] * scale)
    return {target: np.stack(levels, axis=1) for target, levels in found.items()}
