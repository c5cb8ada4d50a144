"""Bad input to ``gradconv train``: one line before the first step, and nothing left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from image_formats import photograph, write_image
from train_command_line import TINY, Call, make_call, make_refused  # noqa: F401  (fixtures)

from gradconv.train.checkpoints import Checkpoints
from gradconv.train.loop import Loop


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--task denoiss", ("`task` must be one of", "did you mean 'denoise'")),
        ("--task denoise:x", ("`task` denoise: sigma must be a number; got 'x'",)),
        ("--task denoise:-1", ("`task` denoise",)),
        ("--network unett", ("`network` must be one of", "did you mean 'unet'")),
        ("--network espcn", ("`network` espcn", "superres", "got task denoise")),
        ("--strategy singel", ("`strategy` must be one of", "did you mean 'single'")),
        ("--strategy multigrid", ("`strategy` multigrid", "`steps` of at least 7, and got 2")),
        ("--strategy random-crops:0.5:0.1", ("`strategy` random-crops", "rise within (0, 1]")),
        ("--conv mcf", ("`conv` must be one of", "did you mean 'mfc'")),
        ("--norm layer", ("`norm` must be one of",)),
        ("--padding circle", ("`padding` must be one of",)),
        (
            "--size 20 --levels 4 --counts 8,4,2,1 --stages 2,2,1,1",
            ("`size` must be divisible by 8",),
        ),
        ("--size 8192", ("`size` must not exceed a photograph's", "got 8192")),
        ("--network unet --layers 4", ("`levels` must be meshes", "n=4 on level 0")),
        ("--network unet --layers 3", ("`levels` must be meshes", "n=4 on level 0")),
        ("--mesh-free-widths 0.1,0.2", ("`mesh_free_widths` must be left out for conv standard",)),
        ("--data folder:nowhere", ("`data` folder: the folder must exist; got nowhere",)),
        ("--data folder:", ("`data` folder",)),
        ("--data cifar10:nowhere", ("`data` cifar10", "nowhere")),
        ("--data stl10:nowhere", ("`data` stl10", "nowhere")),
        ("--data celeba:nowhere", ("`data` celeba", "nowhere")),
        ("--data urban100:nowhere", ("`data` urban100", "nowhere")),
        ("--data corpus:nowhere", ("`data` corpus", "nowhere")),
        ("--config nowhere.toml", ("`config` must be readable; got nowhere.toml",)),
        ("--time", ("`--time` must be given with `--dry-run`; got it alone",)),
        ("--steps x", ("`steps` must be a whole number; got 'x'",)),
        ("--steps 0", ("`steps` must be a whole number from 1", "got 0")),
        ("--counts 4,2", ("`counts` must hold 3 whole numbers", "got 2")),
        ("--lr nan", ("`lr` must be positive and finite; got nan",)),
        ("--warmup 2", ("`warmup` must be less than the plan's 2 steps; got 2",)),
        ("--budget work:0.1", ("`budget` must pay for a step of each leg",)),
        ("--precision 16", ("`precision` must be one of 32, bf16, 64; got '16'",)),
        ("--device gpu", ("`device` must be one of auto, cpu, cuda; got 'gpu'",)),
        ("--memory 0.00001", ("`microbatch` must let every pass fit", "not one sample fits")),
        ("--memory 0", ("`memory` must be positive",)),
        ("--output  ", ("`output`",)),
        ("--stepz 2", ("--stepz", "did you mean '--steps'")),
    ],
)
def test_bad_input_is_one_line(
    refused: Callable[..., str], words: str, texts: tuple[str, ...]
) -> None:
    split = words.split(" ") if words == "--output  " else words.split()
    err = refused(*TINY, *split[:2], *split[2:])
    for text in texts:
        assert text in err


def test_restarts_with_a_warm_up_longer_than_a_leg(refused: Callable[..., str]) -> None:
    words = (*TINY, "--strategy", "full-multiscale", "--stages", "4,4,1", "--restarts", "true")
    err = refused(*words, "--warmup", "1")
    assert "`warmup` must be less than the 1 steps of the shortest leg" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_and_absent(refused: Callable[..., str]) -> None:
    assert "`device` must be cpu or a device that torch can use" in refused(
        *TINY, "--device", "cuda"
    )


def test_memory_names_the_microbatch_that_fits(refused: Callable[..., str]) -> None:
    words = (*TINY, "--size", "64", "--counts", "64,32,16", "--strategy", "multiscale")
    err = refused(*words, "--memory", "0.002")
    assert re.search(r"`microbatch` must .* a microbatch of \d+ would fit$", err.strip())


def test_a_file_where_the_folder_should_be(refused: Callable[..., str]) -> None:
    Path("run").write_text("mine")
    assert "`output` must be a folder; got the file run" in refused(*TINY, "-o", "run")
    assert Path("run").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("size = ", ("`config` must be TOML; got run.toml",)),
        ("tsak = 1", ("`config run.toml` must be one of", "did you mean 'task'")),
        ('size = "x"', ("`size` must be a whole number", "got 'x'")),
    ],
)
def test_a_file_of_choices_that_is_wrong(
    refused: Callable[..., str], content: str, texts: tuple[str, ...]
) -> None:
    Path("run.toml").write_text(content)
    err = refused("--config", "run.toml")
    for text in texts:
        assert text in err


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with images enough for all splits."""
    for i in range(12):
        write_image(tmp_path / "images" / f"{i}.png", photograph(i, 24, 20))
    return tmp_path / "images"


def test_a_folder_of_images_trains(call: Call, images: Path) -> None:
    code, out, _ = call(*TINY, "--data", f"folder:{images}", "--json")
    assert code == 0
    assert json.loads(out)["totals"]["steps"] == 2


def damage(path: Path, how: str) -> None:
    """Make a file of a run or of data unsound."""
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        place = len(content) - 40
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize("how", ["cut", "empty"])
def test_a_corrupt_image(refused: Callable[..., str], images: Path, how: str) -> None:
    for path in (images / "0.png", images / "7.png"):
        content = path.read_bytes()
        damage(path, how)
        err = refused(*TINY, "--data", f"folder:{images}")
        assert "every file must be a whole, readable image" in err
        assert path.name in err
        path.write_bytes(content)


def test_images_smaller_than_the_mesh(refused: Callable[..., str], images: Path) -> None:
    err = refused(*TINY, "--size", "32", "--data", f"folder:{images}")
    assert "`size` must not exceed a photograph's shorter side" in err
    assert "24 × 20 pixels; got 32" in err


@pytest.fixture
def kept(call: Call, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The command of a run that was interrupted after two of its four steps."""
    words = (*TINY, "--strategy", "full-multiscale", "-o", "run", "--checkpoint-every", "1")
    whole = Loop._steps

    def two(self: Loop, *arguments: Any) -> Iterator[None]:
        for _ in whole(self, *arguments):
            yield
            if self.state.totals.steps == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_steps", two)
        code, _, err = call(*words)
    assert code == 130
    assert "interrupted" in err
    names = [p.name for p in sorted(Path("run/checkpoints").iterdir())]
    assert names == ["checkpoint-00000002.safetensors", "checkpoint-00000003.safetensors"]
    return words


def test_a_folder_of_another_configuration(kept: tuple[str, ...], refused: Any) -> None:
    err = refused(*kept, "--lr", "0.1", "--seed", "3")
    assert "`output` must be empty or of the same configuration" in err
    assert err.strip().endswith("which differs in lr, seed")
    for path in Path("run").glob("*.json"):  # the folder's own record of it
        path.unlink()
    err = refused(*kept, "--lr", "0.1", "--seed", "3")
    assert "`checkpoint` must be of the same configuration" in err
    assert "lr (0.002 there, 0.1 here)" in err
    assert "seed (0 there, 3 here)" in err


@pytest.mark.parametrize("how", ["cut", "empty", "flip"])
def test_checkpoints_that_are_all_damaged(kept: tuple[str, ...], refused: Any, how: str) -> None:
    for path in Path("run/checkpoints").iterdir():
        damage(path, how)
    err = refused(*kept)
    assert "`checkpoint` must be whole; got run/checkpoints/checkpoint-00000003" in err
    assert "no older checkpoint is sound" in err


@pytest.mark.parametrize("how", ["cut", "empty", "flip"])
def test_the_newest_checkpoint_is_damaged(kept: tuple[str, ...], call: Call, how: str) -> None:
    damage(Path("run/checkpoints/checkpoint-00000003.safetensors"), how)
    code, out, _ = call(*kept, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["totals"]["steps"] == 4
    (note,) = (n for n in document["notes"] if "checkpoint" in n)
    assert "checkpoint-00000003" in note
    assert "goes on from run/checkpoints/checkpoint-00000002" in note
    found = Checkpoints(Path("run/checkpoints")).latest()
    assert found is not None
    assert found[0] == 4
