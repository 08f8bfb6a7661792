# SPDX-License-Identifier: Apache-2.0
"""The program behind tests/cloud-bench."""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time

from testbed.abandoned import clear_abandoned_runs
from testbed.errors import TestbedError
from testbed.interrupts import Interrupted, signals_as_exceptions
from testbed.run_dir import run_directory

from .overcommitted_cloud import OvercommittedCloud

_REPORTS = 50
# In nova-compute's own environment: what get_available_resource and update_provider_tree add to the parent's.
_REPORT = """
import statistics, sys, time
from thermocline_nova import host_statistics, traits
from thermocline_nova.capacity import Capacity, Rules
from thermocline_nova.daemon import Daemon
from thermocline_nova.host_memory import available_mb
daemon, capacity, times = Daemon(sys.argv[1]), Capacity(Rules(0.1, 2.0, 0, 1)), []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    host_statistics.add_statistics({"cpu_info": "{}"}, daemon.host_figures(2.0).domains)
    host = daemon.host_figures(2.0)
    traits.wanted(host)
    capacity.offer(8000, available_mb(), host)
    times.append((time.perf_counter() - began) * 1000)
print(len(host.domains), statistics.median(times), max(times))
"""


def _options():
    parser = argparse.ArgumentParser(
        prog="tests/cloud-bench", description="Brings a cloud up and creates servers with Nova's own driver and with ours in turn, each with the same "
        "limited flavor; then measures what an inventory report adds. Ends what it started.")
    parser.add_argument("--creates", type=int, default=20, metavar="N", help="servers for each driver (default: 20)")
    parser.add_argument("--block", type=int, default=5, metavar="N", help="so many with one driver before the other's turn (default: 5)")
    parser.add_argument("--json", action="store_true", help="ends with one JSON object on stdout; progress goes to stderr")
    return parser.parse_args()


def _create(cloud, flavor, image):
    """Seconds that nova-compute took to build the server, as it says itself: to ask its API often would be a burden on what is measured."""
    server = cloud.servers.create("bench", flavor, image)
    cloud.servers.wait_for(server, "ACTIVE", look_every=0.5)
    cloud.servers.delete(server)
    return float(re.search(rf"instance: {server}\] Took ([0-9.]+) seconds to build instance", cloud.log())[1])


def _boots(cloud, options):
    flavor = cloud.flavor("bench", 128, limit="96MiB")
    image = next(image["id"] for image in cloud.servers.rest.call("glance-api", "GET", "/v2/images?name=guestmem")["images"])
    seconds = {"stock": [], "thermocline": []}
    order = ["stock", "thermocline", "thermocline", "stock"]
    turn = 0
    while any(len(times) < options.creates for times in seconds.values()):
        driver = order[turn % len(order)]
        turn += 1
        if len(seconds[driver]) >= options.creates:
            continue
        cloud.reconfigure(driver=driver)
        _create(cloud, flavor, image)  # the first after a start is slower
        for _ in range(min(options.block, options.creates - len(seconds[driver]))):
            seconds[driver].append(_create(cloud, flavor, image))
        print(f"{driver}: {' '.join(f'{each:.2f}' for each in seconds[driver][-options.block:])} s", file=sys.stderr, flush=True)
    return {driver: statistics.median(times) for driver, times in seconds.items()}


def _reports(cloud):
    cloud.reconfigure()
    servers = [cloud.servers.create(f"report-{index}", "bench") for index in range(4)]
    for server in servers:
        cloud.servers.wait_for(server, "ACTIVE")
        cloud.wait_for_figures(server, "attached", lambda figures: figures["State"] == "attached")
    python = cloud.cloud.state.venv / "bin/python3"
    words = subprocess.run([python, "-c", _REPORT, cloud.bus.address, str(_REPORTS)], capture_output=True, text=True, check=True).stdout.split()
    return {"domains": int(words[0]), "median_ms": round(float(words[1]), 2), "max_ms": round(float(words[2]), 2)}


def main():
    """0, 1 where something failed, 128 and more after a signal."""
    options = _options()
    clear_abandoned_runs()
    try:
        with signals_as_exceptions(), run_directory() as folder, run_directory(on_disk=True) as disk, \
                    OvercommittedCloud(folder, disk, lambda line: print(line, file=sys.stderr)) as cloud:
            medians = _boots(cloud, options)
            report = _reports(cloud)
    except Interrupted as interrupted:
        return interrupted.exit_code
    except TestbedError as error:
        print(f"cloud-bench: {error}", file=sys.stderr)
        return 1
    slower = (medians["thermocline"] / medians["stock"] - 1) * 100
    if options.json:
        print(json.dumps({"creates": options.creates, "stock_s": round(medians["stock"], 3), "thermocline_s": round(medians["thermocline"], 3),
                          "slower_percent": round(slower, 2), "inventory_report": report}))
    else:
        print(f"build of a server, medians of {options.creates}: stock {medians['stock']:.3f} s, ours {medians['thermocline']:.3f} s ({slower:+.1f} %)")
        print(f"inventory report, {report['domains']} domains: median {report['median_ms']} ms, slowest {report['max_ms']} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
