"""Checkpoints: whole or not there, checked against damage, and read without running anything."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from gradconv.errors import InputError, StorageError, check_whole, shortened
from gradconv.store import TEMPORARY, write_atomically
from gradconv.train.states import decode, encode

SCHEMA = 1
DIGEST = "sha256"  # name of the tensor whose 32 bytes are the checksum of all the others
SIZE = 32
DOCUMENT = "gradconv"  # key of the metadata
LONGEST: Final = 64 * 2**20  # bytes of the header: of names, shapes and state
PATTERN = re.compile(r"checkpoint-(\d{8,})\.safetensors")
KINDS = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.complex64),
    }
)

Content = tuple[int, dict[str, Tensor], dict[str, Any]]


class _Damaged(InputError):
    """A file is not what was written."""


class Checkpoints:
    """The checkpoints of one run, a file ``checkpoint-00000123.safetensors`` each.

    A file holds tensors and a state in JSON. It is written under another name and renamed when it
    is whole, and a SHA-256 of all its bytes finds any damage. Reading runs no code of the file.

    Parameters
    ----------
    folder : Path
        Where they are; made when the first one is saved.
    keep : int
        How many of the last ones stay.

    Attributes
    ----------
    notes : list of str
        What a person should hear of: damaged files that were passed over.

    Raises
    ------
    InputError
        If `keep` is less than 1.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        check_whole("keep", keep, 1, 2**31)
        self.folder, self.keep = Path(folder), keep
        self.notes: list[str] = []
        self._passed_over: set[Path] = set()
        self._tidy = False

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then delete those that are older than the last `keep`.

        Parameters
        ----------
        step : int
            Steps done; not less than that of any checkpoint that is there.
        tensors : mapping of Tensor
            By name. One tensor under two names is kept once and comes back as one tensor;
            different views of the same memory come back apart.
        state : mapping
            Numbers, strings, None, lists, tuples and dictionaries, kept exactly.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InputError
            If something can not be kept, or the step goes back.
        StorageError
            If it can not be written: no space, no permission. Files that were there are as they
            were.
        """
        check_whole("step", step, 0, 10**15)
        content = _content(step, tensors, state)
        there = [p for p in self._files() if p not in self._passed_over]
        if there and _step_of(there[0]) > step:
            raise InputError(
                f"`step` must not be before the last checkpoint, {there[0]}; got {step}"
            )
        path = self.folder / f"checkpoint-{step:08d}.safetensors"
        try:
            self._tidy_up()
            write_atomically(path, content)
            self._passed_over.discard(path)
            kept = [p for p in self._files() if p not in self._passed_over]
            for old in (*self._passed_over, *kept[self.keep :]):
                old.unlink(missing_ok=True)
            self._passed_over.clear()
        except OSError as error:
            raise StorageError(str(error)) from error
        return path

    def latest(self) -> Content | None:
        """Step, tensors and state of the newest sound checkpoint; None where there are none.

        A damaged one is passed over, with a note, if an older one is sound.

        Raises
        ------
        InputError
            If all there are are damaged, or the newest is sound but of another version of this
            format, or cannot be read; the message names the file.
        """
        first: _Damaged | None = None
        notes: list[str] = []
        for path in self._files():
            try:
                content = _read(path)
            except _Damaged as error:
                first = first or error
                notes.append(str(error))
                self._passed_over.add(path)
                continue
            if notes:
                self.notes.append(f"{'; '.join(notes)}; the run goes on from {path}")
            return content
        if first is not None:
            raise InputError(f"{first}; no older checkpoint is sound")
        return None

    def path_of_latest(self) -> Path | None:
        """File of the newest sound checkpoint, None where there is none; its bytes are checked."""
        for path in self._files():
            try:
                _read(path)
            except InputError:
                continue
            return path
        return None

    def _files(self) -> list[Path]:
        """Files with a name of a checkpoint, newest first."""
        try:
            if not self.folder.exists():
                return []
            found = [p for p in self.folder.iterdir() if PATTERN.fullmatch(p.name)]
        except OSError as error:
            raise InputError(
                f"`folder` must be a folder that can be read; got {self.folder} ({error.strerror})"
            ) from None
        return sorted(found, key=_step_of, reverse=True)

    def _tidy_up(self) -> None:
        """Delete what a killed run was writing."""
        if not self._tidy and self.folder.is_dir():
            for stale in self.folder.glob(f"{TEMPORARY}*"):
                stale.unlink(missing_ok=True)
        self._tidy = True

    def kept(self) -> str:
        """Say which checkpoint a run that has failed can go on from."""
        try:
            path = self.path_of_latest()
        except InputError:
            path = None
        if path is None:
            return "there is no good checkpoint"
        return f"the last good checkpoint is {path}"


def check_configuration(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another configuration.

    Parameters
    ----------
    state : mapping
        State of the checkpoint, with the configuration under ``"configuration"``.
    expected : mapping
        The configuration of this run, JSON values; tuples count as lists.

    Raises
    ------
    InputError
        That names each choice that differs, with both values.
    """
    there = state.get("configuration")
    if not isinstance(there, Mapping):
        raise InputError("`checkpoint` must hold the configuration of its run; it holds none")
    differing = _differences(_plain(there), _plain(expected), "")
    if differing:
        raise InputError(
            f"`checkpoint` must be of the same configuration; it differs in {'; '.join(differing)}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _differences(there: Any, here: Any, place: str) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        found: list[str] = []
        for key in sorted({*there, *here}):
            name = f"{place}.{key}" if place else key
            if key not in there or key not in here:
                missing, value = ("there", here) if key not in there else ("here", there)
                found.append(f"{name} (not {missing}, {shortened(value[key], 40)} otherwise)")
            else:
                found += _differences(there[key], here[key], name)
        return found
    if there == here and type(there) is type(here):
        return []
    if {type(there), type(here)} == {int, float} and there == here:
        return []  # 1 and 1.0 are the same choice
    return [f"{place} ({shortened(there, 40)} there, {shortened(here, 40)} here)"]


def _step_of(path: Path) -> int:
    found = PATTERN.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _content(step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> bytes:
    """All bytes of the file, checksum included."""
    from safetensors.torch import save

    stored: dict[str, Tensor] = {DIGEST: torch.zeros(SIZE, dtype=torch.uint8)}
    tied: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        _check_tensor(name, tensor)
        same = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and same in names:
            tied[name] = names[same]
            continue
        names[same] = name
        # views of one memory would be refused: each gets its own
        stored[name] = tensor.detach().to("cpu").contiguous().clone()
    document = {"schema": SCHEMA, "step": step, "tied": tied, "state": encode(dict(state), "state")}
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    if len(text) > LONGEST // 2:
        raise InputError(
            f"`state` must have at most {LONGEST // 2**21} MiB as JSON; got {len(text) / 2**20:.0f}"
        )
    content = bytearray(save(stored, {DOCUMENT: text}))
    start = _digest_start(content, _header(content))
    content[start : start + SIZE] = _digest(content, start)
    return bytes(content)


def _check_tensor(name: str, tensor: object) -> None:
    if not isinstance(name, str) or name in (DIGEST, "__metadata__"):
        raise InputError(f"`tensors` must have names other than {DIGEST!r}; got {shortened(name)}")
    if not isinstance(tensor, Tensor):
        raise InputError(f"`{name}` must be a tensor; got {shortened(tensor)}")
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.dtype not in KINDS:
        raise InputError(
            f"`{name}` must be a dense tensor of a type that can be kept; "
            f"got {tensor.dtype}, {tensor.layout}, on {tensor.device}"
        )


def _header(content: bytes | bytearray) -> dict[str, Any]:
    """Names, types, shapes and places, and the metadata.

    Raises
    ------
    ValueError
        If there is none.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= size <= min(LONGEST, len(content) - 8):
        raise ValueError("it is cut off, or its header is damaged")
    header = json.loads(content[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("its header is damaged")
    return header


def _digest_start(content: bytes | bytearray, header: dict[str, Any]) -> int:
    first, last = header[DIGEST]["data_offsets"]
    start = 8 + int.from_bytes(content[:8], "little") + first
    if type(first) is not int or first < 0 or last - first != SIZE or start + SIZE > len(content):
        raise ValueError("it is cut off, or its checksum is missing")
    return start


def _digest(content: bytes | bytearray, start: int) -> bytes:
    """SHA-256 of the bytes with zeros in the place of the checksum."""
    view = memoryview(content)
    found = hashlib.sha256(view[:start])
    found.update(bytes(SIZE))
    found.update(view[start + SIZE :])
    return found.digest()


def _read(path: Path) -> Content:
    """Read and check one file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"`checkpoint` must be a file that can be read; got {path} ({error.strerror})"
        ) from None
    try:
        header = _header(content)
        start = _digest_start(content, header)
        if _digest(content, start) != content[start : start + SIZE]:
            raise ValueError("its bytes are not those that were written")
        document = json.loads(header["__metadata__"][DOCUMENT])
        if document["schema"] != SCHEMA:
            raise InputError(
                f"`checkpoint` must be of version {SCHEMA} of the format; "
                f"got {path}, of version {shortened(document['schema'])}"
            )
        if document["step"] != _step_of(path):
            raise ValueError(f"it is of step {document['step']}")
        tensors = load(content)
        del tensors[DIGEST]
        tensors |= {name: tensors[same] for name, same in document["tied"].items()}
        return document["step"], tensors, decode(document["state"])
    except (ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        reason = error if type(error) is ValueError else "its content is not that of a checkpoint"
        raise _Damaged(f"`checkpoint` must be whole; got {path}: {reason}") from None
