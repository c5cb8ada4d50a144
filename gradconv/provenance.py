"""Where a stored result comes from: commit, versions, configuration, seed, device."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "sympy", "torch", "numba", "xarray", "scikit-image")
ROOT = Path(__file__).resolve().parent


def configuration_hash(configuration: dict[str, Any]) -> str:
    """SHA-256 of a configuration in canonical JSON, as hexadecimal digits."""
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def provenance(configuration: dict[str, Any], seed: int, device: str, dtype: str) -> dict[str, Any]:
    """Collect what is needed to make a result again.

    Parameters
    ----------
    configuration : dict
        What was asked for; JSON values only.
    seed : int
        Seed of the run.
    device, dtype : str
        Where and how precisely it was computed.

    Returns
    -------
    dict
        Commit, and whether files of the package differ from it (None outside a source tree);
        configuration and its hash, seed, versions, device, dtype. No clock: the same run gives the
        same provenance.
    """
    commit, dirty = _source_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "configuration": configuration,
        "configuration_hash": configuration_hash(configuration),
        "seed": seed,
        "versions": versions(),
        "device": _device_name(device),
        "dtype": dtype,
    }


def origin_line(origin: dict[str, Any]) -> str:
    """One sentence of a `provenance`, as it stands under tables."""
    commit = (origin["commit"] or "none")[:12] + (" (dirty)" if origin["dirty"] else "")
    return (
        f"Seed {origin['seed']}, {origin['dtype']} on {origin['device']}, "
        f"configuration {origin['configuration_hash'][:12]}, commit {commit}."
    )


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python, gradconv and the numerical packages, or of those that are named."""
    found = {"python": platform.python_version()}
    for package in ("gradconv", *packages):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "source tree" if package == "gradconv" else "absent"
    return found


def source_digest(root: Path = ROOT, without: Iterable[str] = ()) -> str:
    """SHA-256 of the package's source files, as hexadecimal digits.

    Parameters
    ----------
    root : Path
        Folder of the package.
    without : iterable of str
        Files and folders in it that are left out, as paths below it.
    """
    left_out = {Path(name) for name in without}
    total = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        if path in left_out or left_out.intersection(path.parents):
            continue
        total.update(path.as_posix().encode() + b"\0")
        total.update(file.read_bytes() + b"\0")
    return total.hexdigest()


def _source_state() -> tuple[str | None, bool | None]:
    root = ROOT.parent
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    # Only what results follow from: a stored study changes other files of the tree.
    status = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ROOT.name)
    return commit or None, None if status is None else bool(status)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _device_name(device: str) -> str:
    if device == "cpu":
        return f"cpu ({platform.machine()})"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if "cuda" in device else device
