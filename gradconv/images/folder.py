"""Any folder of images, with the folders in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradconv.errors import InputError
from gradconv.fields.photograph import IMAGE_SUFFIXES
from gradconv.images.base import IMAGES, ImageSource, Photographs, fingerprint_files, split_by_name
from gradconv.images.files import FilePhotographs, check_header


@IMAGES.register("folder")
@dataclass(frozen=True)
class Folder(ImageSource):
    """Images of a folder, in order of name, split by a hash of the name in the folder (80/10/10).

    Parameters
    ----------
    path : str
        The folder; those in it count, hidden ones do not.
    """

    path: str

    def _opened(self, split: str, channels: int) -> Photographs:
        root = Path(self.path)
        names = split_by_name(self._names())[split]
        found = [(root / name, *check_header(root / name, self.spec)) for name in names]
        kept = [(path, size) for path, size, colour in found if colour or channels == 1]
        return FilePhotographs(self.spec, split, root, kept, channels)

    def fingerprint(self) -> str:
        """SHA-256 over name, size and both ends of every image."""
        root = Path(self.path)
        return fingerprint_files(root, [root / name for name in self._names()])

    def _names(self) -> list[str]:
        root = Path(self.path)
        try:
            if not root.is_dir():
                raise InputError(f"`data` folder: the folder must exist; got {root}")
            found = sorted(
                path.relative_to(root).as_posix()
                for path in root.rglob("*")
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
            )
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"`data` folder: {root} must be readable; got {error}") from None
        names = [n for n in found if not any(part.startswith(".") for part in n.split("/"))]
        if len(names) < 3:
            raise InputError(
                "`data` folder must hold 3 images at least, one each for training, validation and "
                f"test ({' '.join(IMAGE_SUFFIXES)}); got {len(names)} in {root}"
            )
        return names
