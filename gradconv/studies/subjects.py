"""Modules that studies examine, by the name that a configuration calls them by."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import nn

from gradconv.errors import InputError, check_whole, shortened, unknown_name
from gradconv.nn import MeshFreeFactory, ResNet
from gradconv.nn.networks.factory import conv_factory
from gradconv.nn.random_state import preserved_random_state
from gradconv.studies import published_layers

Record = dict[str, Any]
WIDTHS = (1 / 16, 1 / 8)
"""Of the mesh-free kernels of a ResNet: none is narrower than a cell from 16 cells an axis on."""

# Distribution -> the package to import, and what installs it.
PACKAGES = {"neuraloperator": "neuralop", "torch-harmonics": "torch_harmonics"}
EXTRA = "pip install gradconv[compare]"


@dataclass(frozen=True)
class Subject:
    """What a study examines.

    Parameters
    ----------
    title : str
        As figures and tables call it.
    factory : callable
        Makes it; without arguments, or with the cells ``n`` an axis of each mesh.
    packages : tuple of str
        Distributions it comes from, beside torch and gradconv.
    kernel : str or None
        Kernel whose law is that of a single layer of it: "stencil", "mfc", or None.
    """

    title: str
    factory: Callable[..., nn.Module]
    packages: tuple[str, ...] = ()
    kernel: str | None = None

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self.packages[0] if self.packages else "torch, gradconv"

    def require(self) -> None:
        """Refuse to go on without its packages.

        Raises
        ------
        InputError
            That names the missing package and what installs it.
        """
        for package in self.packages:
            if find_spec(PACKAGES[package]) is None:
                raise InputError(
                    f"`module` {self.title} needs the package {package}, which is not installed: "
                    f"{EXTRA}"
                )


def resnet(
    *,
    conv: str = "standard",
    blocks: int = 1,
    channels: int = 4,
    widths: Sequence[float] | None = None,
    activation: str = "silu",
    dim: int = 2,
) -> Subject:
    """Residual network of one channel: opening convolution, `blocks` residual ones, closing one.

    Parameters
    ----------
    conv : {"standard", "mfc"}
        Its convolutions.
    blocks : int
        Residual layers, at least 1.
    channels : int
        Channels in between.
    widths : sequence of float, optional
        Range of the widths of mesh-free kernels at the start, in units of the box; by default
        `WIDTHS`. Standard ones have none.
    activation : str
        See `gradconv.nn.ResNet`.
    dim : int
        1, 2 or 3.
    """
    check_whole("blocks", blocks, 1)
    known = {"standard": "stencil", "mfc": "mfc"}
    if conv not in known:
        raise unknown_name("conv", conv, known)
    if widths is not None and conv == "standard":
        raise InputError(f"`widths` must be left out for conv standard; got {shortened(widths)}")
    if widths is not None and (not isinstance(widths, (list, tuple)) or len(widths) != 2):
        raise InputError(f"`widths` must be two numbers; got {shortened(widths)}")
    kernels = WIDTHS if widths is None else (widths[0], widths[1])
    factory = partial(_resnet, conv, blocks, channels, kernels, activation, dim)
    with preserved_random_state("cpu"):
        factory()  # refuses what is wrong with the rest
    words = {"standard": "standard ResNet", "mfc": "mesh-free ResNet"}
    return Subject(words[conv], factory, kernel=known[conv])


def _resnet(
    conv: str, blocks: int, channels: int, widths: tuple[float, float], activation: str, dim: int
) -> nn.Module:
    made = MeshFreeFactory(dim, widths) if conv == "mfc" else conv_factory(conv, dim)
    return ResNet(
        1, 1, dim=dim, channels=channels, layers=blocks + 2, conv=made, activation=activation
    )


def _published(
    title: str,
    factory: Callable[..., nn.Module],
    package: str | None = None,
    kernel: str | None = None,
) -> Callable[[], Subject]:
    found = Subject(title, factory, () if package is None else (package,), kernel)
    return lambda: found


_OPERATOR, _SPHERE = "neuraloperator", "torch-harmonics"
SUBJECTS: dict[str, Callable[..., Subject]] = {
    "resnet": resnet,
    "standard": _published("3×3 convolution", published_layers.standard, kernel="stencil"),
    "mesh-free": _published("mesh-free convolution", published_layers.mesh_free, kernel="mfc"),
    "spectral": _published("SpectralConv", published_layers.spectral, _OPERATOR),
    "fno": _published("FNO, 2 blocks", published_layers.fno, _OPERATOR),
    "finite-difference": _published(
        "FiniteDifferenceConvolution", published_layers.finite_difference, _OPERATOR
    ),
    "disco-default": _published(
        "EquidistantDISCO, default radius", published_layers.disco_default, _OPERATOR
    ),
    "disco-fixed": _published(
        "EquidistantDISCO, fixed radius", published_layers.disco_fixed, _OPERATOR
    ),
    "local-block-once": _published(
        "LocalNO block, made once for 64²", published_layers.local_block_as_is, _OPERATOR
    ),
    "local-block-each": _published(
        "LocalNO block, made for each mesh", published_layers.local_block_each, _OPERATOR
    ),
    "sphere-default": _published(
        "DISCO on the sphere, default cutoff", published_layers.sphere_default, _SPHERE
    ),
    "sphere-fixed": _published(
        "DISCO on the sphere, fixed cutoff", published_layers.sphere_fixed, _SPHERE
    ),
}


def make_subject(choices: Record) -> Subject:
    """Subject of a table of choices.

    Parameters
    ----------
    choices : dict
        ``make``, a name of `SUBJECTS`, and options of that one.

    Raises
    ------
    InputError
        If the name or an option is unknown, or an option breaks a rule.
    """
    name = choices.get("make")
    if not isinstance(name, str) or name not in SUBJECTS:
        raise unknown_name("make", name, SUBJECTS)
    options = {k: v for k, v in choices.items() if k != "make"}
    known = inspect.signature(SUBJECTS[name]).parameters
    for option in options:
        if option not in known:
            if not known:
                raise InputError(f"`{name}` must have no options; got {option}")
            raise unknown_name(f"option of {name}", option, known)
    return SUBJECTS[name](**options)
