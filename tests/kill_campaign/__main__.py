# SPDX-License-Identifier: Apache-2.0
"""Runs a campaign; see options."""

import sys

from .options import parse
from .outcome import Outcome


def main():
    options = parse()
    outcome = Outcome(options)
    if options.subject == "process":
        from .process_campaign import ProcessCampaign as Campaign
    else:
        from .guest_campaign import GuestCampaign as Campaign
    Campaign(options, outcome).run()
    return outcome.finish()


sys.exit(main())
