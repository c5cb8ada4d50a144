"""Urban100, in the layout of its first distribution or as plain numbered files.

References
----------
Huang, Singh, Ahuja, Single Image Super-Resolution from Transformed Self-Exemplars, CVPR 2015.
Layout: https://github.com/jbhuang0604/SelfExSR.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradconv.images.base import IMAGES, ImageSource, Photographs, fingerprint_files, split_by_name
from gradconv.images.files import FilePhotographs, check_header
from gradconv.images.originals import missing

PAGE = "https://github.com/jbhuang0604/SelfExSR"
COUNT = 100
# Folder and file name of each layout. HR is the photograph, cut to a multiple of the factor.
LAYOUTS = (
    ("image_SRF_2", "img_{:03d}_SRF_2_HR.png"),
    ("image_SRF_4", "img_{:03d}_SRF_4_HR.png"),
    ("", "img_{:03d}_SRF_2_HR.png"),
    ("", "img_{:03d}_SRF_4_HR.png"),
    ("", "img_{:03d}.png"),
)


@IMAGES.register("urban100")
@dataclass(frozen=True)
class Urban100(ImageSource):
    """A hundred photographs of buildings, split by a hash of their number in any layout (80/10/10).

    Parameters
    ----------
    path : str
        Folder with ``image_SRF_2`` (``img_001_SRF_2_HR.png`` …) or ``image_SRF_4``, one of these,
        or a folder of ``img_001.png`` ….
    """

    path: str

    def _opened(self, split: str, channels: int) -> Photographs:
        files = self._files()
        found = [
            (files[n], *check_header(files[n], self.spec))
            for n in split_by_name(list(files))[split]
        ]
        kept = [(path, size) for path, size, colour in found if colour or channels == 1]
        return FilePhotographs(self.spec, split, next(iter(files.values())).parent, kept, channels)

    def fingerprint(self) -> str:
        """SHA-256 over name, size and both ends of the photographs."""
        files = list(self._files().values())
        return fingerprint_files(files[0].parent, files)

    def _files(self) -> dict[str, Path]:
        """File of each photograph ``img_001`` …."""
        root = Path(self.path)
        best: tuple[int, str] = (0, "img_001.png to img_100.png, or image_SRF_2 of the original")
        for folder, pattern in LAYOUTS:
            files = {f"img_{i:03d}": root / folder / pattern.format(i) for i in range(1, COUNT + 1)}
            lacking = [file for file in files.values() if not file.is_file()]
            if not lacking:
                return files
            if COUNT - len(lacking) > best[0]:
                best = (COUNT - len(lacking), f"{lacking[0].name} too, one of {COUNT}")
        raise missing("urban100", best[1], PAGE, root)
