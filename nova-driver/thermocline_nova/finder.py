# SPDX-License-Identifier: Apache-2.0
"""Makes `compute_driver = thermocline.ThermoclineDriver` work in an unchanged nova-compute.

Nova imports "nova.virt." + compute_driver and nothing else, in every release so far. So the one name nova.virt.thermocline is made to
mean our module, wherever Nova and we are installed. Imports nothing: every Python of the environment runs this at its start."""

import sys

NAME = "nova.virt.thermocline"
_TARGET = "thermocline_nova.driver"


class _Finder:
    """Of that one module; says nothing of any other."""

    @classmethod
    def find_spec(cls, name, _path=None, _target=None):
        """As importlib wants it: None for all names but ours."""
        if name != NAME:
            return None
        from importlib.machinery import ModuleSpec  # not at the start of every Python
        return ModuleSpec(name, cls)

    @staticmethod
    def create_module(_spec):
        """The driver's own module, so that there is one class of each name."""
        from importlib import import_module
        return import_module(_TARGET)

    @staticmethod
    def exec_module(_module):
        """It has been executed under its own name."""


def install():
    """Puts the finder last: a real nova/virt/thermocline.py would win. A second call does nothing."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
