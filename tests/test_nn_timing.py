"""Clocks: turns, paired ratios, names of processors; layers timed beside a convolution."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gradconv.nn import layer_cost, timing
from gradconv.nn.layer_timing import CONVOLUTION, LayerWork, step
from gradconv.nn.timing import (
    PairedRatio,
    elapsed,
    in_turn,
    machine,
    processor_name,
    quartiles,
    torch_threads,
)

SMALL = LayerWork(channels=3, batch=2)


def test_ratios_are_those_of_neighbours() -> None:
    """A machine that slows down fourfold half way changes no ratio; of the medians it would."""
    over, under = [2.0, 2.0, 2.0, 8.0, 8.0], [1.0, 1.0, 1.0, 4.0, 4.0]
    assert PairedRatio.of(over, under) == PairedRatio(2.0, 2.0, 2.0, 2.0, 2.0)
    mixed = PairedRatio.of([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert mixed == PairedRatio(3.0, 2.0, 4.0, 1.0, 5.0)
    # unpaired, the ratio of medians is another number
    assert PairedRatio.of([8.0, 2.0, 2.0], [4.0, 1.0, 4.0]).median == 2.0


def test_quartiles_of_few_values() -> None:
    assert quartiles([3.0]) == (3.0, 3.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.75)


def test_ratios_need_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        PairedRatio.of([1.0, 2.0], [1.0])


def test_works_are_called_in_turn_after_those_that_do_not_count() -> None:
    calls: list[str] = []
    found = in_turn([lambda: calls.append("a"), lambda: calls.append("b")], 2, warm=1)
    assert calls == ["a", "b"] * 3
    assert [len(taken) for taken in found] == [2, 2]


def test_clock_is_read_around_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    walls, busy = iter([1.0, 4.0]), iter([10.0, 15.0])
    clocks = SimpleNamespace(perf_counter=lambda: next(walls), process_time=lambda: next(busy))
    monkeypatch.setattr(timing, "time", clocks)
    assert elapsed(lambda: None) == (3.0, 5.0)


def test_threads_are_put_back() -> None:
    before, seen = torch.get_num_threads(), []

    def stop() -> None:
        with torch_threads(before + 1):
            seen.append(torch.get_num_threads())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    with torch_threads(0):
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: ACME  One 9000 @ 2GHz\nmodel name : other\n", "ACME One"),
        ("processor : 0\nmodel name :\n", None),
        (None, None),
    ],
)
def test_name_of_the_processor(
    text: str | None, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(timing, "PROCESSORS", file)
    found = processor_name()
    assert found
    assert found.startswith("ACME One 9000") if name else "ACME" not in found


def test_machine_is_named_without_paths() -> None:
    found = machine()
    assert set(found) == {"processor", "cores", "threads", "system", "gpu"}
    assert found["gpu"] == "none"
    assert not any("/" in str(value).replace("/ ", "") for value in found.values())


def test_layers_are_the_same_on_every_path_and_mesh() -> None:
    compiled, torch_path = (SMALL.mesh_free(path, 0.1) for path in ("compiled", "torch"))
    for a, b in zip(compiled.parameters(), torch_path.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    x, g = SMALL.fields(16)
    torch.testing.assert_close(step(compiled, x, g), step(torch_path, x, g), rtol=1e-3, atol=1e-4)


def test_kernels_have_the_width_that_was_asked_for() -> None:
    """Mean variance 2 tr A/d of the kernels is width² within 10 %: 1 % of it is one s.e."""
    layer = LayerWork(channels=16).mesh_free("torch", 0.05)
    a = layer.physical().diffusion.detach()
    traces = torch.diagonal(a, dim1=-2, dim2=-1).mean(-1)
    assert float(2.0 * traces.mean()) == pytest.approx(0.05**2, rel=0.1)
    values = torch.linalg.eigvalsh(a)
    assert float(values.min()) >= 0.999 * 0.05**2 / 3.0
    assert float(values.max()) <= 1.001 * 0.05**2 * 2.0 / 3.0


def test_comparison_counts_what_layer_cost_counts() -> None:
    layer = SMALL.mesh_free("torch", 0.1)
    found = SMALL.compare({"torch": layer, "linear": nn.Conv2d(3, 3, 1)}, 16, 3)
    assert [t.layer for t in found] == ["torch", "linear", CONVOLUTION]
    cost = layer_cost(layer, (16, 16), 2)
    assert (found[0].modes, found[0].operations) == (cost.modes, cost.total)
    assert found[1].operations == pytest.approx(cost.stencil / 9.0)
    assert found[2].operations == pytest.approx(cost.stencil)
    assert found[2].ratio == PairedRatio(1.0, 1.0, 1.0, 1.0, 1.0)
    for one in found:
        assert one.seconds > 0.0
        assert one.ratio.least <= one.ratio.low <= one.ratio.median <= one.ratio.high
        assert one.quartiles[0] <= one.seconds <= one.quartiles[1]


def test_error_sees_a_layer_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the tolerance as it is; a gradient that is off by 1 % is seen."""
    layer = SMALL.mesh_free("torch", 0.1)
    assert SMALL.error(layer, 16) < 1e-4
    layer.amplitude.register_hook(lambda gradient: 1.01 * gradient)
    assert SMALL.error(layer, 16) == pytest.approx(0.01, rel=0.05)
