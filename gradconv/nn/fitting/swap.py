"""Swap the convolutions of a torch network for mesh-free ones that do the same on its mesh."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gradconv.errors import InputError, check_whole, shortened
from gradconv.nn.checks import usual_sides
from gradconv.nn.fitting.fit import fit_stencil
from gradconv.nn.fitting.probe import meshes_of
from gradconv.nn.fitting.stencil_space import Spectrum, whole_numbers
from gradconv.nn.fitting.swap_report import SwapReport, SwapRow
from gradconv.nn.layer import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d
from gradconv.nn.making import copied
from gradconv.nn.paddings import FROM_TORCH
from gradconv.restriction import RESTRICTIONS

_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class _Fitting:
    """How the stencils are fitted; the arguments of `to_mesh_free`."""

    extent: tuple[float, ...]
    spectrum: Spectrum
    tolerance: float
    terms: int
    derivatives: int
    narrowest: float
    steps: int
    restriction: str


def to_mesh_free(
    module: nn.Module,
    mesh: int | Sequence[int],
    *,
    inputs: Tensor | tuple[object, ...] | None = None,
    extent: Sequence[float] | None = None,
    spectrum: Spectrum = 2.0,
    tolerance: float = 0.25,
    terms: int = 2,
    derivatives: int = 2,
    narrowest: float = 0.5,
    steps: int = 0,
    restriction: str = "injection",
    keep: Collection[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[nn.Module, SwapReport]:
    """Copy a network with its convolutions replaced by mesh-free ones, where these can do the same.

    The mesh of each convolution is found by running a copy of the network once, in evaluation mode,
    on an input of the given size; the domain stays the same, so that cells grow where the network
    downsamples. A mesh-free kernel is fitted to each stencil on that mesh (`fit_stencil`) and takes
    its place if its relative error is at most `tolerance`. Convolutions of kernel size 1 act point
    by point, on any mesh alike, and stay. What else stays is in the report with the reason:
    transposed and lazy convolutions, subclasses, parametrised weights (weight norm, spectral norm,
    pruning), weights that two convolutions share, paddings that change the size of the mesh.

    The new modules keep the type, device, training mode and ``requires_grad`` of what they replace;
    a module that stands in several places is replaced by one in all of them. Hooks on a replaced
    convolution are dropped. Optimisers hold on to the old weights: make a new one. The given module
    is not changed.

    Parameters
    ----------
    module : torch.nn.Module
        Any network that can be copied and run.
    mesh : int or sequence of int
        Points an axis of the inputs that the network was made for, e.g. ``(height, width)``; an
        integer is taken for every axis of the first convolution.
    inputs : Tensor or tuple, optional
        What to run the network on: a tensor, or the arguments of ``forward``. Default: zeros of
        shape ``(1, channels, *mesh)`` with the channels of the first convolution.
    extent : sequence of float, optional
        Sides of the domain; by default cells are cubes and the shortest side is 1.
    spectrum, terms, derivatives, narrowest, steps
        Of the fit; see `fit_stencil`. 20 steps bring the errors down by a third, at some
        milliseconds a channel pair.
    tolerance : float
        Largest relative error of the output of a convolution, for inputs of that spectrum, at which
        it is replaced.
    restriction : str
        How a replaced convolution strides. Injection keeps every so many points, as a convolution
        does, with all that aliases; ``"average"`` keeps meshes consistent, but is another operator.
    keep : collection of str
        Names of modules to leave as they are, with all below them.
    progress : callable, optional
        Called as ``progress(done, total, name)`` after each convolution.

    Returns
    -------
    module : torch.nn.Module
        The copy; the mesh-free layer itself if the module is one convolution.
    report : SwapReport
        What was swapped, what not and why, and the errors. ``print(report)`` shows a table.

    Raises
    ------
    InputError
        If an argument breaks a rule, or the module cannot be copied or run on such an input.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> blur = torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    >>> _ = torch.nn.init.constant_(blur.weight, 1 / 9)
    >>> module = torch.nn.Sequential(blur, torch.nn.Tanh(), torch.nn.Conv2d(1, 1, 1))
    >>> swapped, report = to_mesh_free(module, (32, 32))
    >>> [row.new for row in report.rows]
    ['MeshFreeConv2d', None]
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"`module` must be a torch.nn.Module; got {shortened(module)}")
    places = _convolutions(module)
    dim = next((_dim(m) for m, _ in places if _dim(m)), None)
    if dim is None:
        raise InputError(
            "`module` must hold a convolution for its mesh to be known; "
            f"got {type(module).__name__}"
        )
    mesh = whole_numbers("mesh", mesh, dim, least=2)
    fitting = _checked_fitting(
        mesh, extent, spectrum, tolerance, terms, derivatives, narrowest, steps, restriction
    )
    known = {name for name, _ in module.named_modules(remove_duplicate=False)}
    for name in keep:
        if name not in known or isinstance(keep, str):
            raise InputError(
                f"`keep` must be a collection of names of modules; got {shortened(name)}"
            )
    meshes = meshes_of(module, mesh, inputs)
    tied = _tied_weights(module)
    swapped = copied(module)
    modules = dict(swapped.named_modules(remove_duplicate=False))
    rows, replaced = [], {}
    for done, (old, names) in enumerate(places):
        reason = _why_not(old, names, meshes.get(names[0], ()), keep, tied)
        layer, row = _swapped(old, names, meshes.get(names[0], ()), fitting, reason)
        rows.append(row)
        if layer is not None:
            replaced[id(modules[names[0]])] = layer
        if progress is not None:
            progress(done + 1, len(places), names[0])
    for parent in list(swapped.modules()):
        for key, child in parent._modules.items():
            if id(child) in replaced:
                parent._modules[key] = replaced[id(child)]
    return replaced.get(id(swapped), swapped), SwapReport(mesh, tuple(rows))


def _convolutions(network: nn.Module) -> list[tuple[nn.Module, tuple[str, ...]]]:
    """Convolutions in order, each once, with all the names it goes by."""
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    kinds = (_ConvNd, MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d)
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, kinds):
            found.setdefault(id(module), (module, []))[1].append(name)
    return [(module, tuple(names)) for module, names in found.values()]


def _dim(module: nn.Module) -> int:
    """Space dimensions of a convolution; 0 if it is not known yet (lazy ones know theirs)."""
    if isinstance(module, _ConvNd):
        return len(module.kernel_size)
    return int(getattr(module, "dim", 0))


def _tied_weights(network: nn.Module) -> dict[int, list[str]]:
    """Names of the modules that hold a parameter, by its identity, where they are several."""
    owners: dict[int, list[str]] = {}
    for name, module in network.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(name)
    return {key: names for key, names in owners.items() if len(names) > 1}


def _why_not(
    module: nn.Module,
    names: tuple[str, ...],
    meshes: tuple[tuple[int, ...], ...],
    keep: Collection[str],
    tied: dict[int, list[str]],
) -> str:
    """Why a convolution cannot be swapped; empty if it can."""
    if any(name == k or name.startswith(f"{k}.") or not k for name in names for k in keep):
        return "kept on request"
    if not isinstance(module, _ConvNd):
        return "mesh-free already"
    if module.transposed:
        return "transposed convolutions put values between the points of the mesh"
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        return "lazy: its weights do not exist yet; run the module once"
    own = [key for key in ("weight", "bias") if getattr(module, key, None) is not None]
    if getattr(module, "parametrizations", None) or any(
        not isinstance(module._parameters.get(key), nn.Parameter) for key in own
    ):
        return "its weights are made from others (weight norm, spectral norm, pruning)"
    if type(module) not in _PLAIN:
        return f"a subclass, {type(module).__name__}, that may do more than convolve"
    if all(n == 1 for n in module.kernel_size):
        strides = ", and strides by injection" if any(s > 1 for s in module.stride) else ""
        return "kernel size 1: acts point by point on any mesh" + strides
    for key in own:
        others = [n for n in tied.get(id(module._parameters[key]), []) if n not in names]
        if others:
            return f"shares its {key} with {', '.join(others)}"
    if module.weight.dtype not in _DTYPES:
        return f"mesh-free layers compute in float32 or float64, not {module.weight.dtype}"
    if not all(bool(torch.isfinite(getattr(module, key)).all()) for key in own):
        return "its weights are not finite"
    if not meshes:
        return "not reached by such an input"
    if len(meshes) > 1:
        return "used on several meshes: " + ", ".join(_times(m) for m in meshes)
    return _why_not_here(module, meshes[0])


def _why_not_here(module: _ConvNd, mesh: tuple[int, ...]) -> str:
    before, after = _padding(module)
    for axis, n in enumerate(mesh):
        span = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
        stride = module.stride[axis]
        out = (n + before[axis] + after[axis] - span) // stride + 1
        if n % stride:
            return f"its stride {stride} does not divide the mesh {_times(mesh)}"
        if out * stride != n:
            return f"its padding takes the mesh from {n} to {out} points an axis, not {n // stride}"
        if n < max(span, 3):
            return f"its stencil is wider than the mesh {_times(mesh)}"
        if before[axis] >= span:
            return "its padding is wider than its stencil"
    return ""


def _padding(module: _ConvNd) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cells put before and after the mesh, an axis."""
    if isinstance(module.padding, str):
        if module.padding == "valid":
            return (0,) * len(module.kernel_size), (0,) * len(module.kernel_size)
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return tuple(module.padding), tuple(module.padding)


def _swapped(
    module: nn.Module,
    names: tuple[str, ...],
    meshes: tuple[tuple[int, ...], ...],
    fitting: _Fitting,
    reason: str,
) -> tuple[nn.Module | None, SwapRow]:
    def row(**more: object) -> SwapRow:
        return SwapRow(
            name=names[0],
            aliases=names[1:],
            old=_described(module),
            mesh=meshes[0] if len(meshes) == 1 else None,
            parameters=_count(module),
            **more,  # type: ignore[arg-type]
        )

    if reason or not isinstance(module, _ConvNd):
        return None, row(reason=reason)
    mesh = meshes[0]
    fit = fit_stencil(
        module.weight,
        mesh,
        extent=fitting.extent,
        dilation=module.dilation,
        origin=_padding(module)[0],
        spectrum=fitting.spectrum,
        terms=fitting.terms,
        derivatives=fitting.derivatives,
        narrowest=fitting.narrowest,
        steps=fitting.steps,
        groups=module.groups,
    )
    found = {
        "relative_error": fit.relative_error,
        "operator_error": fit.operator_error,
        "resolvable": float(fit.resolvable(fitting.tolerance).double().mean()),
        "narrowest": float(fit.widths.min()),
    }
    if fit.relative_error > fitting.tolerance:
        over = f"relative error {fit.relative_error:.2g} of the fit exceeds {fitting.tolerance:g}"
        return None, row(reason=over, **found)
    padding_mode = FROM_TORCH[module.padding_mode]
    # Sides that the layer would choose for itself are left open, so that the network can be used
    # on meshes of other proportions, as it could before.
    usual = usual_sides(mesh)
    try:
        layer = fit.layer(
            groups=module.groups,
            bias=module.bias,
            stride=module.stride,
            padding_mode=padding_mode,
            restriction=fitting.restriction,
            extent=None if _close(fitting.extent, usual) else fitting.extent,
            device=module.weight.device,
            dtype=module.weight.dtype,
        )
    except InputError as error:
        return None, row(reason=str(error), **found)
    layer.train(module.training)
    layer.keep_quiet(mesh)  # the report says what is not resolved here
    for name, parameter in layer.named_parameters():
        old = module.bias if name == "bias" and module.bias is not None else module.weight
        parameter.requires_grad_(old.requires_grad)
    hooks = (
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
    )
    notes = []
    if module.padding_mode == "reflect":
        notes.append("walls differ: the field is even about the wall, not about its last point")
    if module.padding_mode == "replicate" and max(*sum(_padding(module), ())) > 1:
        notes.append("walls differ beyond the first cell: the field is even, not constant")
    if hooks:
        notes.append(f"{hooks} hooks dropped")
    if fitting.restriction != "injection" and any(s > 1 for s in module.stride):
        notes.append(f"strides by {fitting.restriction}, not by injection")
    return layer, row(
        new=type(layer).__name__, new_parameters=_count(layer), note="; ".join(notes), **found
    )


def _checked_fitting(
    mesh: tuple[int, ...],
    extent: Sequence[float] | None,
    spectrum: Spectrum,
    tolerance: float,
    terms: int,
    derivatives: int,
    narrowest: float,
    steps: int,
    restriction: str,
) -> _Fitting:
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance > 0:
        raise InputError(f"`tolerance` must be a positive number; got {shortened(tolerance)}")
    # a fit of nothing: its arguments are refused before any work is done
    fit_stencil(
        torch.zeros(1, 1, *(1,) * len(mesh)),
        tuple(max(n, 3) for n in mesh),
        extent=extent,
        spectrum=spectrum,
        terms=terms,
        derivatives=derivatives,
        narrowest=narrowest,
    )
    check_whole("steps", steps, 0)
    spec = RESTRICTIONS.parse(restriction).spec
    sides = usual_sides(mesh) if extent is None else tuple(extent)
    return _Fitting(sides, spectrum, tolerance, terms, derivatives, narrowest, steps, spec)


def _described(module: nn.Module) -> str:
    kind = type(module).__name__
    if not isinstance(module, _ConvNd):
        return kind
    text = f"{kind} {_times(module.kernel_size)}"
    if any(s > 1 for s in module.stride):
        text += f" stride {_times(module.stride)}"
    return text + (f" groups {module.groups}" if module.groups > 1 else "")


def _count(module: nn.Module) -> int:
    lazy = nn.parameter.UninitializedParameter
    return sum(p.numel() for p in module.parameters() if not isinstance(p, lazy))


def _times(sizes: Sequence[int]) -> str:
    return "×".join(str(n) for n in sizes)


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(abs(x - y) <= 1e-9 * y for x, y in zip(a, b, strict=True))
