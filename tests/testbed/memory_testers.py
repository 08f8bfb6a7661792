# SPDX-License-Identifier: Apache-2.0
"""stress-ng and memtester in a guest: their command lines, and what they say as plain data."""

import re
from dataclasses import dataclass

from .errors import TestbedError
from .sizes import MIB


@dataclass(frozen=True)
class Verdict:
    """What a tester found. `errors` are the lines in which it reports one; `work` counts what it did: stress-ng's bogo
    operations, memtester's tests that ended well."""

    exit_code: int
    work: int
    errors: tuple
    output: str

    @property
    def clean(self):
        return self.exit_code == 0 and not self.errors and self.work > 0


@dataclass(frozen=True)
class StressNg:
    """`workers` processes, each of which writes and verifies its share of `memory_bytes` until all have done `operations`
    together; where it does not `keep` its memory, it gives it back each time. Methods: stress-ng --vm-method help."""

    memory_bytes: int
    operations: int
    method: str = "all"
    workers: int = 2
    keep: bool = True
    name = "stress-ng"

    def command(self):
        return ("/usr/bin/stress-ng", "--vm", str(self.workers), "--vm-bytes", str(self.memory_bytes // self.workers),
                "--vm-method", self.method, "--vm-ops", str(self.operations), "--verify", "--metrics-brief",
                "--temp-path", "/tmp", *(("--vm-keep",) if self.keep else ()))

    @staticmethod
    def verdict(exit_code, output):
        lines = output.splitlines()
        work = [int(line.split()[4]) for line in lines if re.match(r"stress-ng: metrc: \[\d+\] vm +\d", line)]
        completed = any("successful run completed" in line for line in lines)
        errors = tuple(line for line in lines if re.match(r"stress-ng: (fail|error)", line))
        return Verdict(exit_code, work[0] if work and completed else 0, errors, output)


@dataclass(frozen=True)
class Memtester:
    """One pass over `memory_bytes`, locked, with the tests whose bits are set in `mask` (0 = all; `Stuck Address` always)."""

    memory_bytes: int
    mask: int = 0
    name = "memtester"

    def command(self):
        return ("/bin/busybox", "env", f"MEMTESTER_TEST_MASK={self.mask}", "/usr/sbin/memtester",
                f"{self.memory_bytes // MIB}M", "1")

    @staticmethod
    def verdict(exit_code, output):
        lines = output.splitlines()
        errors = tuple(line for line in lines if "FAILURE" in line or "failed" in line)
        return Verdict(exit_code, sum(bool(re.search(r": +ok$", line)) for line in lines), errors, output)


def run_tester(guest, tester, seconds):
    """Starts it in the guest (one with tools) and waits for its verdict."""
    guest.start_program(*tester.command())
    return finish_tester(guest, tester, seconds)


def finish_tester(guest, tester, seconds):
    verdict = tester.verdict(*guest.finish_program(seconds))
    if verdict.work == 0 and not verdict.errors:
        raise TestbedError(f"{tester.name} did nothing (exit code {verdict.exit_code}); it says:\n{verdict.output}")
    return verdict
