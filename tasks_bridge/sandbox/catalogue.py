"""
The models the sandbox knows, with the latencies their pages call typical.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Model:
    """
    One image or video model.

    Attributes:
        latency_s: Typical wall clock of one generation, shortest and longest.
        reference_length_s: Length of the clip the latency was given for; 0 for images.
        max_length_s: Longest clip; 0 for images.
        max_count: Most pictures per task; 1 for videos.
        credits: Price of one second of video, or of one picture. Only sora-2-pro's is documented
            (1.50 for 8 s); the others are plausible values inside the documented range.

    Source: contract, section 11.
    """

    slug: str
    family: str
    kind: Literal["image", "video"]
    latency_s: tuple[float, float]
    credits: float
    reference_length_s: int = 0
    max_length_s: int = 0
    max_count: int = 1
    default_resolution: str = "1080p"


def _video(
    slug: str, latency_s: tuple[float, float], lengths_s: tuple[int, int], price: float, resolution: str
) -> Model:
    """
    *lengths_s*: the one the latency was given for, and the longest. *price*: of a second.
    """
    return Model(
        slug,
        slug.partition("-")[0],
        "video",
        latency_s,
        price,
        *lengths_s,
        default_resolution=resolution,
    )


def _image(slug: str, latency_s: tuple[float, float], max_count: int, credits_each: float) -> Model:
    family = slug.rpartition("-")[0] if slug.startswith("seedream") else "-".join(slug.split("-")[:2])
    return Model(slug, family, "image", latency_s, credits_each, max_count=max_count)


CATALOGUE: tuple[Model, ...] = (
    _video("sora-2", (60, 120), (5, 10), 0.1, "720p"),
    _video("sora-2-pro", (120, 180), (8, 20), 0.1875, "1080p"),
    _video("veo-3.1", (60, 120), (5, 8), 0.2, "1080p"),
    _video("veo-3.1-fast", (20, 40), (4, 5), 0.1, "720p"),
    _video("seedance-1.5-pro", (60, 90), (5, 6), 0.06, "1080p"),
    _video("seedance-2.0", (60, 90), (6, 8), 0.07, "720p"),
    _video("seedance-2.0-pro", (90, 150), (8, 10), 0.1, "720p"),
    _video("seedance-2.0-pro-fast", (45, 75), (6, 8), 0.05, "720p"),
    _video("seedance-fast", (15, 25), (4, 5), 0.03, "720p"),
    _image("seedream-v4", (4, 9), 4, 0.03),
    _image("seedream-v4.5", (5, 12), 4, 0.04),
    _image("seedream-v5lite", (3, 7), 4, 0.03),
    _image("nano-banana", (3, 8), 2, 0.04),
    _image("nano-banana-pro", (8, 20), 2, 0.13),
    _image("nano-banana-v2", (5, 12), 2, 0.06),
    _image("gpt-image-2", (15, 45), 4, 0.08),
    _image("gpt-image-2-official", (15, 45), 4, 0.1),
    _image("gpt-4o-image", (15, 45), 1, 0.08),
)

# The docs spell the same models in several ways: contract, section 11, "Slugs are not stable".
_ALIASES = {"seedancepro": "seedance20pro", "seedance2": "seedance20", "seedance2fast": "seedancefast"}
_TEXT_PREFIXES = ("claude", "gpt", "gemini", "o1", "o3", "o4", "deepseek", "qwen", "llama", "mistral")


def _plain(slug: str) -> str:
    return slug.lower().replace("-", "").replace(".", "")


_BY_NAME = {_plain(model.slug): model for model in CATALOGUE}


def find_model(slug: str) -> Model | None:
    """
    Return the media model a slug means, in any of its documented spellings, or None.
    """
    plain = _plain(slug)
    return _BY_NAME.get(_ALIASES.get(plain, plain))


def is_text_model(slug: str) -> bool:
    """
    Say whether an unknown slug looks like a text model, which the tasks API refuses in its own words.
    """
    return slug.lower().startswith(_TEXT_PREFIXES)
