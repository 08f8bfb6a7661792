# SPDX-License-Identifier: Apache-2.0
"""How well a subject's memory compresses, page by page, as a store or zram would see it."""

import lz4.block
import zstandard

from .plan import PAGE

_SAMPLES = 4000
_HARDLY = 0.95  # of its size: such a page is not worth storing
_SAME_FILLED_BYTES = 8  # what a store keeps of such a page


def measure_ratios(subject, filled):
    """{"lz4": ratio, "zstd-1": ratio, "same_filled": share, "incompressible": share} of pages spread over all of its memory."""
    zstd = zstandard.ZstdCompressor(level=-1)
    sizes = {"lz4": 0, "zstd-1": 0}
    same = hardly = 0
    step = max(1, filled["pages"] // _SAMPLES)
    numbers = range(0, filled["pages"], step)
    with open(f"/proc/{subject.pid}/mem", "rb", buffering=0) as memory:
        for number in numbers:
            memory.seek(filled["address"] + number * PAGE)
            page = memory.read(PAGE)
            same_filled = page == page[:8] * (PAGE // 8)
            same += same_filled
            by_zstd = zstd.compress(page)
            hardly += len(by_zstd) > _HARDLY * PAGE
            for name, compressed in (("lz4", lz4.block.compress(page, store_size=False)), ("zstd-1", by_zstd)):
                sizes[name] += _SAME_FILLED_BYTES if same_filled else min(PAGE, len(compressed))
    raw = len(numbers) * PAGE
    return {**{name: round(raw / size, 2) for name, size in sizes.items()}, "same_filled": round(same / len(numbers), 3),
            "incompressible": round(hardly / len(numbers), 3)}
