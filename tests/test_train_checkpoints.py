"""Checkpoints are whole or not there; a run that goes on from one ends with the same bits."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

import gradconv
from gradconv.errors import InputError, StorageError
from gradconv.train import checkpoints
from gradconv.train.checkpoints import Checkpoints, check_configuration
from gradconv.train.states import (
    decode,
    encode,
    flatten_state,
    load_optimiser,
    random_states,
    restore_random_states,
    unflatten_state,
)

ROOT = Path(gradconv.__file__).resolve().parents[1]

OPTIMISERS: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "sgd-nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "tensor-lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "groups": lambda p: torch.optim.Adam([{"params": p[:1], "lr": 0.1}, {"params": p[1:]}]),
}
SCHEDULES: dict[str, Any] = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=0.5, total_iters=3),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=9),
    "step": lambda o: lr_scheduler.StepLR(o, step_size=2),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, milestones=[2, 7, 7]),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=20),
    "warm-up": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 9)],
        [3],
    ),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
}


class Run:
    """A tiny training whose inputs come from the global generators of torch, NumPy and Python."""

    def __init__(self, optimiser: str, schedule: str, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).to(dtype)
        self.optimiser = OPTIMISERS[optimiser](list(self.model.parameters()))
        self.schedule = SCHEDULES[schedule](self.optimiser)
        self.dtype = dtype

    def train(self, steps: int) -> Run:
        for _ in range(steps):
            self.optimiser.zero_grad()
            x = torch.randn(6, 3).to(self.dtype) * random.gauss(1.0, 0.1)
            y = self.model(x) - float(np.random.normal())  # noqa: NPY002
            y.square().mean().backward()
            self.optimiser.step()
            self.schedule.step()
        return self

    def save(self, kept: Checkpoints, step: int) -> None:
        tensors, model = flatten_state(dict(self.model.state_dict()))
        state: dict[str, Any] = {"model": model}
        for name, (more, described) in (
            ("optimiser", flatten_state(self.optimiser.state_dict())),
            ("schedule", flatten_state(self.schedule.state_dict())),
            ("random", random_states()),
        ):
            tensors |= {f"{name}.{key}": t for key, t in more.items()}
            state[name] = described
        kept.save(step, tensors, state)

    def load(self, kept: Checkpoints) -> Run:
        found = kept.latest()
        assert found is not None
        _, tensors, state = found
        parts = {
            name: {k.removeprefix(f"{name}."): t for k, t in tensors.items()}
            for name in ("optimiser", "schedule", "random")
        }
        self.model.load_state_dict(unflatten_state(tensors, state["model"]))
        load_optimiser(self.optimiser, unflatten_state(parts["optimiser"], state["optimiser"]))
        self.schedule.load_state_dict(unflatten_state(parts["schedule"], state["schedule"]))
        restore_random_states(parts["random"], state["random"])
        return self

    def bits(self) -> list[Any]:
        tensors, described = flatten_state(
            [dict(self.model.state_dict()), self.optimiser.state_dict(), self.schedule.state_dict()]
        )
        return [json.dumps(described), {k: raw(t) for k, t in tensors.items()}]


def raw(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Type, shape and bytes: NaN equals NaN, and 0.0 is not -0.0."""
    flat = tensor.detach().contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("optimiser", "schedule"),
    [*((o, "cosine") for o in OPTIMISERS), *(("sgd-nesterov", s) for s in SCHEDULES)],
)
def test_a_restored_run_has_the_bits_of_an_uninterrupted_one(
    optimiser: str, schedule: str, tmp_path: Path
) -> None:
    kept = Checkpoints(tmp_path)
    Run(optimiser, schedule).train(5).save(kept, 5)
    whole = Run(optimiser, schedule).train(11).bits()
    assert Run(optimiser, schedule).load(kept).train(6).bits() == whole
    assert Run(optimiser, schedule).load(kept).train(5).bits() != whole  # control


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_states_keep_a_precision_that_is_not_that_of_the_parameter(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    kept = Checkpoints(tmp_path)
    Run("nadam", "cosine", dtype).train(5).save(kept, 5)
    whole = Run("nadam", "cosine", dtype).train(9).bits()
    assert Run("nadam", "cosine", dtype).load(kept).train(4).bits() == whole


def test_torch_alone_would_lose_that_precision() -> None:
    """Control: why there is `load_optimiser`."""
    saved = Run("nadam", "cosine", torch.bfloat16).train(5).optimiser.state_dict()
    other = Run("nadam", "cosine", torch.bfloat16)
    other.optimiser.load_state_dict(saved)
    types = [s["mu_product"].dtype for s in other.optimiser.state.values()]
    assert types[0] == torch.bfloat16 != saved["state"][0]["mu_product"].dtype
    load_optimiser(other.optimiser, saved)
    assert other.optimiser.state_dict()["state"][0]["mu_product"].dtype == torch.float32


def test_a_state_of_other_parameters_is_refused() -> None:
    saved = Run("groups", "cosine").train(1).optimiser.state_dict()
    with pytest.raises(InputError, match="must be of the same optimiser"):
        load_optimiser(Run("adam", "cosine").optimiser, saved)


def test_generators_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        normal = float(np.random.normal())  # noqa: NPY002
        return [float(torch.randn(())), normal, random.gauss(), random.random()]

    draw()  # leaves half a pair of normal numbers behind in NumPy and Python
    states = random_states()
    first = draw()
    assert draw() != first
    restore_random_states(*states)
    assert draw() == first
    with pytest.raises(InputError, match="states of generators"):
        restore_random_states(*flatten_state({"torch": 1}))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.floats().map(np.float64)
    | st.integers(-100, 100).map(np.int32)
)
keys = st.text() | st.just("!") | st.integers() | st.tuples(st.integers(), st.text())
states = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.dictionaries(st.integers(), st.integers(0, 9)).map(Counter)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type and bits, to any depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return repr(a) == repr(b)  # tells NaN and -0.0


@settings(max_examples=150)
@given(states)
def test_any_state_comes_back_through_strict_json(value: Any) -> None:
    text = json.dumps(encode(value, "state"), allow_nan=False)
    assert same(decode(json.loads(text)), value)


def test_what_cannot_be_written_is_named() -> None:
    with pytest.raises(InputError, match=r"`a/1/function` must be made of.*object"):
        flatten_state({"a": [0, {"function": object()}]})
    with pytest.raises(InputError, match="tensor among the tensors"):
        encode({"x": torch.zeros(1)}, "state")
    with pytest.raises(InputError, match="'w' is missing"):
        unflatten_state({}, flatten_state({"w": torch.zeros(1)})[1])
    with pytest.raises(InputError, match="as flatten_state writes it"):
        decode({"!": "os.system", "items": ["true"]})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InputError, match="nested at most"):
        encode(endless, "state")


def content(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    real = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    return {
        "float64": real,
        "float32": real.float().T,  # not contiguous
        "half": real.half()[::2, 1::2],
        "bfloat16": real.bfloat16(),
        "int64": (100 * real).long(),
        "int32": (100 * real).int(),
        "uint8": (100 * real.abs()).to(torch.uint8),
        "bool": real > 0,
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(float(step)),
        "view": real[1],
    }


def test_all_tensors_come_back_with_their_bits(tmp_path: Path) -> None:
    given, state = content(7), {"lr": 0.1 + 0.2, "losses": (float("nan"), 1e-320), 3: "π"}
    given["tied"] = given["float64"]
    given["parameter"] = nn.Parameter(torch.ones(2))
    path = Checkpoints(tmp_path).save(7, given, state)
    assert path == tmp_path / "checkpoint-00000007.safetensors"
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    step, tensors, back = found
    assert step == 7
    assert same(back, state)
    assert {k: raw(t) for k, t in tensors.items()} == {k: raw(t) for k, t in given.items()}
    assert tensors["tied"] is tensors["float64"]
    tensors["view"].zero_()
    assert raw(tensors["float64"]) == raw(given["float64"])
    assert raw(content(8)["float64"]) != raw(given["float64"])  # control


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    assert kept.latest() is None
    assert kept.path_of_latest() is None
    (tmp_path / ".gradconv-left").write_bytes(b"half")
    for step in (1, 2, 3, 3):
        kept.save(step, content(step), {})
    assert sorted(p.name[11:19] for p in tmp_path.iterdir()) == ["00000002", "00000003"]
    with pytest.raises(InputError, match=r"`step` must not be before .*00000003.*; got 2"):
        kept.save(2, content(2), {})
    with pytest.raises(InputError, match="`keep` must be a whole number from 1"):
        Checkpoints(tmp_path, keep=0)


@pytest.mark.parametrize(
    ("tensors", "state", "message"),
    [
        ({"w": [1.0]}, {}, "`w` must be a tensor"),
        ({"w": torch.eye(2).to_sparse()}, {}, "`w` must be a dense tensor"),
        ({"w": torch.empty(2, device="meta")}, {}, "`w` must be a dense tensor"),
        ({"sha256": torch.zeros(2)}, {}, "names other than 'sha256'"),
        ({}, {"model": object()}, "`state/model` must be made of"),
        ({}, {"text": "x" * (33 * 2**20)}, "`state` must have at most 32 MiB as JSON; got 33"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    tensors: Any, state: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        Checkpoints(tmp_path / "new").save(1, tensors, state)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def sound() -> bytes:
    state = {"lr": 0.1, "zeros": "0" * 64}
    return bytes(checkpoints._content(9, {"a": torch.arange(5.0), "b": torch.ones(3) > 0}, state))


def read(folder: Path, data: bytes, step: int = 9) -> Any:
    path = folder / f"checkpoint-{step:08d}.safetensors"
    path.write_bytes(data)
    return Checkpoints(folder).latest()


@settings(max_examples=120)
@given(st.data())
def test_every_cut_is_found(sound: bytes, tmp_path_factory: Any, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(sound) - 1))
    with pytest.raises(InputError, match=r"must be whole; got .*checkpoint-00000009"):
        read(tmp_path_factory.getbasetemp(), sound[:length])


def test_every_flipped_bit_and_byte_is_found(sound: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, sound)[0] == 9  # control: undamaged
    for place in range(len(sound)):
        for change in (1 << (place % 8), 0xFF):
            damaged = bytearray(sound)
            damaged[place] ^= change
            with pytest.raises(InputError, match="must be whole"):
                read(tmp_path, bytes(damaged))
    with pytest.raises(InputError, match="must be whole"):
        read(tmp_path, sound + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",  # a pickle
        (2**62).to_bytes(8, "little") + b"{}",
        (10**7).to_bytes(8, "little") + b"[" * 10**7,
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"\xff\xff{}",
    ],
    ids=["empty", "pickle", "huge", "deep", "bare", "not text"],
)
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be whole; got .*; no older checkpoint is sound"):
        read(tmp_path, data)


def test_a_file_of_another_step_is_refused(sound: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is of step 9"):
        read(tmp_path, sound, step=10)


def test_a_damaged_newest_is_passed_over_with_a_note(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for step in (10, 20):
        kept.save(step, content(step), {"at": step})
    newest = tmp_path / "checkpoint-00000020.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    resumed = Checkpoints(tmp_path)
    found = resumed.latest()
    assert found is not None
    assert found[2] == {"at": 10}
    assert len(resumed.notes) == 1
    assert "checkpoint-00000020" in resumed.notes[0]
    assert "goes on from" in resumed.notes[0]
    resumed.save(15, content(15), {})  # the damaged one is in nobody's way
    assert sorted(p.name[11:19] for p in tmp_path.iterdir()) == ["00000010", "00000015"]
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"checkpoint-00000015.*no older checkpoint is sound"):
        Checkpoints(tmp_path).latest()


def test_another_version_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, {}, {})
    with monkeypatch.context() as context:
        context.setattr(checkpoints, "SCHEMA", 2)
        kept.save(2, {}, {})
    with pytest.raises(InputError, match=r"of version 1 .*00000002.*, of version 2"):
        Checkpoints(tmp_path).latest()


def test_folders_that_are_none_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be read"):
        Checkpoints(tmp_path / "file").latest()
    (tmp_path / "checkpoint-00000001.safetensors").mkdir()
    with pytest.raises(InputError, match="must be a file that can be read"):
        Checkpoints(tmp_path).latest()


def test_a_missing_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Checkpoints(tmp_path).save(1, {}, {})

    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"can be read; got .*00000001.*\(Permission denied\)"):
        Checkpoints(tmp_path).latest()


def test_configurations_are_compared_choice_by_choice() -> None:
    there = {"configuration": {"lr": 0.1, "levels": [8, 16], "task": {"sigma": 1}}}
    check_configuration(there, {"lr": 0.1, "levels": (8, 16), "task": {"sigma": 1.0}})
    with pytest.raises(InputError) as caught:
        check_configuration(there, {"lr": 0.2, "levels": [8, 16], "task": {}, "new": None})
    assert "lr (0.1 there, 0.2 here)" in str(caught.value)
    assert "task.sigma (not here, 1 otherwise)" in str(caught.value)
    assert "new (not there, None otherwise)" in str(caught.value)
    assert "levels" not in str(caught.value)
    with pytest.raises(InputError, match="holds none"):
        check_configuration({}, {})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_last_good_checkpoint(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path, keep=1)
    good = kept.save(1, content(1), {"at": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, call, full)
        with pytest.raises(StorageError, match="no space is left on the device"):
            kept.save(2, content(2), {"at": 2})
        new = Checkpoints(tmp_path / "new")
        with pytest.raises(StorageError, match="no space is left on the device"):
            new.save(2, {}, {})
    assert new.kept() == "there is no good checkpoint"
    assert kept.kept() == f"the last good checkpoint is {good}"
    assert [p for p in tmp_path.iterdir() if p.is_file()] == [good]
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found[2] == {"at": 1}


# Saves as fast as it can; the number of a checkpoint says what must be in it.
ENDLESS = """
import sys, torch
from pathlib import Path
from gradconv.train.checkpoints import Checkpoints

kept, step = Checkpoints(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    step += 1
    kept.save(step, {"w": torch.full((60_000,), float(step))}, {"at": step})
"""


def endless(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_killed_process_leaves_a_sound_checkpoint(tmp_path: Path) -> None:
    """Nine kills; but for the first, of processes that have imported all they need."""
    rng, steps = random.Random(3), [0]
    with endless(tmp_path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        while not list(tmp_path.glob("checkpoint-*")):
            time.sleep(0.001)
        time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
    for kill in range(9):
        found = Checkpoints(tmp_path).latest()
        assert found is not None
        step, tensors, state = found
        assert state == {"at": step}
        assert torch.equal(tensors["w"], torch.full((60_000,), float(step)))
        assert step > steps[-1]
        steps.append(step)
        whole = [p for p in tmp_path.iterdir() if not p.name.startswith(".gradconv-")]
        assert len(whole) <= 3  # a kill after the new one, before the oldest is deleted
        if kill == 8:
            break
        child = os.fork()
        if child == 0:  # pragma: no cover
            kept = Checkpoints(tmp_path)
            while True:
                step += 1
                kept.save(step, {"w": torch.full((60_000,), float(step))}, {"at": step})
        # at the latest where the first new one is whole, then at any moment
        due = time.monotonic() + 20
        while time.monotonic() < due and len(list(tmp_path.glob(f"*{step + 1:08d}.*"))) == 0:
            if list(tmp_path.glob(f"*{step + 2:08d}.*")):
                break
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes as on Linux")
def test_a_file_that_may_not_grow_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    import resource

    kept, before = Checkpoints(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # of this process
    try:
        for step in (1, 2, 3):
            good = kept.save(step, {"w": torch.full((200,), float(step))}, {"at": step})
        with pytest.raises(StorageError, match="the file would be larger than allowed"):
            kept.save(4, {"w": torch.full((60_000,), 4.0)}, {"at": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept.kept() == f"the last good checkpoint is {good}"
    found = Checkpoints(tmp_path).latest()
    assert found is not None
    assert found[0] == 3
    assert not list(tmp_path.glob(".gradconv-*"))
