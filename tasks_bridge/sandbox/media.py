"""
The files behind the output URLs: real pictures, drawn here, and a real clip, shipped as data.
"""

from __future__ import annotations

import colorsys
import random
import struct
import zlib
from functools import cache, lru_cache
from importlib import resources

_BACKGROUND = 192  # palette entries of the gradient; the other 64 are the disc's
_DISC = 64


@lru_cache(maxsize=16)
def picture(seed: str, width: int, height: int) -> bytes:
    """
    Draw a PNG: a diagonal gradient of three kindred colours and a lighter disc on it, the same for the same *seed*.

    Palette indices instead of colours make a row a slice of one precomputed ramp, so that megapixels cost
    milliseconds in pure Python.

    Source: the PNG specification (third edition), sections 5 and 11.
    """
    rng = random.Random(seed)  # noqa: S311 - a drawing
    span = width + height
    ramp = bytes(step * _BACKGROUND // span for step in range(span))
    lighten = bytes(min(255, _BACKGROUND + index * _DISC // _BACKGROUND) for index in range(256))
    radius = min(width, height) * rng.uniform(0.12, 0.22)
    centre_x = width * rng.uniform(0.3, 0.7)
    centre_y = height * rng.uniform(0.3, 0.6)
    rows = bytearray()
    for y in range(height):
        row = ramp[y : y + width]
        reach = radius**2 - (y - centre_y) ** 2
        if reach > 0:
            left = max(0, round(centre_x - reach**0.5))
            right = min(width, round(centre_x + reach**0.5))
            row = row[:left] + row[left:right].translate(lighten) + row[right:]
        rows += b"\x00" + row
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _palette(rng)),
            _chunk(b"IDAT", zlib.compress(bytes(rows), 6)),
            _chunk(b"IEND", b""),
        )
    )


@cache
def clip(width: int, height: int) -> bytes:
    """
    Return an MP4 (H.264 baseline, four seconds of a moon over hills, to be looped) in the nearest of three shapes.

    Pure Python encodes no video that browsers play, so the clips are package data, drawn by ``tools/clips.py``;
    whatever size and length a task reports, the clip is a small one.
    """
    shape = "1x1" if width == height else "16x9" if width > height else "9x16"
    return resources.files(__package__).joinpath(f"clip_{shape}.mp4").read_bytes()


def _palette(rng: random.Random) -> bytes:
    hue, turn = rng.random(), rng.uniform(0.05, 0.13)
    low, middle, high = (
        [round(255 * part) for part in colorsys.hls_to_rgb((hue + step * turn) % 1, lightness, 0.5)]
        for step, lightness in enumerate((0.2, 0.46, 0.76))
    )
    half = _BACKGROUND // 2
    gradient = [_mix(low, middle, step / half) for step in range(half)]
    gradient += [_mix(middle, high, step / half) for step in range(half)]
    white = [255, 250, 235]
    gradient += [_mix(gradient[step * _BACKGROUND // _DISC], white, 0.55) for step in range(_DISC)]
    return b"".join(bytes(colour) for colour in gradient)


def _mix(one: list[int], other: list[int], share: float) -> list[int]:
    return [round(a + (b - a) * share) for a, b in zip(one, other, strict=True)]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
