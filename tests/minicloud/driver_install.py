# SPDX-License-Identifier: Apache-2.0
"""Installs the project's Nova driver as an operator would, with pip, in a virtual environment of the cloud's own that sees
Debian's packages. Nothing is fetched."""

import subprocess

from testbed.paths import ROOT

from .errors import CloudError


def install_driver(state):
    """Installs it afresh."""
    log = state.log / "driver-install.out"
    python = str(state.venv / "bin/python3")
    # pip builds in the source's folder; the checkout stays as it is.
    source = state.root / "nova-driver"
    commands = (["rm", "-rf", str(state.venv), str(source)],
                ["cp", "-r", str(ROOT / "nova-driver"), str(source)],
                ["/usr/bin/python3", "-m", "venv", "--without-pip", "--system-site-packages", str(state.venv)],
                ["/usr/bin/python3", "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--no-build-isolation",
                 "--no-cache-dir", "--disable-pip-version-check", str(source)])
    with open(log, "ab") as output:
        for command in commands:
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(state.root / "home")}).returncode:
                raise CloudError(f"cannot install the Nova driver: {' '.join(command)}: see {log}")
