"""What the household can choose from: photos and voices in the folders the frame was given."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PHOTOS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
VOICES = frozenset({".wav", ".mp3", ".ogg", ".opus", ".flac", ".m4a", ".aac", ".aiff", ".caf", ".amr"})
MAX_LISTED = 100
"""Files of a kind that are listed, the first by name; what is beyond can still be played by its path."""
MAX_LOOKED_AT = 10_000


@dataclass(frozen=True, slots=True)
class Media:
    """Full paths, sorted by name."""

    photos: tuple[Path, ...]
    voices: tuple[Path, ...]


def media_in(folders: Iterable[Path]) -> Media:
    """What lies in these folders themselves; one that cannot be read counts as empty."""
    files = sorted(_files(folders), key=lambda path: (path.name.lower(), str(path)))
    photos = [path for path in files if path.suffix.lower() in PHOTOS]
    voices = [path for path in files if path.suffix.lower() in VOICES]
    return Media(tuple(photos[:MAX_LISTED]), tuple(voices[:MAX_LISTED]))


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    left = MAX_LOOKED_AT
    for folder in folders:
        try:
            for path in folder.iterdir():
                left -= 1
                if left < 0:
                    return
                yield path
        except OSError:
            continue
