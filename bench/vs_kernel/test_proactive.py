# SPDX-License-Identifier: Apache-2.0
import pytest

from vs_kernel.plan import FULL, SHORT
from vs_kernel.proactive import COLD_WANTED, _goes_on, cold_share


def test_only_pages_after_the_hot_ones_count():
    # (hot, resident, staged, cold) of four pieces of 100 pages; the first is hot.
    pieces = [(50, 0, 0, 50), (0, 0, 10, 90), (0, 10, 0, 90), (0, 0, 0, 100)]
    assert cold_share(pieces, hot_pages=100, pages=400) == pytest.approx(280 / 300)


class Watch:
    def __init__(self, share, still_for=0.0):
        self.share, self.still_for = share, still_for


def test_our_side_goes_on_until_the_cold_memory_is_gone_or_the_time_is_up():
    assert _goes_on(FULL.proactive - 1, None, FULL) and not _goes_on(FULL.proactive, None, FULL)
    assert not _goes_on(FULL.cold_most, Watch(0.5), FULL)
    assert not _goes_on(SHORT.proactive, Watch(COLD_WANTED), SHORT)
    assert _goes_on(SHORT.proactive, Watch(0.5), SHORT) and not _goes_on(SHORT.proactive, Watch(0.5, 11.0), SHORT)
