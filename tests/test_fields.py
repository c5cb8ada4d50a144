"""Signals, targets and noise: laws, couplings, photographs, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradconv.errors import InputError
from gradconv.fields import NOISES, SIGNALS, TARGETS, Multiplier, Noise, RandomField, SamplePath
from gradconv.fields.photograph import EMBEDDED
from gradconv.fields.streams import hermitian_modes, mesh_spectrum
from gradconv.mesh import FourierGrid, Mesh
from gradconv.restriction import RESTRICTIONS

NOISE_SPECS = [
    "pixel:0.5",
    "white:0.3",
    "power:1:0.5",
    "power:-0.5:0.5",
    "matern:0.5:0.1",
    "matern:2:0.05:0.7",
    "uniform:0.4",
    "poisson:20",
    "salt-and-pepper:0.3",
]
DRAWN = [s for s in NOISE_SPECS]


def noise_field(
    noise: Noise, mesh: Mesh, replicate: int, coupled: bool, level: float = 0.5
) -> np.ndarray:
    """Noise on a constant signal, its mean removed exactly."""
    signal = np.full((1, *mesh.shape), level)
    path = SamplePath(7, replicate, "noise")
    return noise.apply(signal, mesh, path, coupled)[0] - noise.gain * level - noise.offset


def test_specs_cover_the_registry() -> None:
    assert {s.partition(":")[0] for s in NOISE_SPECS} == set(NOISES.names) - {"none"}


@pytest.mark.parametrize("spec", NOISE_SPECS)
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("dim", "n"), [(1, 16), (2, 8), (1, 9), (3, 4)])
def test_noise_has_its_stated_spectrum(spec: str, coupled: bool, dim: int, n: int) -> None:
    """Mean power of every mode over 2000 draws: within 6 standard errors, and so is the sum."""
    noise, mesh, draws = NOISES.parse(spec), Mesh(dim, n), 2000
    if coupled and n == 9 and dim == 1:
        mesh = Mesh(1, 18)
    stated = np.broadcast_to(noise.spectrum(mesh, 0.5, 0.25), mesh.shape)
    fields = np.stack([noise_field(noise, mesh, r, coupled) for r in range(draws)])
    power = np.abs(np.fft.fftn(fields, axes=range(1, dim + 1)) / mesh.size) ** 2
    error = power.std(0) / np.sqrt(draws) + 1e-30
    off = np.abs(power.mean(0) - stated)
    assert (off / error).max() < 6.0 or off.max() < 1e-25
    total = power.sum(axis=tuple(range(1, dim + 1)))
    assert abs(total.mean() - stated.sum()) < 5 * total.std() / np.sqrt(draws)
    wrong = 1.3 * stated  # negative control: a law off by 30 per cent is seen
    assert abs(total.mean() - wrong.sum()) > 5 * total.std() / np.sqrt(draws)


@pytest.mark.parametrize("spec", NOISE_SPECS)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_one_path_serves_all_meshes(spec: str, dim: int) -> None:
    """The stated coupling holds exactly between neighbouring meshes."""
    noise = NOISES.parse(spec)
    for n in (6, 8):
        fine = noise_field(noise, Mesh(dim, 2 * n), 3, coupled=True)
        coarse = noise_field(noise, Mesh(dim, n), 3, coupled=True)
        if noise.coupling == "modes":
            fine_modes, coarse_modes = np.fft.fftn(fine), np.fft.fftn(coarse)
            j = np.arange(-(n // 2) + 1, n // 2)  # the modes below the coarse Nyquist mode
            shared = np.ix_(*[j] * dim)
            difference = fine_modes[shared] / 2**dim - coarse_modes[shared]
            assert np.abs(difference).max() < 1e-12 * n**dim
        else:
            restricted = RESTRICTIONS.parse(noise.coupling).restrict(fine[None], dim)[0]
            assert np.abs(restricted - coarse).max() < 1e-12
        other = noise_field(noise, Mesh(dim, n), 4, coupled=True)
        assert np.abs(other - coarse).max() > 1e-3  # negative control: another path


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_modes_are_hermitian_and_extend(dim: int) -> None:
    small = hermitian_modes(np.random.default_rng(0), dim, 2)
    large = hermitian_modes(np.random.default_rng(0), dim, 4)
    inner = (slice(2, -2),) * dim
    assert np.array_equal(large[inner], small)
    flipped = large[(slice(None, None, -1),) * dim]
    assert np.array_equal(flipped, np.conj(large))
    field = np.fft.irfftn(mesh_spectrum(large, 16), s=(16,) * dim, axes=range(dim))
    spectrum = np.fft.fftn(field)
    j = np.arange(-4, 5)
    assert np.abs(spectrum[np.ix_(*[j] * dim)] - large).max() < 1e-12


@pytest.mark.parametrize("spec", ["band-limited:3", "sobolev:0.5", "sobolev:3:2"])
@pytest.mark.parametrize(("dim", "n"), [(1, 16), (2, 8), (3, 8)])
@pytest.mark.parametrize("grid", ["cell", "vertex"])
def test_random_signals_have_their_stated_spectrum(spec: str, dim: int, n: int, grid: str) -> None:
    signal, mesh, draws = SIGNALS.parse(spec), Mesh(dim, n), 1500
    assert isinstance(signal, RandomField)
    fields = np.stack(
        [signal.draw(mesh, grid, 1, SamplePath(0, r, "signal"))[0] for r in range(draws)]
    )
    power = np.abs(np.fft.fftn(fields, axes=range(1, dim + 1)) / mesh.size) ** 2
    stated = signal.spectrum(mesh)
    error = power.std(0) / np.sqrt(draws)
    seen = stated > 1e-12 * stated.max()
    assert np.abs((power.mean(0) - stated)[seen] / error[seen]).max() < 6.0
    assert power[:, ~seen].max(initial=0.0) < 1e-25
    if spec.startswith("band"):
        assert stated.sum() == pytest.approx(1.0)


def test_a_signal_is_one_function_on_all_meshes() -> None:
    """Below the cutoff a finer mesh shows the same values at the same points."""
    signal = SIGNALS.parse("band-limited:3")
    path = SamplePath(0, 0, "signal")
    fine = signal.draw(Mesh(2, 32), "vertex", 1, path)
    coarse = signal.draw(Mesh(2, 16), "vertex", 1, path)
    assert np.abs(fine[:, ::2, ::2] - coarse).max() < 1e-13
    cells = signal.draw(Mesh(2, 16), "cell", 1, path)
    assert np.abs(fine[:, 1::2, 1::2] - cells).max() < 1e-13
    assert np.abs(fine[:, ::2, ::2] - cells).max() > 1e-2  # negative control: half a cell off


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_cartoon_is_piecewise_constant_and_fixed(dim: int) -> None:
    signal = SIGNALS.parse("cartoon")
    drawn = [signal.draw(Mesh(dim, 32), "cell", 2, SamplePath(s, s, "signal")) for s in (0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    values = np.unique(drawn[0][0])
    assert 2 <= len(values) <= 7
    assert 0.0 <= values.min() <= values.max() <= 1.0
    other = SIGNALS.parse("cartoon:6:1").draw(Mesh(dim, 32), "cell", 2, SamplePath(0, 0, "signal"))
    assert not np.array_equal(drawn[0], other)


def test_salt_and_pepper_has_the_stated_mean() -> None:
    noise, mesh = NOISES.parse("salt-and-pepper:0.3"), Mesh(1, 4096)
    signal = np.full((1, 4096), 0.8)
    noisy = noise.apply(signal, mesh, SamplePath(0, 0, "noise"), False)
    expected = noise.gain * 0.8 + noise.offset
    assert noisy.mean() == pytest.approx(expected, abs=5 * noisy.std() / 64)
    assert abs(noisy.mean() - 0.8) > 5 * noisy.std() / 64  # it has a mean
    assert set(np.unique(noisy)) == {0.0, 0.8, 1.0}


@pytest.mark.parametrize("spec", ["identity", "blur:0.05", "unblur:0.01", "shift:0.1:0"])
@pytest.mark.parametrize("dim", [1, 2])
def test_targets_are_what_they_say(spec: str, dim: int) -> None:
    """Each multiplier on a plane wave, against the closed form of what it does."""
    n, j = 32, 3
    x = np.arange(n) / n
    wave = np.cos(2 * np.pi * j * x)
    fields = wave if dim == 1 else np.tile(wave[:, None], (1, n))
    target = TARGETS.parse(spec)
    modes = np.fft.rfftn(fields) * target.on_grid(FourierGrid(Mesh(dim, n)))
    got = np.fft.irfftn(modes, s=fields.shape, axes=range(dim))
    k = 2 * np.pi * j
    closed = {
        "identity": wave,
        "blur": wave * np.exp(-0.5 * (0.05 * k) ** 2),
        "unblur": wave * np.exp(0.5 * (0.01 * k) ** 2),
        "shift": np.cos(k * (x + 0.1)),
    }[spec.partition(":")[0]]
    expected = closed if dim == 1 else np.tile(closed[:, None], (1, n))
    assert np.abs(got - expected).max() < 1e-13


def test_derivative_target() -> None:
    n, x = 32, np.arange(32) / 32
    target = TARGETS.parse("derivative:0:0.05")
    modes = np.fft.rfft(np.sin(6 * np.pi * x)) * target.on_grid(FourierGrid(Mesh(1, n)))
    expected = 0.05 * 6 * np.pi * np.cos(6 * np.pi * x)
    assert np.abs(np.fft.irfft(modes, n) - expected).max() < 1e-13


def test_any_multiplier_given_as_a_function() -> None:
    blur = Multiplier(lambda *k: np.exp(-0.5 * 0.05**2 * sum(a * a for a in k)), "own blur")
    grid = FourierGrid(Mesh(2, 16))
    assert np.abs(blur.on_grid(grid) - TARGETS.parse("blur:0.05").on_grid(grid)).max() < 1e-15
    with pytest.raises(InputError, match="conj"):
        Multiplier(lambda *k: 1j * np.abs(k[0])).on_grid(grid)
    with pytest.raises(InputError, match="finite"):
        Multiplier(lambda *k: k[0] / k[0]).on_grid(grid)


def test_inverse_blur_is_bounded() -> None:
    with pytest.raises(InputError, match="`target` unblur must amplify no mode"):
        TARGETS.parse("unblur:0.1").check(Mesh(2, 256))


@pytest.mark.parametrize("title", EMBEDDED)
@pytest.mark.parametrize("channels", [1, 3])
def test_embedded_photographs(title: str, channels: int) -> None:
    signal = SIGNALS.parse(f"photograph:{title}")
    mesh = Mesh(2, 128)
    grey = title in ("brick", "camera", "grass", "gravel")
    if channels == 3 and grey:
        with pytest.raises(InputError, match="`channels` must be 1"):
            signal.check(mesh, channels)
        return
    signal.check(mesh, channels)
    image = signal.draw(mesh, "cell", channels, SamplePath(0, 0, "signal"))
    assert image.shape == (channels, 128, 128)
    assert 0.0 <= image.min() < image.max() <= 1.0
    assert image.std() > 0.02


def test_photograph_on_a_coarser_mesh_is_its_cell_mean() -> None:
    signal = SIGNALS.parse("photograph:camera")
    path = SamplePath(0, 0, "signal")
    fine, coarse = (signal.draw(Mesh(2, n), "cell", 1, path) for n in (512, 128))
    assert np.abs(fine.reshape(1, 128, 4, 128, 4).mean((2, 4)) - coarse).max() < 1e-14


def test_image_files_of_every_kind(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(colour).convert("P").save(tmp_path / "palette.png")
    alpha = np.dstack([colour, np.full((40, 50), 255, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    deep = rng.integers(0, 65536, (40, 50)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    path = SamplePath(0, 0, "signal")
    seen = {}
    for file in sorted(tmp_path.glob("*.png")):
        signal = SIGNALS.parse(f"image:{file}")
        signal.check(Mesh(2, 32), 1)
        seen[file.stem] = signal.draw(Mesh(2, 32), "cell", 1, path)
        assert 0.0 <= seen[file.stem].min() < seen[file.stem].max() <= 1.0
    assert np.array_equal(seen["alpha"], seen["colour"])
    assert np.abs(seen["grey"][0] - colour[4:36, 9:41, 0] / 255).max() < 1e-15
    assert np.abs(seen["deep"][0] - deep[4:36, 9:41] / 65535).max() < 1e-15


@pytest.mark.parametrize(
    ("shape", "dim", "channels"),
    [
        ((32,), 1, 1),
        ((32, 32), 2, 1),
        ((32, 32, 32), 3, 1),
        ((2, 32, 32), 2, 2),
        ((2, 32, 32, 32), 3, 2),
    ],
)
def test_arrays_in_any_dimension(
    tmp_path: Path, shape: tuple[int, ...], dim: int, channels: int
) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    np.save(tmp_path / "a.npy", values)
    signal = SIGNALS.parse(f"image:{tmp_path / 'a.npy'}")
    signal.check(Mesh(dim, 16), channels)
    drawn = signal.draw(Mesh(dim, 32), "cell", channels, SamplePath(0, 0, "signal"))
    assert np.array_equal(drawn.reshape(shape), values)


def test_replicates_go_through_a_folder(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((8, 8), float(i)))
    signal = SIGNALS.parse(f"image:{tmp_path}")
    drawn = [
        signal.draw(Mesh(2, 8), "cell", 1, SamplePath(0, r, "signal")).mean() for r in range(5)
    ]
    assert drawn == [0.0, 1.0, 2.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pixel:-1", "`noise` pixel: sigma must be positive; got 'pixel:-1.0'"),
        ("pixel:nan", "sigma must be finite"),
        ("pixel:a", "sigma must be a number; got 'a'"),
        ("pixel:1:2", "takes at most 1 values (sigma)"),
        ("matern:1", "needs length"),
        ("matern:0:1", "nu must lie in (0, 20]"),
        ("salt-and-pepper:2", "fraction must lie in (0, 1]"),
        ("pixle", "did you mean 'pixel'"),
        ("power:scale=-1", "scale must be positive"),
    ],
)
def test_bad_noise_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        NOISES.parse(text)
    assert message in str(caught.value)


def test_poisson_needs_a_signal_that_is_not_negative() -> None:
    with pytest.raises(InputError, match="nowhere negative"):
        NOISES.parse("poisson").check(-0.1, 1.0)


@given(st.sampled_from(NOISES.names + SIGNALS.names + TARGETS.names), st.data())
def test_specs_round_trip(name: str, data: st.DataObject) -> None:
    """Canonical text parses to an equal value."""
    for registry in (NOISES, SIGNALS, TARGETS):
        if name in registry.names:
            number = data.draw(st.floats(0.01, 0.9))
            try:
                value = registry.parse(name if data.draw(st.booleans()) else f"{name}:{number}")
            except InputError:
                return
            assert registry.parse(value.spec) == value
