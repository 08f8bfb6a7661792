# SPDX-License-Identifier: Apache-2.0
"""Sizes and shares as people write them, in the notation of thermoctl and of the domain's metadata."""

import re

_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?b)?|b)?", re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?(%?)")


def parse_size(text, whole):
    """Bytes of "384MiB", "0.5G", or of "75%" of `whole` bytes. K, M, G, T and KiB are powers of 1024, KB of 1000.
    ValueError where it is none or 0."""
    percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text.strip())
    if percent:
        size = int(whole * float(percent[1]) / 100)
    else:
        match = _SIZE.fullmatch(text.strip())
        if not match:
            raise ValueError(f"'{text}' is not a size; write for example 384MiB or 75%")
        factor = _FACTORS[(match[2] or "").lower()]
        if (match[3] or "").lower() == "b":
            factor = 1000 ** ("kmgt".index(match[2].lower()) + 1)
        size = int(float(match[1]) * factor)
    if size == 0:
        raise ValueError(f"'{text}' is 0")
    return size


def parse_share(text):
    """0.005 of "0.5%" or "0.005". ValueError where it is none."""
    match = _SHARE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"'{text}' is not a share of time; write for example 0.5% or 0.005")
    return float(match[1]) / (100 if match[2] else 1)
