# SPDX-License-Identifier: Apache-2.0
"""Nova's own API, as one more of its users: what it checks, refuses and records of a move is as for an admin's."""

from keystoneauth1 import exceptions, loading
from oslo_config import cfg

from .errors import MoveRefused

GROUP = "thermocline_nova"
# Live migration with "auto", whose answer waits for the scheduler's. Later ones (2.34) are told of a refusal by nobody.
_VERSION = "2.25"
# Until the scheduler has looked at each host.
_SECONDS = 180


def options():
    """Of the section [thermocline_nova]: as in [placement] and the like."""
    adapter = loading.get_adapter_conf_options(include_deprecated=False)
    cfg.set_defaults(adapter, service_type="compute", valid_interfaces=["internal", "public"])
    session = loading.get_session_conf_options()
    cfg.set_defaults(session, timeout=_SECONDS)
    return [*adapter, *session, *loading.get_auth_common_conf_options()]


class NovaApi:
    """Logs in when it is first needed. conf: with options() registered in the group."""

    def __init__(self, conf):
        self._conf = conf
        self._adapter = None

    def live_migrate(self, server):
        """To wherever the scheduler wants it. MoveRefused, with what the API says, where it is not to be."""
        try:
            answer = self._connected().post(f"/servers/{server}/action", microversion=_VERSION, raise_exc=False,
                                            json={"os-migrateLive": {"host": None, "block_migration": "auto"}})
        except (exceptions.ClientException, cfg.Error) as error:
            raise MoveRefused(f"Nova's API cannot be asked ([{GROUP}] in nova.conf): {error}") from None
        if answer.status_code >= 400:
            raise MoveRefused(_message(answer))

    def _connected(self):
        if self._adapter is None:
            auth = loading.load_auth_from_conf_options(self._conf, GROUP)
            if auth is None:
                raise exceptions.MissingAuthPlugin("auth_type is not set")
            session = loading.load_session_from_conf_options(self._conf, GROUP, auth=auth)
            self._adapter = loading.load_adapter_from_conf_options(self._conf, GROUP, session=session, auth=auth)
        return self._adapter


def _message(answer):
    """{"badRequest": {"code": 400, "message": "..."}} and the like."""
    try:
        return next(iter(answer.json().values()))["message"]
    except (ValueError, AttributeError, StopIteration, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"
