# SPDX-License-Identifier: Apache-2.0
"""The command line of bench/vs-kernel. Imports nothing that has to be installed first: --help works on a bare machine."""

import argparse
from pathlib import Path

from testbed.paths import BUILD, ROOT
from testbed.sizes import MIB, parse_size

from .plan import FULL, FULL_TOTAL, SHORT, SHORT_TOTAL, SUBJECTS, WORKLOADS, Sizes, comparisons, measures_faults

RIVALS = ("zram-lz4", "zswap", "swap-file")

_EXAMPLES = """examples:
  bench/vs-kernel --short                                     everything, small, in less than ten minutes
  bench/vs-kernel                                             everything, at full size (less than two hours)
  bench/vs-kernel --short --subject process --workload zipf --workload random
  bench/vs-kernel --workload random --rival zram-lz4 --total 512M --rounds 5
  bench/vs-kernel --short --no-build --build-dir build/mine   binaries that are there already

subjects:
""" + "\n".join(f"  {name:<16}{about}" for name, about in SUBJECTS.items()) + """

workloads:
""" + "\n".join(f"  {workload.name:<16}{workload.about}" for workload in WORKLOADS.values()) + """

Both sides may take the same memory of the host, --total; the working set is twice that. The kernel's side is a memory
cgroup (v1) with swap; what its compressed pool takes is counted too. Root is needed. Everything that is set up (swap,
zram, zswap's switch, cgroups, files) is put back on every way out.
"""


def _size(text):
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        prog="bench/vs-kernel", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures thermocline-manager against the kernel's own swap, in the same run, with the same memory.")
    parser.add_argument("--short", action="store_true", help="smaller, shorter, one round; less than ten minutes")
    parser.add_argument("--subject", action="append", choices=SUBJECTS, help="only this one (may be repeated)")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one (may be repeated)")
    parser.add_argument("--rival", action="append", choices=RIVALS, help="only against this one (may be repeated)")
    parser.add_argument("--rounds", type=int, help="each figure is the median of so many (default 3, with --short 1)")
    parser.add_argument("--total", type=_size, metavar="SIZE",
                        help="host memory for either side (default 256M, with --short 128M)")
    parser.add_argument("--small-pages", action="store_true",
                        help="no huge pages for the working set, on either side (default: huge, as QEMU's guests have)")
    parser.add_argument("--no-file-tier", dest="file_tier", action="store_false",
                        help="our side without the disk that zswap and the swap file have")
    parser.add_argument("--manager", type=Path, metavar="PATH", help="another thermocline-manager than the one built")
    parser.add_argument("--output", type=Path, default=ROOT / "bench/results", metavar="DIR",
                        help="for vs-kernel.json and the plots (default bench/results)")
    parser.add_argument("--build-dir", type=Path, default=BUILD / "release", metavar="DIR",
                        help="where the binaries are, in bin/ (default build/release)")
    parser.add_argument("--no-build", action="store_true", help="take the binaries as they are")
    options = parser.parse_args(arguments)
    options.subjects = options.subject or list(SUBJECTS)
    options.rivals = options.rival or list(RIVALS)
    options.durations = SHORT if options.short else FULL
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    options.rounds = options.rounds or (1 if options.short else 3)
    workloads = [WORKLOADS[name] for name in options.workload] if options.workload else None
    options.comparisons = comparisons(options.subjects, workloads, options.rivals, options.rounds, options.short)
    options.faults = measures_faults(options.subjects, workloads)
    if not options.comparisons and not options.faults:
        parser.error(f"no workload of these exists for {' or '.join(options.subjects)}")
    options.sizes = Sizes(options.total or (SHORT_TOTAL if options.short else FULL_TOTAL))
    options.manager = options.manager or options.build_dir / "bin/thermocline-manager"
    if options.sizes.total < 64 * MIB or options.sizes.total % (2 * MIB):
        parser.error("--total: at least 64M, in whole huge pages (2M)")
    return options


if __name__ == "__main__":
    parse_arguments()
