"""The choices of a training run: every rule names its argument, and TOML, flags and identity."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradconv.errors import InputError
from gradconv.train import Trainer, TrainingConfig
from gradconv.train.configuration import MANNER
from gradconv.train.optimisers import OPTIMISERS, SCHEDULES

TINY = {"size": 16, "levels": 2}
FIELDS = {f.name: f for f in dataclasses.fields(TrainingConfig)}
WHOLES = {  # least and greatest value
    "steps": (1, 10**9),
    "accumulation": (1, 10**6),
    "warmup": (0, 10**9),
    "validate_every": (0, 10**9),
    "validation_tiles": (1, 10**6),
    "test_tiles": (1, 10**6),
    "moments_every": (0, 10**9),
    "moments_samples": (2, 10**6),
    "seed": (0, 2**31 - 1),
    "threads": (0, 1024),
    "checkpoint_every": (1, 10**9),
    "log_every": (1, 10**9),
    "processes": (1, 1024),
    "nodes": (1, 4096),
    "batch": (1, 10**6),
    "microbatch": (1, 10**6),
    "width": (1, 10**6),
}
OPTIONAL = ("width", "layers", "mesh_free_widths", "norm", "counts", "stages", "batch", "stop")
OPTIONAL += ("budget", "clip", "microbatch", "prefetch", "memory")


def refused(name: str, value: Any, **others: Any) -> str:
    """The error of a value, which must name its argument."""
    with pytest.raises(InputError) as info:
        TrainingConfig(**{**TINY, **others, name: value})
    text = str(info.value)
    assert f"`{name}`" in text
    assert len(text.splitlines()) == 1
    return text


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        *(math.nan, math.inf, -math.inf, -1, True, 10**400, 1.5, "?", "", None, [], {}, [[1]]),
        *((1, 2, 3), object, np.array([1.0, 2.0]), b"single"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_value_of_the_wrong_kind_is_named(name: str, value: Any) -> None:
    accepting: dict[str, tuple[str, ...]] = {
        "None": OPTIONAL,
        "True": ("prefetch", "restarts"),
        "'?'": ("network",),  # what a caller's own module is called
        "1.5": ("lr", "weight_decay", "clip", "memory"),
    }
    sound = name in accepting.get(repr(value), ())
    if sound:
        assert getattr(TrainingConfig(**{**TINY, name: value}), name) == value
    else:
        assert "got " in refused(name, value)


@pytest.mark.parametrize(("name", "bounds"), WHOLES.items())
def test_whole_numbers_have_both_bounds(name: str, bounds: tuple[int, int]) -> None:
    least, most = bounds
    for value in bounds:
        assert getattr(TrainingConfig(**TINY, **{name: value}), name) == value
    for value in (least - 1, most + 1):
        text = refused(name, value)
        assert f"`{name}` must be a whole number from {least} to " in text
        assert text.endswith(f"got {value}")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("lr", 0.0, "`lr` must be positive and finite; got 0.0"),
        ("lr", -1e-3, "`lr` must be positive and finite; got -0.001"),
        ("clip", 0, "`clip` must be positive and finite; got 0"),
        ("momentum", 1.0, "`momentum` must be at least 0 and below 1; got 1.0"),
        ("memory", 0, "`memory` must be positive and finite, in GiB; got 0"),
        ("channels", 2, "`channels` must be 1 or 3; got 2"),
        ("channels", 4, "`channels` must be a whole number from 1 to 3; got 4"),
        ("levels", 1, "`levels` must be a whole number from 2 to 12; got 1"),
        ("levels", 13, "`levels` must be a whole number from 2 to 12; got 13"),
        ("size", 2, "`size` must be a whole number from 4 to"),
        ("size", 2**14 + 2, "`size` must be a whole number from 4 to"),
        ("counts", (4, 2, 1), "`counts` must hold 2 whole numbers.*; got 3"),
        ("counts", (4, 0), "`counts` must be whole numbers of at least 1.*got 0 on level 1"),
        ("stages", (4, 2.5), "`stages` must be whole numbers.*got 2.5 on level 1"),
        ("stages", "4,2", "`stages` must hold a whole number for each level.*got '4,2'"),
        ("stop", (20,), "`stop` must be a window and a tolerance; got (20,)"),
        ("stop", (0, 0.1), "`stop`: `window` must be .*got 0"),
        ("stop", (20, 2.0), "`stop`: `tolerance` must .*got 2.0"),
        ("mesh_free_widths", (0.1,), "must be the least and the greatest width; got (0.1,)"),
        ("mesh_free_widths", (0.1, 0.0), "`mesh_free_widths` must be positive and finite; got 0.0"),
        ("mesh_free_widths", (0.2, 0.1), "`mesh_free_widths` must not fall; got (0.2, 0.1)"),
        ("budget", "work", "`budget` must be work:N, flops:N or seconds:N"),
        ("budget", "hours:3", "`budget` must be one of .*got 'hours'"),
        ("budget", "work:nan", "positive and finite; got 'work:nan'"),
        ("restarts", 1, "`restarts` must be true or false; got 1"),
        ("prefetch", "yes", "`prefetch` must be true or false; got 'yes'"),
        ("precision", 32, "`precision` must be one of 32, bf16, 64; got 32"),
    ],
)
def test_a_rule_says_what_it_wants(name: str, value: Any, text: str) -> None:
    pattern = re.escape(text).replace(r"\.\*", ".*")
    assert re.search(pattern, refused(name, value))


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("task", "denoiss", "denoise"),
        ("strategy", "multi-scale", "multiscale"),
        ("data", "fotographs", "photographs"),
        ("conv", "mcf", "mfc"),
        ("norm", "bacth", "batch"),
        ("padding", "reflct", "reflect"),
        ("drawn", "finset", "finest"),
        ("restriction", "averge", "average"),
        ("route", "chian", "chain"),
        ("optimiser", "adma", "adam"),
        ("schedule", "cosin", "cosine"),
        ("device", "cdua", "cuda"),
    ],
)
def test_an_unknown_word_gets_the_nearest_known_one(name: str, value: str, near: str) -> None:
    text = refused(name, value)
    assert f"`{name}` must be one of " in text
    assert text.endswith(f"got {value!r}; did you mean {near!r}?")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("norm", ("group", "instance", "batch")),
        ("padding", ("periodic", "reflect", "zero")),
        ("optimiser", tuple(OPTIMISERS)),
        ("schedule", tuple(SCHEDULES)),
    ],
)
def test_all_names_of_the_documentation_are_taken(name: str, values: tuple[str, ...]) -> None:
    made = [TrainingConfig(**TINY, **{name: value}) for value in values]
    assert [getattr(config, name) for config in made] == list(values)
    documented = TrainingConfig.__doc__.partition(f"\n    {name} : ")[2].partition(" : ")[0]
    assert all(f'"{value}"' in documented for value in values)


# -- meshes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "levels", "divisor"), [(20, 4, 8), (36, 4, 8), (16, 5, 16), (4, 3, 4), (6, 3, 4)]
)
def test_sizes_that_do_not_divide(size: int, levels: int, divisor: int) -> None:
    text = refused("size", size, levels=levels)
    assert text == (
        f"`size` must be divisible by {divisor} and at least {2 * divisor}, so that it can be "
        f"halved to {levels} levels; got {size}"
    )


def test_the_coarsest_mesh_may_have_two_cells_and_sizes_need_be_no_power_of_two() -> None:
    assert TrainingConfig(size=16, levels=4, layers=2).hierarchy.sizes == (2, 4, 8, 16)
    assert TrainingConfig(size=24, levels=3).hierarchy.sizes == (6, 12, 24)


@pytest.mark.parametrize(
    ("network", "task", "layers", "sound"),
    [
        # the coarsest of three levels of 32 cells has 8: a UNet of 3 levels halves it to 2
        ("unet", "denoise", 3, True),
        ("unet", "denoise", 4, False),
        ("unet", "superres", 3, True),
        ("unet", "superres", 4, False),
        ("resnet", "superres", None, True),
        ("espcn", "superres", None, True),
    ],
)
def test_levels_below_the_smallest_mesh_of_a_network(
    network: str, task: str, layers: int | None, sound: bool
) -> None:
    choices: dict[str, Any] = {"size": 32, "levels": 3, "task": task, "network": network}
    if sound:
        TrainingConfig(**choices, layers=layers)
        return
    with pytest.raises(InputError, match=r"`levels` must be meshes that the network runs on.*n=8"):
        TrainingConfig(**choices, layers=layers)
    # a module of one's own is not a UNet: its first pass shows what it can do
    TrainingConfig(**{**choices, "network": "UNet of the caller"}, layers=layers)


@pytest.mark.parametrize("task", ["denoise", "deblur", "inpaint"])
def test_espcn_refines(task: str) -> None:
    assert "needs a task whose targets are finer" in refused("network", "espcn", task=task)


def test_images_larger_than_the_photographs() -> None:
    with pytest.raises(InputError, match="`size` must not exceed a photograph's shorter side") as e:
        Trainer("denoise", "resnet", size=4096, levels=2, device="cpu", width=2)
    assert str(e.value).endswith("got 4096")


# -- one form for one run -------------------------------------------------------------------------


def test_specs_are_canonical() -> None:
    short = TrainingConfig(**TINY, task=" denoise:0.10", strategy="multigrid")
    long = TrainingConfig(**TINY, task="denoise:sigma=0.1:upper=0.0", strategy="multigrid:2")
    assert short == long
    assert short.identity() == long.identity()
    assert short.identity() != TrainingConfig(**TINY, task="denoise:0.2").identity()


def test_numbers_have_one_form_and_lists_are_tuples() -> None:
    given = TrainingConfig(
        size=np.int64(16), levels=2, lr=1, clip=2, counts=np.array([4, 2]), stages=[4, 2]
    )
    plain = TrainingConfig(size=16, levels=2, lr=1.0, clip=2.0, counts=(4, 2), stages=(4, 2))
    assert given == plain
    assert json.dumps(given.identity()) == json.dumps(plain.identity())
    assert type(given.size) is int
    assert type(given.lr) is float


def test_the_identity_is_all_but_the_manner() -> None:
    config = TrainingConfig(**TINY, counts=(4, 2))
    identity = config.identity()
    assert set(identity) == set(FIELDS) - set(MANNER)
    assert identity["counts"] == [4, 2]
    assert json.loads(json.dumps(identity)) == identity
    other = {
        "device": "cpu",
        "processes": 2,
        "nodes": 2,
        "threads": 1,
        "prefetch": True,
        "memory": 1.0,
        "checkpoint_every": 7,
        "log_every": 3,
    }
    assert set(other) == set(MANNER)
    for name, value in other.items():
        assert TrainingConfig(**TINY, counts=(4, 2), **{name: value}).identity() == identity, name


DIFFERENT: dict[str, Any] = {
    "task": "deblur",
    "network": "unet",
    "conv": "mfc",
    "strategy": "multiscale",
    "data": "corpus",
    "size": 32,
    "levels": 3,
    "channels": 3,
    "width": 5,
    "layers": 2,
    "mesh_free_widths": (0.1, 0.2),
    "norm": "group",
    "padding": "zero",
    "counts": (3, 1),
    "steps": 7,
    "stages": (3, 1),
    "batch": 5,
    "stop": (20, 0.1),
    "budget": "work:9",
    "drawn": "level",
    "restriction": "injection",
    "route": "direct",
    "optimiser": "sgd",
    "lr": 0.5,
    "weight_decay": 0.5,
    "momentum": 0.5,
    "schedule": "cosine",
    "restarts": True,
    "warmup": 1,
    "clip": 0.5,
    "accumulation": 2,
    "microbatch": 3,
    "precision": "64",
    "validate_every": 3,
    "validation_tiles": 3,
    "test_tiles": 3,
    "moments_every": 3,
    "moments_samples": 3,
    "seed": 3,
}


@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(MANNER)))
def test_every_other_choice_is_part_of_the_identity(name: str) -> None:
    plain = TrainingConfig(**TINY).identity()
    other = TrainingConfig(**{**TINY, name: DIFFERENT[name]}).identity()
    assert {key for key in plain if plain[key] != other[key]} == {name}


def test_the_plan_is_the_papers_by_default() -> None:
    schedule = TrainingConfig(steps=2000).plan_schedule
    assert (schedule.counts, schedule.stages) == ((128, 64, 32, 16), (2000, 1000, 500, 250))
    assert schedule.batch == 240
    stopping = TrainingConfig(stop=(20, 0.01)).plan_schedule.stopping
    assert stopping is not None
    assert (stopping.window, stopping.tolerance) == (20, 0.01)


# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_and_flags_come_first(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'task = "deblur"\nsize = 32\nlevels = 3\ncounts = [8, 4, 2]\nlr = 1\nprefetch = true\n'
        "mesh_free_widths = [0.02, 0.04]\nstop = [20, 0.01]\n"
    )
    config = TrainingConfig.read(path, {"size": 16, "lr": 0.5})
    assert config == TrainingConfig(
        task="deblur",
        size=16,
        levels=3,
        counts=(8, 4, 2),
        lr=0.5,
        prefetch=True,
        mesh_free_widths=(0.02, 0.04),
        stop=(20, 0.01),
    )
    assert TrainingConfig.read(path, {}).size == 32
    assert TrainingConfig.read(None, {"size": 32}) == TrainingConfig(size=32)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'tsak = "denoise"', r"`config .*run.toml` must be one of .*'tsak'; did you mean 'task'"),
        (b"[run]\nsize = 16", r"`config .*run.toml` must be one of .*got 'run'"),
        (b"size = ", r"`config` must be TOML; got .*run.toml"),
        (b'task = "\xff"', r"`config` must be TOML; got .*run.toml"),
        (b"size = 16\nsize = 32", r"`config` must be TOML; got .*run.toml"),
        (b'size = "16"', r"`size` must be a whole number from 4 .*; got '16'"),
        (b"size = 16.0", r"`size` must be a whole number from 4 .*; got 16.0"),
        (b"size = {a = 1}", r"`size` must be a whole number .*got {'a': 1}"),
        (b"levels = 2\nsize = 16\ncounts = [4, true]", r"`counts` must be whole .*got True"),
        (b"levels = 2\nsize = 16\ncounts = 4", r"`counts` must hold a whole number.*got 4"),
        (b"lr = nan", r"`lr` must be positive and finite; got nan"),
        (b"schedule = {}", r"`schedule` must be one of .*got {}"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=text) as info:
        TrainingConfig.read(path, {})
    assert len(str(info.value).splitlines()) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputError, match="`config` must be readable; got") as info:
            TrainingConfig.read(path, {})
        assert str(path) in str(info.value)
