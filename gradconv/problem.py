"""The problem under refinement: kernel × signal × target × noise × restriction, in one setting."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from gradconv.errors import InputError, check_whole, unknown_name
from gradconv.fields import NOISES, SIGNALS, TARGETS, SamplePath
from gradconv.kernels import KERNELS, Kernel, KernelFamily, KernelOptions
from gradconv.mesh import Mesh, MeshHierarchy, check_dim
from gradconv.registry import Choice, Registry
from gradconv.restriction import BOUNDARIES, RESTRICTIONS, ROUTES

SETTINGS = ("refinement", "coarsening")
# What tells one problem from another: the keys of `Problem.describe`, in the order of tables.
CHOICES = (
    "kernel",
    "signal",
    "target",
    "noise",
    "setting",
    "restriction",
    "dim",
    "boundary",
    "route",
    "channels",
)
# What is asked of a problem's gradients, in the order of tables; a gap is between two levels.
QUANTITIES = ("level_norm", "mean_gap", "rms_gap", "variance")
MEANS = ("level_norm", "mean_gap")
# The choices that are words of a registry.
REGISTERED: dict[str, Registry[Any]] = {
    "signal": SIGNALS,
    "target": TARGETS,
    "noise": NOISES,
    "restriction": RESTRICTIONS,
    "kernel": KERNELS,
}


def mesh_sizes(quantity: str, h: np.ndarray) -> np.ndarray:
    """Mesh size of each value of a quantity: gaps belong to the finer of their two levels."""
    return h if quantity == "level_norm" else h[1:]


@dataclass(frozen=True, repr=False)
class Problem:
    """A single linear layer K_h(θ), its data and its loss ½ h^d Σ |K_h(θ) x_h − y_h|².

    Every choice may be given as text, the way the command line takes it (``"pixel:0.5"``), or as
    a value.

    Parameters
    ----------
    kernel : str, KernelFamily or Kernel
        The convolution.
    signal : str or Signal
        Noise-free input u.
    target : str or Target
        Target y = m(D)u.
    noise : str or Noise
        Noise of the input.
    restriction : str or Restriction
        Fine → coarse map. In the refinement setting it says how a mesh sees the signal (u is taken
        on the mesh of half the size and restricted once); the noise there has the law of its own
        mesh.
    setting : {"refinement", "coarsening"}
        Whether each mesh has a problem of its own (h → 0), or the data live on the finest mesh
        and coarser levels come from the restriction alone (h_L fixed).
    dim : int
        1, 2 or 3.
    boundary : {"periodic", "zero", "reflecting"}
        What the convolution sees outside the box.
    channels : int
        Channels of signal, target and kernel.
    route : {"chain", "direct"}
        How coarsening reaches a level: steps by 2, or one step from the finest mesh.
    options : KernelOptions
        Kernel parameters.

    Raises
    ------
    InputError
        If a choice is unknown, or choices contradict each other.
    """

    kernel: Any = "stencil"
    signal: Any = "sobolev:3"
    target: Any = "identity"
    noise: Any = "none"
    restriction: Any = "average"
    setting: str = "coarsening"
    dim: int = 2
    boundary: str = "periodic"
    channels: int = 1
    route: str = "chain"
    options: KernelOptions = field(default_factory=KernelOptions)
    _labels: dict[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        labels = {}
        for name, registry in REGISTERED.items():
            given = getattr(self, name)
            if name == "kernel" and isinstance(given, Kernel):
                continue
            chosen = registry.parse(given)
            labels[name] = given.strip() if isinstance(given, str) else chosen.spec
            object.__setattr__(self, name, chosen)
        object.__setattr__(self, "_labels", labels)
        for argument, got, known in (
            ("setting", self.setting, SETTINGS),
            ("boundary", self.boundary, BOUNDARIES),
            ("route", self.route, ROUTES),
        ):
            if got not in known:
                raise unknown_name(argument, got, known)
        for name, value in (
            ("dim", check_dim(self.dim)),
            ("channels", check_whole("channels", self.channels, 1, 64)),
        ):
            object.__setattr__(self, name, value)
        self.restriction.check_boundary(self.boundary)
        if self.setting == "refinement" and not self.signal.refinable:
            raise InputError(
                f"`setting` refinement needs a signal that every mesh can ask for; "
                f"got {self.signal.spec} (an image has no limit h → 0; use coarsening)"
            )
        if self.setting == "refinement" and self.route == "direct":
            raise InputError("`route` direct belongs to the coarsening setting; got refinement")
        self._check_kernel()

    def _check_kernel(self) -> None:
        if isinstance(self.kernel, KernelFamily):
            strange = [o for o in self.options.given() if o not in self.kernel.options]
            if strange:
                raise InputError(
                    f"`{strange[0]}` is not a parameter of kernel {self.kernel.name}, "
                    f"which takes {', '.join(self.kernel.options) or 'none'}; got both"
                )
        kernel = self.convolution
        if kernel.dim != self.dim:
            raise InputError(f"`kernel` must have dim={self.dim}; got {kernel.dim}")
        if (kernel.out_channels, kernel.in_channels) != (self.channels, self.channels):
            raise InputError(
                f"`kernel` must map {self.channels} channels to {self.channels}; "
                f"got {kernel.in_channels} to {kernel.out_channels}"
            )
        if not np.all(np.isfinite(kernel.theta)):
            raise InputError("`kernel` parameters must be finite; got NaN or infinity")

    @cached_property
    def convolution(self) -> Kernel:
        """The kernel with its parameters."""
        if isinstance(self.kernel, Kernel):
            return self.kernel
        return self.kernel.build(self.dim, self.channels, self.options)

    def check(self, hierarchy: MeshHierarchy) -> None:
        """Raise an `InputError` if the problem cannot be put on the hierarchy; nothing is drawn."""
        if hierarchy.dim != self.dim:
            raise InputError(
                f"`dim` of problem and hierarchy must agree; got {self.dim} and {hierarchy.dim}"
            )
        coarsest, finest = hierarchy.meshes[0], self.source_mesh(hierarchy.finest)
        for mesh in (coarsest, finest):
            self.signal.check(mesh, self.channels)
        self.target.check(finest)
        self.restriction.check_size(finest.n)
        self.convolution.check(coarsest.h, self.boundary)

    def check_values(self, hierarchy: MeshHierarchy) -> None:
        """Raise an `InputError` if the signal's values cannot carry the noise."""
        if self.noise.gaussian:
            return
        if self.signal.random:
            self.noise.check(-np.inf, np.inf)
            return
        mesh = self.source_mesh(hierarchy.finest)
        for member in range(self.signal.members):
            drawn = self.draw_signal(mesh, member, 0)
            self.noise.check(float(drawn.min()), float(drawn.max()))

    def source_mesh(self, mesh: Mesh) -> Mesh:
        """Mesh on which the signal of a level is taken before it is restricted."""
        return Mesh(mesh.dim, 2 * mesh.n) if self.setting == "refinement" else mesh

    def draw_signal(self, mesh: Mesh, replicate: int, seed: int) -> np.ndarray:
        """Noise-free signal on a mesh, shape ``(channels, *mesh.shape)``."""
        path = SamplePath(seed, replicate, "signal")
        drawn: np.ndarray = self.signal.draw(mesh, self.restriction.grid, self.channels, path)
        return drawn

    @property
    def deterministic(self) -> bool:
        """Whether every replicate is the same."""
        return bool(
            self.noise.name == "none" and not self.signal.random and self.signal.members == 1
        )

    def __repr__(self) -> str:
        """Call that makes the problem again, in the words of the command line."""
        shown = []
        for f in fields(self):
            value = getattr(self, f.name)
            # A value of one's own, such as a multiplier, has a label but no text to parse.
            written = isinstance(value, Choice) and value.name in REGISTERED[f.name].names
            word = self._labels[f.name] if written else value
            if f.name == "kernel":
                shown.append(repr(word))
            elif f.name == "options":
                given = [f"{name}={getattr(value, name)!r}" for name in value.given()]
                shown += [f"options=KernelOptions({', '.join(given)})"] if given else []
            elif f.init and word != f.default:
                shown.append(f"{f.name}={word!r}")
        return f"Problem({', '.join(shown)})"

    def describe(self) -> dict[str, str | int]:
        """Return the choices, as they were given, under the keys of the data contract.

        A stencil's size is that of its weights, where they are given.
        """
        words = {"kernel": type(self.kernel).__name__, **self._labels}
        size, count = getattr(self.kernel, "size", None), getattr(self.convolution, "count", None)
        if size is not None and count is not None and size != count:
            words["kernel"] = f"{words['kernel'].partition(':')[0]}:{count}"
        return {name: words.get(name, getattr(self, name)) for name in CHOICES}
