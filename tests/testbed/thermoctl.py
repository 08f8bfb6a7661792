# SPDX-License-Identifier: Apache-2.0
"""Runs the command line as a person or a script would."""

import json
import subprocess
from dataclasses import dataclass

from .paths import binary


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


class Thermoctl:
    def __init__(self, bus_address):
        self._bus_address = bus_address

    def __call__(self, *arguments, seconds=120.0):
        result = subprocess.run([binary("thermoctl"), "--bus", self._bus_address, *arguments], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=seconds, check=False)
        return Outcome(result.returncode, result.stdout, result.stderr)
