"""Every cause is found where it is, by a number, and is not where it is not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as functional
from audit_modules import NOISY, SMOOTH, FixedGrid, Positions, ResNet, mesh_free, stencil
from torch import nn

from gradconv.audit import Audit, Finding, audit

TIED = "kernel tied to the grid"
NOISE = "noise at the grid's scale"
PADDING = "padding at the walls"
STATISTICS = "normalisation statistics"
NOT_NESTED = "restriction not nested"
GRAVE = ("breaks", "suspect")


def findings(made: Callable[[], nn.Module], **choices: object) -> tuple[Audit, list[Finding]]:
    torch.manual_seed(0)
    found = audit(made(), **{"replicates": 4, **choices})  # type: ignore[arg-type]
    return found, list(found.findings)


def causes(found: list[Finding], grave: bool = False) -> set[tuple[str, str]]:
    return {(f.where, f.cause) for f in found if not grave or f.severity in GRAVE}


def test_a_stencil_breaks_under_noise_and_only_there() -> None:
    found, reasons = findings(lambda: ResNet(stencil), **NOISY)
    assert found.verdict == "diverges"
    assert causes(reasons) == {(n, TIED) for n in ("first", "middle", "last")}
    assert {f.severity for f in reasons} == {"breaks"}
    assert all(f.number == pytest.approx(1.0, abs=1e-9) for f in reasons)  # width ∝ h
    assert "cells wide" in reasons[0].sentence
    smooth, reasons = findings(lambda: ResNet(stencil), **SMOOTH)
    assert {f.severity for f in reasons} == {"latent"}
    assert smooth.verdict != "diverges"


def test_mesh_free_networks_raise_no_alarm() -> None:
    """With pointwise layers, normalisation and activations between mesh-free ones."""

    def made() -> nn.Module:
        between = [nn.Tanh(), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.GELU()]
        return nn.Sequential(mesh_free(1, 4), *between, mesh_free(4, 1))

    for choices in (SMOOTH, {**NOISY, "hierarchy": SMOOTH["hierarchy"]}):
        _, reasons = findings(made, **choices)
        assert reasons == []


def test_kernels_narrower_than_the_cells_are_told_from_tied_ones() -> None:
    choices = {**NOISY, "hierarchy": SMOOTH["hierarchy"]}
    _, reasons = findings(lambda: mesh_free(1, 1, widths=(1 / 160, 1 / 120)), **choices)
    assert causes(reasons) == {("(module)", "kernel not resolved by these meshes")}
    assert reasons[0].number < 2  # cells wide on the finest mesh


def test_a_smooth_layer_between_pointwise_ones_is_not_to_blame() -> None:
    """Noise reaches its gradient past it, as in a Fourier operator with skip connections."""

    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.smooth, self.skip = mesh_free(1, 1), nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.smooth(x) + self.skip(x)
            return self.smooth(y * y)

    _, reasons = findings(Skipping, **{**NOISY, "noise": "pixel:1"})
    found = {f.where: f for f in reasons}
    assert found["smooth"].cause == "noise let through by other layers"
    assert found["smooth"].number > 4  # cells wide
    assert found["skip"].cause == NOISE


def test_pointwise_networks_raise_no_alarm_on_smooth_data() -> None:
    def made() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))

    found, reasons = findings(made, **SMOOTH)
    assert reasons == []
    assert found.verdict == "converges"


def test_pointwise_layers_under_noise_are_named_for_what_they_see() -> None:
    """They do diverge, as their input's power does; no kernel is to blame."""
    _, reasons = findings(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(4, 1, 1, bias=False)),
        **NOISY,
        restriction="average",
    )
    assert causes(reasons) == {("0", NOISE), ("1", NOISE)}
    assert reasons[0].number == pytest.approx(-2.0, abs=0.2)  # power of averaged pixel noise
    assert reasons[0].severity == "breaks"


@pytest.mark.parametrize("padding", ["zeros", "functional", "mesh-free"])
def test_zero_padding_costs_an_order(padding: str) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 1, 3, 3), 0.1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), self.weight)

    made = {
        "zeros": lambda: stencil(1, 1, padding_mode="zeros"),
        "functional": Own,
        "mesh-free": lambda: mesh_free(1, 1, padding_mode="zero"),
    }[padding]
    choices = {**SMOOTH, "hierarchy": (16, 32, 64, 128), "restriction": "injection"}
    _, reasons = findings(made, **choices)
    (found,) = [f for f in reasons if f.cause == PADDING]
    assert found.where == "(module)"
    assert found.number < 0.75  # of the gap is left without it
    _, reasons = findings(lambda: stencil(1, 1), **choices)  # negative control
    assert not [f for f in reasons if f.cause == PADDING]


REFLECTING = {**NOISY, "hierarchy": SMOOTH["hierarchy"], "replicates": 8}


@pytest.mark.parametrize("seed", [0, 1])
def test_walls_that_only_make_a_falling_gap_larger_are_no_suspects(seed: int) -> None:
    """Reflection leaves more of the noise at the walls, at the order that the gap has anyway."""
    made = lambda: mesh_free(1, 1, padding_mode="reflect")  # noqa: E731
    found, reasons = findings(made, **REFLECTING, seed=seed)
    (wall,) = reasons
    assert found.verdict == "undecided"
    assert (wall.cause, wall.severity) == (PADDING, "limits")
    assert wall.number < 0.1
    assert re.search(r"finest rms gap is \S+ \[\S+, \S+\] times", wall.sentence)
    if not seed:  # negative control
        assert causes(findings(lambda: ResNet(stencil), **NOISY)[1], grave=True)


@pytest.mark.slow
@pytest.mark.parametrize("walls", ["periodic", "reflect", "zero"])
def test_mesh_free_networks_raise_no_alarm_on_any_seed(walls: str) -> None:
    """None of 6 seeds; by point estimates every seed with reflecting walls had suspects."""
    for seed in range(6):
        net = lambda: ResNet(lambda i, o: mesh_free(i, o, padding_mode=walls))  # noqa: E731
        _, reasons = findings(net, **REFLECTING, seed=seed)
        assert not causes(reasons, grave=True), seed


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_statistics_of_noise_carry_it_into_mesh_free_layers(norm: str) -> None:
    kind = {
        "batch": lambda: nn.BatchNorm2d(1),
        "group": lambda: nn.GroupNorm(1, 1),
        "layer": _WholeLayerNorm,
    }[norm]
    choices = {"signal": "plane-wave:3", "noise": "pixel:4", "hierarchy": (8, 16, 32, 64)}
    _, reasons = findings(lambda: nn.Sequential(kind(), mesh_free(1, 1)), **choices)
    (found,) = [f for f in reasons if f.cause == STATISTICS]
    assert found.where == "0"
    assert found.number < 0.1
    assert "its variance is" in found.sentence
    _, reasons = findings(lambda: nn.Sequential(nn.Tanh(), mesh_free(1, 1)), **choices)
    assert not [f for f in reasons if f.cause == STATISTICS]  # negative control


class _WholeLayerNorm(nn.Module):
    """Layer norm over the whole field, made for whatever mesh comes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[1:])


def test_evaluation_mode_holds_the_statistics_by_itself() -> None:
    choices = {"signal": "plane-wave:3", "noise": "pixel:4", "hierarchy": (8, 16, 32, 64)}
    found, reasons = findings(
        lambda: nn.Sequential(nn.BatchNorm2d(1), mesh_free(1, 1)), **choices, mode="eval"
    )
    assert not [f for f in reasons if f.cause == STATISTICS]
    assert found.configuration["mode"] == "eval"


def test_a_sum_instead_of_a_mean_is_seen_in_the_loss() -> None:
    def summed(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ((p - t) ** 2).sum()

    found, reasons = findings(lambda: nn.Conv2d(1, 1, 1), **SMOOTH, loss=summed)
    assert found.verdict == "diverges"
    assert causes(reasons, grave=True) == {("(loss)", "sum instead of mean in the loss")}
    assert reasons[0].number == pytest.approx(-2.0, abs=1e-6)
    for mean in (functional.mse_loss, functional.l1_loss):  # negative controls
        _, reasons = findings(lambda: nn.Conv2d(1, 1, 1), **SMOOTH, loss=mean)
        assert reasons == []


def test_one_step_by_four_is_not_two_by_two() -> None:
    choices = {
        "signal": "band-limited:1",
        "noise": "pixel:2",
        "hierarchy": (16, 32, 64, 128),
        "channels": 1,
    }
    _, reasons = findings(lambda: FixedGrid("direct"), **choices)
    (found,) = [f for f in reasons if f.cause == NOT_NESTED]
    assert found.where == "(module)"
    assert found.number < 0.1
    _, reasons = findings(lambda: FixedGrid("chain"), **choices)  # negative control
    assert not [f for f in reasons if f.cause == NOT_NESTED]


def test_data_by_a_direct_step_that_is_not_nested() -> None:
    choices = {**SMOOTH, "noise": "pixel:1", "route": "direct"}
    _, reasons = findings(lambda: nn.Conv2d(1, 1, 1), **choices, restriction="bilinear")
    (found,) = [f for f in reasons if f.cause == NOT_NESTED]
    assert found.where == "(data)"
    assert found.number == pytest.approx(2**0.5)  # 1/√2 an axis against 1/2
    _, reasons = findings(lambda: nn.Conv2d(1, 1, 1), **choices, restriction="average")
    assert not [f for f in reasons if f.cause == NOT_NESTED]  # negative control


def test_a_stride_on_odd_sizes() -> None:
    def made() -> nn.Module:
        up = nn.Upsample(scale_factor=2)
        return nn.Sequential(stencil(1, 2, stride=2), nn.Tanh(), up, nn.Conv2d(2, 1, 1))

    def cropped(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ((p[..., : t.shape[2], : t.shape[3]] - t) ** 2).mean()

    choices = {"signal": "band-limited:2", "noise": "none", "loss": cropped}
    _, reasons = findings(made, **choices, hierarchy=(9, 18, 36, 72))
    (found,) = [f for f in reasons if f.cause == "stride on odd sizes"]
    assert found.where == "0"
    assert found.number == pytest.approx((5 / 9) / 0.5 - 1)
    assert "9 to 5" in found.sentence
    _, reasons = findings(made, **choices, hierarchy=(8, 16, 32, 64))  # negative control
    assert not [f for f in reasons if f.cause == "stride on odd sizes"]


def test_cells_lost_at_the_walls() -> None:
    def inner(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ((p - t[..., 1:-1, 1:-1]) ** 2).mean()

    _, reasons = findings(lambda: nn.Sequential(nn.Conv2d(1, 1, 3)), **SMOOTH, loss=inner)
    (found,) = [f for f in reasons if f.cause == "cells lost at the walls"]
    assert found.number == pytest.approx(1 - (6 / 8) / (62 / 64), abs=1e-9)


def test_what_depends_on_the_position() -> None:
    _, reasons = findings(Positions, **SMOOTH)
    (found,) = [f for f in reasons if f.cause == "depends on the position"]
    assert found.where == "(module)"
    assert found.number > 0.1


def test_dropout_is_named_and_random_states_are_shared() -> None:
    def made() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 1), nn.Dropout(0.4), nn.Conv2d(4, 1, 1))

    found, reasons = findings(made, **SMOOTH)
    assert any("stochastic" in note for note in found.notes)
    stochastic = [f for f in reasons if f.cause == "stochastic"]
    assert [f.where for f in stochastic] == ["1"]
    again, _ = findings(made, **SMOOTH)
    assert found.series("rms_gap")[0].tolist() == again.series("rms_gap")[0].tolist()
    quiet, reasons = findings(made, **SMOOTH, mode="eval")  # negative control
    assert not [f for f in reasons if f.cause == "stochastic"]
    assert not any("stochastic" in note for note in quiet.notes)


def test_own_random_layers_are_found_without_a_class_name() -> None:
    class Jitter(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + 0.5 * torch.rand(1, dtype=x.dtype))

    _, reasons = findings(lambda: nn.Sequential(nn.Conv2d(1, 1, 1), Jitter()), **SMOOTH)
    assert ("1", "stochastic") in causes(reasons)


def test_divergence_without_a_known_cause_is_said_to_be_so() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight * x.shape[-1]

    found, reasons = findings(Scaled, **SMOOTH)
    assert found.verdict == "diverges"
    assert causes(reasons) == {("(module)", "unexplained")}


def test_gravest_first_and_json() -> None:
    from gradconv.audit.findings import SEVERITIES

    _, reasons = findings(lambda: ResNet(lambda i, o: stencil(i, o, padding_mode="zeros")), **NOISY)
    ranks = [SEVERITIES.index(f.severity) for f in reasons]
    assert ranks == sorted(ranks)
    assert set(reasons[0].to_dict("layer")) == {"layer", "cause", "sentence", "number", "severity"}
