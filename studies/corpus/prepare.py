"""Make a corpus of photographs from Debian packages: ``python studies/corpus/prepare.py [FOLDER]``.

Packages are downloaded and unpacked, not installed. ``checksums.json`` says what must come out.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from gradconv.errors import InputError
from gradconv.images.base import IMAGES, SPLITS, split_by_name
from gradconv.store import write_atomically

CHECKSUMS = Path(__file__).resolve().parent / "checksums.json"
SMALLEST = 256  # pixels a side of a source; icons and buttons are smaller
RESOURCES = ("explore_monuments", "erase", "explore_world_animals", "explore_farm_animals")
WALLPAPERS = ("Path", "OneStandsOut", "ColorfulCups", "EveningGlow", "FallenLeaf", "ColdRipple")
WALLPAPERS += ("BytheWater", "Kite", "summer_1am", "DarkestHour", "Grey")


@dataclass(frozen=True)
class Package:
    """A Debian package: files with photographs (patterns in it), and the factor to shrink by."""

    files: tuple[str, ...]
    factor: int
    licence: str = ""  # that of every photograph; from the copyright file if empty


# Sources are compressed with loss: shrunk by 2, artefacts of the codec do not pass for signal.
# Photographs of lomiri come straight from cameras and are soft at the scale of a pixel: by 4.
PACKAGES = {
    "gcompris-qt-data": Package(
        tuple(f"usr/share/gcompris-qt/rcc/{name}.rcc" for name in RESOURCES),
        2,
        "GPL-3+, CC-BY, CC-BY-SA or public domain; the package's copyright file lists them",
    ),
    "lomiri-wallpapers-16.04": Package(("usr/share/backgrounds/*.jpg",), 4),
    "mate-backgrounds": Package(("usr/share/backgrounds/mate/nature/*.jpg",), 2),
    "plasma-workspace-wallpapers": Package(
        tuple(f"usr/share/wallpapers/{n}/contents/images/2560x1600.jpg" for n in WALLPAPERS), 2
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Make the folder, or say in one line why not."""
    parser = argparse.ArgumentParser(description="Make a corpus of photographs.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("corpus"))
    parser.add_argument("--debs", type=Path, help="folder with the packages, instead of apt-get")
    parser.add_argument("--record", action="store_true", help="write checksums.json anew")
    options = parser.parse_args(arguments)
    try:
        expected = None if options.record else json.loads(CHECKSUMS.read_text(encoding="utf-8"))
        if expected and is_made(options.folder, expected):
            print(f"{options.folder} is complete: {len(expected['photographs'])} photographs")
            return 0
        made = make(options.folder, options.debs, expected)
    except (InputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if options.record:
        CHECKSUMS.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{options.folder}: {len(made['photographs'])} photographs")
    return 0


def make(folder: Path, debs: Path | None, expected: dict[str, Any] | None) -> dict[str, Any]:
    """Prepare all packages, and hold what comes out against the checksums, if any.

    The manifest is written last: a folder without one is not whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    origins: dict[str, Any] = {}
    entries: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, package in PACKAGES.items():
            known = expected["packages"][name] if expected else None
            deb = _fetched(name, debs or Path(scratch), debs is not None, known)
            origins[name] = {"version": _version(deb), "sha256": _sha256(deb.read_bytes())}
            if known and origins[name] != known:
                raise InputError(
                    f"{deb.name} must be version {known['version']} with SHA-256 "
                    f"{known['sha256'][:12]}…; got {origins[name]['version']} with "
                    f"{origins[name]['sha256'][:12]}…"
                )
            root = Path(scratch) / f"{name}-files"
            _run("dpkg-deb", "-x", str(deb), str(root))
            text = (root / f"usr/share/doc/{name}/copyright").read_text(encoding="utf-8")
            for original, content in sources(root, package):
                entry = _prepared(folder, f"{name}/{original}", content, package.factor)
                licence = package.licence or licence_of(text, original)
                origin = {"package": name, "version": origins[name]["version"]}
                entries[f"{name}/{original}"] = entry | origin | {"licence": licence}
            shutil.rmtree(root)
    found = {"pillow": PIL.__version__, "packages": origins, "photographs": _sums(entries)}
    if expected:
        compare(found, expected)
    for split, names in split_by_name(sorted(entries)).items():
        for name in names:
            entries[name] |= {"original": name, "split": split}
    manifest = {"packages": origins, "photographs": [entries[name] for name in sorted(entries)]}
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return found


def sources(root: Path, package: Package) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every photograph of an unpacked package, each once."""
    seen: set[str] = set()
    for pattern in package.files:
        paths = sorted(root.glob(pattern))
        if not paths:
            raise InputError(f"the package must hold {pattern}; it does not")
        for path in paths:
            parts: list[tuple[str, bytes]]
            if path.suffix == ".rcc":
                blocks = webp_blocks(path.read_bytes())
                parts = [(f"{path.stem}-{i:03d}", block) for i, block in enumerate(blocks)]
            elif path.stem == "2560x1600":
                parts = [(path.parents[2].name, path.read_bytes())]
            else:
                parts = [(path.stem, path.read_bytes())]
            for name, content in parts:
                with Image.open(io.BytesIO(content)) as image:
                    large = min(image.size) >= SMALLEST
                if large and _sha256(content) not in seen:
                    seen.add(_sha256(content))
                    yield name, content


def webp_blocks(content: bytes) -> list[bytes]:
    """WebP files inside a Qt resource file, in the order of their places.

    Qt keeps a file as its length (4 bytes, big-endian) and its bytes; both lengths must agree.
    """
    found = []
    place = content.find(b"RIFF")
    while place >= 0:
        length = int.from_bytes(content[place + 4 : place + 8], "little") + 8
        stored = int.from_bytes(content[max(0, place - 4) : place], "big")
        if content[place + 8 : place + 12] == b"WEBP" and stored in (length, length + length % 2):
            found.append(content[place : place + length])
            place += length - 4
        place = content.find(b"RIFF", place + 4)
    return found


def shrunk(content: bytes, factor: int) -> np.ndarray:
    """Decode and average over squares of `factor` pixels; what is over at the end is cut off.

    Returns
    -------
    ndarray
        Shape ``(rows, columns, 3)``, uint8.
    """
    with Image.open(io.BytesIO(content)) as image:
        colour = image.convert("RGB")
    columns, rows = (side // factor * factor for side in colour.size)
    return np.asarray(colour.crop((0, 0, columns, rows)).reduce(factor))


def licence_of(text: str, original: str) -> str:
    """Licence of a file by a machine-readable copyright file: the last pattern that fits."""
    found = ""
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line[:1] in " \t":
                fields[key] = fields.get(key, "") + " " + line.strip()
            else:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        for pattern in fields.get("Files", "").split():
            fits = pattern == "*" or fnmatch(f"{original}.", Path(pattern).stem + ".")
            if fits and not pattern.startswith("debian/"):
                found = fields.get("License", "")
    return found


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse photographs that are missing, new, or of other bytes or pixels."""
    ours, theirs = found["photographs"], expected["photographs"]
    for name in sorted(ours.keys() ^ theirs.keys()):
        state = "is missing" if name in theirs else "is new"
        raise InputError(f"{name} {state}: the corpus must be that of {CHECKSUMS.name}")
    for name, sums in sorted(ours.items()):
        if sums["source_sha256"] != theirs[name]["source_sha256"]:
            raise InputError(f"{name} must have the bytes that {CHECKSUMS.name} describes")
        if sums != theirs[name]:
            raise InputError(
                f"{name} must have the pixels that {CHECKSUMS.name} describes; its bytes do, so "
                f"the decoders differ: Pillow {expected['pillow']} then, {found['pillow']} now"
            )


def is_made(folder: Path, expected: dict[str, Any]) -> bool:
    """Whether the folder already holds the whole corpus, every file sound."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        ours = _sums({e["original"]: e for e in manifest["photographs"]})
        for split in SPLITS:
            IMAGES.parse(f"corpus:{folder}").open(split, 3)
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return False
    return bool(ours == expected["photographs"])


def _prepared(folder: Path, name: str, content: bytes, factor: int) -> dict[str, Any]:
    pixels = shrunk(content, factor)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    file = name.replace("/", "-") + ".png"
    write_atomically(folder / file, stream.getvalue())
    return {
        "file": file,
        "file_sha256": _sha256(stream.getvalue()),
        "source_sha256": _sha256(content),
        "pixels_sha256": _sha256(pixels.tobytes()),
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "shrunk_by": factor,
    }


def _sums(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    kept = ("source_sha256", "pixels_sha256", "rows", "columns")
    return {name: {key: entry[key] for key in kept} for name, entry in entries.items()}


def _fetched(name: str, folder: Path, local: bool, known: dict[str, str] | None) -> Path:
    wanted = f"{name}={known['version']}" if known else name
    if not local:
        _run("apt-get", "download", wanted, folder=folder)
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        raise InputError(f"`--debs` must hold the package {wanted}; got {folder} without it")
    return found[-1]


def _version(deb: Path) -> str:
    return _run("dpkg-deb", "--field", str(deb), "Version").strip()


def _run(tool: str, *arguments: str, folder: Path | None = None) -> str:
    if shutil.which(tool) is None:
        raise InputError(
            f"the corpus comes from Debian packages and needs `{tool}`, which is not here; on "
            "Debian and its relatives it is, elsewhere a container of Debian 12 has it"
        )
    done = subprocess.run([tool, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"`{tool} {' '.join(arguments)}` failed: {said} (`apt-get update` may help; other "
            "versions than Debian 12's are at https://snapshot.debian.org, and `--debs FOLDER` "
            "takes packages fetched by hand)"
        )
    return done.stdout


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
