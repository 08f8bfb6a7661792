# SPDX-License-Identifier: Apache-2.0
"""The program behind bench/soak."""

import json
import sys
import tempfile

from system.thermocline import Thermocline
from testbed.paths import BUILD
from testbed.testbed import Testbed

from .options import parse
from .soak import RAM, Soak


def main():
    options = parse()

    def say(text):
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    # The checkout is on a disk.
    with Testbed() as testbed, tempfile.TemporaryDirectory(prefix="soak-", dir=BUILD) as disk, \
            testbed.guest("soak-a", RAM) as one, testbed.guest("soak-b", RAM) as other, \
            Thermocline(testbed, start=False, say=lambda _text: None) as thermocline:
        thermocline.daemon.options = ["--file-tier-dir", disk, "--file-tier-age", "2"]
        thermocline.start()
        guests = [one.start(), other.start()]
        report = Soak(thermocline, guests, options.seed, (lambda _text: None) if options.json else say).run(options.length)
    if not options.json:
        for problem in report["problems"]:
            print(problem)
    print(json.dumps(report), flush=True)
    return 0 if report["ok"] else 1


sys.exit(main())
