"""Whether stored data are what the configuration says, and pictures are drawn from them."""

from __future__ import annotations

import io

import numpy as np

from gradconv.figures import SCREEN, figure_bytes
from gradconv.studies.running import markdown
from gradconv.studies.stored import read_documents
from gradconv.studies.study import Study

LARGEST_SHARE = 2e-3
"""Share of the pixels that may differ: fonts are drawn a little differently elsewhere."""


def complaints(study: Study) -> list[str]:
    """What is wrong with the stored data, tables and figures of a study; empty if nothing is.

    Parameters
    ----------
    study : Study
        The study.

    Returns
    -------
    list of str
        A sentence each.
    """
    stored = read_documents(study.folder)
    if not stored:  # whoever has no such device cannot store it
        return [] if study.needs else ["nothing is stored"]
    found = _against_configuration(study)
    results = {name: document["results"] for name, document in stored.items()}
    table = study.folder / "table.md"
    if not table.exists() or table.read_text(encoding="utf-8") != markdown(study, results):
        found.append("table.md is not made of the stored data")
    drawn = {"table.md", "README.md"}
    for figure in study.kind.figures(results, SCREEN):
        path = study.folder / f"{figure.name}.png"
        drawn.add(path.name)
        if not path.exists():
            found.append(f"{path.name} is missing")
        elif not _alike(path.read_bytes(), figure_bytes(figure.drawing, "png")):
            found.append(f"{path.name} is not drawn from the stored data")
    pictures = {path.name for path in study.folder.glob("*.png")}
    found += [f"{name} is drawn by nothing" for name in sorted(pictures - drawn)]
    return found


def _against_configuration(study: Study) -> list[str]:
    """Parts that are missing, too many, of another configuration, or of an unknown source."""
    stored = read_documents(study.folder)
    sizes = {document["size"] for document in stored.values()}
    if len(sizes) > 1:
        return [f"parts are of several sizes: {', '.join(sorted(sizes))}"]
    hashes = study.hashes(sizes.pop())
    found = [f"part {name} is missing" for name in hashes if name not in stored]
    for name, document in stored.items():
        origin = document["provenance"]
        if name not in hashes:
            found.append(f"part {name} is none of the configuration")
        elif origin["configuration_hash"] != hashes[name]:
            found.append(f"part {name} is of another configuration")
        if document["study"] != study.name or document["kind"] != study.kind.name:
            found.append(f"part {name} is of another study")
        if not origin["commit"] or origin["dirty"]:
            found.append(f"part {name} comes from a source that is no commit")
    return found


def _alike(stored: bytes, drawn: bytes) -> bool:
    """Whether two pictures show the same, up to how fonts and edges are drawn."""
    from PIL import Image

    pictures = (Image.open(io.BytesIO(content)) for content in (stored, drawn))
    pair = [np.asarray(picture.convert("RGB"), dtype=float) for picture in pictures]
    if pair[0].shape != pair[1].shape:
        return False
    different = np.abs(pair[0] - pair[1]).max(axis=-1) > 32.0
    return bool(different.mean() <= LARGEST_SHARE)
