# SPDX-License-Identifier: Apache-2.0
"""Everything is in pyproject.toml but one file that setuptools has no key for: the .pth beside the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_PTH = "thermocline-nova.pth"


class BuildWithPth(build_py):
    """Puts the .pth where site-packages begins; Python reads it at its start (see thermocline_nova/finder.py)."""

    def run(self):
        """As the parent's."""
        super().run()
        self.copy_file(_PTH, str(Path(self.build_lib) / _PTH))

    def get_outputs(self, include_bytecode=1):
        """As the parent's, so that an uninstall removes the file, too."""
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / _PTH)]


setup(cmdclass={"build_py": BuildWithPth})
