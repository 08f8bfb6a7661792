# SPDX-License-Identifier: Apache-2.0
"""Where things are in this checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
BINARIES = BUILD / "release" / "bin"
GUEST_IMAGE = BUILD / "guest"
BUS_POLICY_FILES = ROOT / "dbus"


def binary(name):
    return BINARIES / name
