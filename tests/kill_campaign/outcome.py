# SPDX-License-Identifier: Apache-2.0
"""What a campaign counts."""

import collections
import json
import statistics
import time


class Outcome:
    """Prints a line of progress now and then, and the result as the last line."""

    def __init__(self, options, every=50):
        self._options = options
        self._every = every
        self._began = time.monotonic()
        self.kills = 0
        self.bytes_wrong = 0
        self.pauses_us = []
        self.where = collections.Counter()

    def killed(self, where):
        self.kills += 1
        self.where[where] += 1
        if not self._options.json and self.kills % self._every == 0:
            median, worst = self._pauses()
            print(f"{self.kills} of {self._options.kills} kills, {self.bytes_wrong} bytes wrong, pause {median} us "
                  f"(median), {worst} us (worst)", flush=True)

    def paused(self, microseconds):
        self.pauses_us.append(int(microseconds))

    def _pauses(self):
        return (int(statistics.median(self.pauses_us)), max(self.pauses_us)) if self.pauses_us else (0, 0)

    def finish(self):
        """The exit status."""
        median, worst = self._pauses()
        print(json.dumps({"kills": self.kills, "bytes_wrong": self.bytes_wrong, "pause_us_median": median,
                          "pause_us_worst": worst, "subject": self._options.subject, "seed": self._options.seed,
                          "seconds": round(time.monotonic() - self._began), "where": dict(sorted(self.where.items()))}),
              flush=True)
        return 0 if self.bytes_wrong == 0 and self.kills >= self._options.kills else 1
