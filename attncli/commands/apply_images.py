"""``attn classify RUN IMAGE...``: label pictures."""

from __future__ import annotations

from pathlib import Path

from attncli.commands.label_files import Kind


def _below(folder: Path) -> list[Path]:
    from attncli.data.images.folders import picture_files

    return sorted(picture_files(folder))


PICTURES = Kind(
    name="image",
    plural="images",
    chunk=1024,
    first=32,
    wanted="a picture, a folder",
    is_one=lambda path: not path.is_dir(),
    below=_below,
)
apply = PICTURES.apply
