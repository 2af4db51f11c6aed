"""
Draw the clips that the sandbox serves: a moon over hills, four seconds that begin where they end.

    python tools/clips.py [FOLDER]

Needs ffmpeg with libx264 (Debian: ffmpeg). The results are package data, so nobody else needs it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

SHAPES: Final = {"16x9": (640, 360), "1x1": (480, 480), "9x16": (360, 640)}
LOOP_S: Final = 4
FRAMES_A_SECOND: Final = 15

_TURN: Final = f"2*PI*T/{LOOP_S}"
_SKY: Final = ((34, 40, 92), (236, 150, 118))  # from top to horizon
_MOON: Final = (252, 240, 208)
# colour, height of the crest as a share of the picture, swell, waves across it, turns of the wave in a loop
_HILLS: Final = (
    ((126, 88, 128), 0.66, 0.035, 1.0, 1),
    ((72, 60, 112), 0.76, 0.030, 1.6, -1),
    ((28, 32, 72), 0.88, 0.035, 1.1, 2),
)


def colour(channel: int) -> str:
    """What ffmpeg's filter geq computes for one channel of each pixel."""
    top, horizon = _SKY[0][channel], _SKY[1][channel]
    drawn = f"({top}+({horizon}-{top})*pow(min(1,Y/(0.72*H)),1.6))"
    away = f"hypot(X-W*(0.60+0.05*sin({_TURN})),Y-H*(0.30-0.04*cos({_TURN})))"
    radius = "0.15*min(W,H)"
    drawn = _over(drawn, str(_MOON[channel]), f"0.22*exp(-pow({away}/(2.4*{radius}),2))")
    drawn = _over(drawn, str(_MOON[channel]), f"clip({radius}-{away}+0.5,0,1)")
    for hill, crest, swell, waves, turns in _HILLS:
        edge = f"H*({crest}+{swell}*sin(2*PI*{waves}*X/W+{turns}*{_TURN}+{crest * 40:g}))"
        drawn = _over(drawn, str(hill[channel]), f"clip(Y-{edge}+0.5,0,1)")
    return drawn


def _over(below: str, above: str, share: str) -> str:
    return f"lerp({below},{above},{share})"


def main() -> None:
    """Draw each shape."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tasks_bridge/sandbox")
    channels = ":".join(f"{name}='{colour(number)}'" for number, name in enumerate("rgb"))
    for shape, (width, height) in SHAPES.items():
        source = f"color=black:s={width}x{height}:r={FRAMES_A_SECOND}:d={LOOP_S}"
        command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-vf", f"format=gbrp,geq={channels}"]
        # what every browser plays, and may begin to play before all of it is there
        command += ["-c:v", "libx264", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-preset", "veryslow"]
        command += ["-crf", "27", "-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
        subprocess.run([*command, str(folder / f"clip_{shape}.mp4")], check=True)


if __name__ == "__main__":
    main()
