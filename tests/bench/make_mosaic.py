"""Make a large tiled TIFF from real photographs: `python tests/bench/make_mosaic.py OUT.tif --size 16384`.

The photographs are laid side by side, every second one mirrored so that contents continue across the
joints, and each repetition is varied (mirrored, channels rotated, brightness shifted), so that no two
places of the mosaic are equal. It stands for a large image in speed and memory benches only; it is
no data to judge quality on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TILE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=16384, help="edge in pixels")
    parser.add_argument("--photos", type=Path, nargs="+", help="photographs (default: carrot_weed)")
    parser.add_argument("--compression", default="zstd", help="zstd, deflate, lzw, jpeg or none")
    args = parser.parse_args()
    photos = args.photos or default_photos()
    codec = None if args.compression == "none" else args.compression
    with tifffile.TiffWriter(args.out, bigtiff=True) as writer:
        writer.write(
            tiles(args.size, [np.asarray(Image.open(p).convert("RGB")) for p in photos]),
            shape=(args.size, args.size, 3),
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="rgb",
            compression=codec,
        )
    print(f"{args.out}: {args.size} x {args.size} from {len(photos)} photographs")


def default_photos() -> list[Path]:
    folder = Path(__file__).resolve().parents[3] / "shared/data/carrot_weed/images"
    found = sorted(folder.glob("*.jpg"))
    if not found:
        raise SystemExit(f"no photographs in {folder}: name some with --photos")
    return found


def tiles(size: int, photos: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the mosaic tile by tile, one row of photographs in memory at a time."""
    height = min(photo.shape[0] for photo in photos) // TILE * TILE
    for top in range(0, size, height):
        rows = min(height, size - top)
        band = np.concatenate(list(_band(size, top // height, photos, rows)), axis=1)[:, :size]
        for y in range(0, rows, TILE):
            for x in range(0, size, TILE):
                yield np.ascontiguousarray(band[y : y + TILE, x : x + TILE])


def _band(size: int, row: int, photos: list[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    width = 0
    column = 0
    while width < size:
        number = row * 7 + column
        photo = photos[number % len(photos)][:rows]
        photo = np.roll(photo, number // len(photos), axis=2)  # rotate the channels
        shift = np.int16(number * 5 % 31 - 15)
        photo = np.clip(photo + shift, 0, 255).astype(np.uint8)
        yield photo[:, ::-1] if column % 2 else photo
        width += photo.shape[1]
        column += 1


if __name__ == "__main__":
    main()
