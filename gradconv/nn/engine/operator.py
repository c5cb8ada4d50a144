"""The mesh-free convolution as a torch operation: which path computes it, and its derivatives.

Three steps: analysis (few modes of the input), mixing (the symbols of all channel pairs, mode by
mode) and synthesis. The first and the last are linear with constant matrices, so that nothing but
the spectrum is kept for the backward pass. The compiled path does all three in one; where it has
no code, and for derivatives of derivatives, the torch path does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradconv.errors import InputError, unknown_name
from gradconv.nn.engine import compiled, mixing
from gradconv.nn.engine.band import choose_band
from gradconv.nn.engine.mixing import from_modes, to_modes
from gradconv.nn.engine.pairs import Parameters
from gradconv.nn.engine.plan import Plan, make_plan
from gradconv.nn.engine.transform import analyse, analyse_output, synthesise, synthesise_input

PATHS = ("auto", "torch", "compiled")


@dataclass(frozen=True)
class Settings:
    """What a convolution needs besides its field and its kernels.

    Parameters
    ----------
    groups : int
        Groups of channels.
    extent : tuple of float
        Sides of the domain.
    padding : {"periodic", "reflect", "zero"}
        How the field goes on outside the domain.
    stride : tuple of int
        Factor of the restriction after the convolution, an axis.
    restriction : str
        Its name.
    tolerance : float
        Relative error that the truncation may cause in the output and in each gradient.
    path : {"auto", "torch", "compiled"}
        What computes it; "auto" takes the compiled path where it can.
    """

    groups: int
    extent: tuple[float, ...]
    padding: str
    stride: tuple[int, ...]
    restriction: str
    tolerance: float
    path: str = "auto"


def mesh_free(
    x: Tensor,
    coefficients: Tensor,
    quadratic: Tensor,
    drift: Tensor,
    settings: Settings,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolve fields with mesh-free kernels; differentiable to any order.

    Parameters
    ----------
    x : Tensor, shape ``(B, in, *n)``
        Fields, float32 or float64.
    coefficients, quadratic, drift : Tensor
        Kernels in physical units, as in `Parameters`, of the same type and device.
    settings : Settings
        The rest.
    bias : Tensor, shape ``(out,)``, optional
        Constants to add to the output's channels.

    Returns
    -------
    Tensor, shape ``(B, out, *n/stride)``
    """
    kernels = (coefficients, quadratic, drift)
    p = Parameters(*kernels, settings.groups)
    plan = plan_for(x.shape[2:], p, settings)
    if x.shape[0] == 0:
        linked = x.sum() + sum(v.sum() for v in (*kernels, *([] if bias is None else [bias])))
        return x.new_zeros(0, len(drift), *plan.out_shape) + 0.0 * linked
    if uses_compiled(x, p, plan, settings.path):
        found = _Compiled.apply(x, *kernels, bias, settings.groups, plan)  # type: ignore[no-untyped-call]
        y: Tensor = found[0]
        return y
    return _by_torch(x, p, plan, bias)


def plan_for(shape: tuple[int, ...], p: Parameters, settings: Settings) -> Plan:
    """Modes that these kernels need on a mesh; nothing flows through the choice."""
    # Copied together: on a GPU each copy is a wait.
    parts = [v.detach().reshape(-1, v.shape[-1]) for v in (p.coefficients, p.quadratic, p.drift)]
    joined = torch.cat(parts, dim=1).to(device="cpu", dtype=torch.float64).numpy()
    ends = np.cumsum([v.shape[1] for v in parts])
    coefficients, quadratic, drift = (
        joined[:, end - v.shape[1] : end] for v, end in zip(parts, ends, strict=True)
    )
    if not np.isfinite(joined).all():
        raise _not_finite(coefficients, quadratic, drift)
    nyquist = tuple(np.pi * n / side for n, side in zip(shape, settings.extent, strict=True))
    band = choose_band(coefficients, quadratic, drift, settings.tolerance, nyquist)
    return make_plan(
        tuple(int(n) for n in shape),
        settings.extent,
        settings.padding,
        settings.stride,
        settings.restriction,
        band,
    )


def _not_finite(coefficients: np.ndarray, quadratic: np.ndarray, drift: np.ndarray) -> InputError:
    weights = {
        "amplitude": coefficients[:, :1],
        "derivative": coefficients[:, 1:],
        "diffusion": quadratic,
        "drift": drift,
    }
    wrong = {name: ~np.isfinite(values).all(axis=1) for name, values in weights.items()}
    name = next(name for name, flaws in wrong.items() if flaws.any())
    return InputError(
        f"`{name}` of a mesh-free convolution must be finite; got NaN or infinity "
        f"in {int(wrong[name].sum())} of {len(drift)} kernels"
    )


def uses_compiled(x: Tensor, p: Parameters, plan: Plan, path: str) -> bool:
    """Whether the compiled path takes this call.

    Raises
    ------
    InputError
        If it is asked for by name and cannot; the message has the reason.
    """
    if path not in PATHS:
        raise unknown_name("path", path, PATHS)
    if path == "torch":
        return False
    reason = compiled.supports(x, p.coefficients.shape, plan)
    if reason and path == "compiled":
        raise InputError(f"`path` compiled cannot be taken here: {reason}")
    return reason is None


def _by_torch(x: Tensor, p: Parameters, plan: Plan, bias: Tensor | None) -> Tensor:
    batch = x.shape[0]
    spectrum = to_modes(analyse(x.reshape(-1, *x.shape[2:]), plan), p.groups, batch)
    kernels = (p.coefficients, p.quadratic, p.drift)
    mixed = _Mix.apply(spectrum, *kernels, p.groups, plan)  # type: ignore[no-untyped-call]
    mean = plan.mean
    if bias is not None and mean is not None:
        # The mean mode carries the bias: no pass over the fields, forward or backward.
        rows = slice(mean * p.groups, (mean + 1) * p.groups)
        mixed[rows, :batch] += bias.reshape(p.groups, 1, -1)
    y = synthesise(from_modes(mixed, p.groups, batch), plan)
    y = y.reshape(batch, -1, *plan.out_shape)
    if bias is not None and mean is None:
        y = y + bias.reshape(-1, *(1,) * plan.dim)
    return y


class _Mix(torch.autograd.Function):
    """Mixing with a backward pass that makes the symbols anew instead of keeping them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        quadratic: Tensor,
        drift: Tensor,
        groups: int,
        plan: Plan,
    ) -> Tensor:
        ctx.groups, ctx.plan = groups, plan
        ctx.save_for_backward(x, coefficients, quadratic, drift)
        return mixing.mix(x, Parameters(coefficients, quadratic, drift, groups), plan)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *kernels = ctx.saved_tensors
        p = Parameters(kernels[0], kernels[1], kernels[2], ctx.groups)
        if torch.is_grad_enabled():
            return (*_differentiable(ctx, x, p, ctx.plan, grads[0]), None, None)
        needs = (ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:4]))
        # Batched products of strided matrices fall back to a slow loop.
        by_x, by_p = mixing.mix_backward(grads[0].contiguous(), x, p, ctx.plan, needs)
        if by_p is None:
            return by_x, None, None, None, None, None
        return by_x, by_p.coefficients, by_p.quadratic, by_p.drift, None, None


def _differentiable(
    ctx: Any, x: Tensor, p: Parameters, plan: Plan, grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients by spectrum and kernels that can be differentiated again."""
    wanted = (x, p.coefficients, p.quadratic, p.drift)
    chosen = [t for t, need in zip(wanted, ctx.needs_input_grad, strict=False) if need]
    with torch.enable_grad():
        y = mixing.mix(x, p, plan)
        found = iter(torch.autograd.grad(y, chosen, grad, create_graph=True))
    return tuple(next(found) if need else None for need in ctx.needs_input_grad[:4])


class _Compiled(torch.autograd.Function):
    """The compiled path. Its spectrum is an output, so that second derivatives reach the input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        quadratic: Tensor,
        drift: Tensor,
        bias: Tensor | None,
        groups: int,
        plan: Plan,
    ) -> tuple[Tensor, Tensor]:
        kernels = (coefficients, quadratic, drift)
        y, spectrum = compiled.forward(x, *kernels, groups, plan, bias)
        ctx.batch, ctx.groups, ctx.plan = x.shape[0], groups, plan
        ctx.save_for_backward(spectrum, *kernels)
        ctx.set_materialize_grads(False)
        return y, spectrum

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        spectrum, *kernels = ctx.saved_tensors
        by_y, by_spectrum = grads
        p, plan = Parameters(kernels[0], kernels[1], kernels[2], ctx.groups), ctx.plan
        found: list[Tensor | None] = [None] * 5
        if by_y is not None and torch.is_grad_enabled():
            modes = to_modes(compiled.modes(spectrum, plan), p.groups, ctx.batch)
            fields = by_y.reshape(-1, *plan.out_shape)
            g = to_modes(analyse_output(fields, plan), p.groups, ctx.batch)
            found = list(_differentiable(ctx, modes, p, plan, g))
            if found[0] is not None:
                x = synthesise_input(from_modes(found[0], p.groups, ctx.batch), plan)
                found[0] = x.reshape(ctx.batch, -1, *(a.n for a in plan.axes))
            by_bias = by_y.sum(dim=(0, *range(2, by_y.ndim))) if ctx.needs_input_grad[4] else None
            found.append(by_bias)
        elif by_y is not None:
            by = ctx.needs_input_grad
            needs = (by[0], any(by[1:4]), by[4])
            c, q, b = kernels
            found = list(compiled.backward(by_y, spectrum, c, q, b, ctx.groups, plan, needs))
        if by_spectrum is not None and ctx.needs_input_grad[0]:
            x = synthesise_input(compiled.modes(by_spectrum, plan), plan)
            x = x.reshape(ctx.batch, -1, *(a.n for a in plan.axes))
            found[0] = x if found[0] is None else found[0] + x
        return (*found, None, None)
