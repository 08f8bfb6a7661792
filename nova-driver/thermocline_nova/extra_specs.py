# SPDX-License-Identifier: Apache-2.0
"""Validators for nova-api: a bad thermocline: extra spec is refused when an admin writes it into a flavor (microversion 2.86
and later). Nova finds this module by the entry point nova.api.extra_spec_validators."""

from nova import exception
from nova.api.validation.extra_specs import base

from . import host_statistics
from .errors import BadSetting
from .settings import FLAVOR_PREFIX, KNOWN, check_one


class _Validator(base.ExtraSpecValidator):
    """With our own check and message in place of a pattern."""

    def validate(self, name, value):
        """ValidationError, which the API answers with 400 and our message."""
        try:
            check_one(name[len(FLAVOR_PREFIX):], value)
        except BadSetting as error:
            raise exception.ValidationError(str(error)) from None


def register():
    """As Nova calls it: all validators; also of what flavors may ask of the host's statistics."""
    return [*(_Validator(name=FLAVOR_PREFIX + name, description=description, value={"type": str}) for name, description in KNOWN.items()),
            *(base.ExtraSpecValidator(name=f"capabilities:{host_statistics.PREFIX}{name}", value={"type": str},
                                      description="A bound for this figure of the host's, as of its last report: '<= 5'")
              for name in host_statistics.NAMES)]
