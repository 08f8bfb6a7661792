# SPDX-License-Identifier: Apache-2.0
"""What is asked of Nova's API, over HTTP, and what its answers mean."""

import http.server
import json
import threading

import pytest
from nova.conf import service_token
from oslo_config import cfg
from thermocline_nova import nova_api, options
from thermocline_nova.errors import MoveRefused

from .conftest import UUID


class _Server(http.server.HTTPServer):
    """requests: (path, microversion, body); answer: (status, text)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests = []
        self.answer = (202, "")


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["OpenStack-API-Version"], body))
        status, text = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """On stderr nobody wants it."""


@pytest.fixture
def server():
    """Nova's API, or what answers in its place."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _api(tmp_path, *lines):
    file = tmp_path / "nova.conf"
    file.write_text("\n".join(["[thermocline_nova]", *lines]))
    conf = cfg.ConfigOpts()
    options.register(conf)
    service_token.register_opts(conf)
    conf([], default_config_files=[str(file)])
    return nova_api.NovaApi(conf)


@pytest.fixture
def api(server, tmp_path):
    return _api(tmp_path, "auth_type = none", f"endpoint_override = http://127.0.0.1:{server.server_port}/v2.1")


def test_a_live_migration_is_asked_for(server, api):
    api.live_migrate(UUID)
    assert server.requests == [(f"/v2.1/servers/{UUID}/action", "compute 2.25",
                                {"os-migrateLive": {"host": None, "block_migration": "auto"}})]


@pytest.mark.parametrize("status, text, message", [
    (400, '{"badRequest": {"code": 400, "message": "No valid host was found. "}}', "No valid host was found. "),
    (409, '{"conflictingRequest": {"message": "it is in task_state migrating"}}', "task_state migrating"),
    (500, "<html>", "500 <html>"), (403, "[]", r"403 \[\]"), (400, '{"error": "x"}', "400 ")])
def test_a_refusal_has_what_the_api_says(server, api, status, text, message):
    server.answer = (status, text)
    with pytest.raises(MoveRefused, match=message):
        api.live_migrate(UUID)


def test_without_credentials_it_is_said_where_they_belong(tmp_path):
    with pytest.raises(MoveRefused, match=r"cannot be asked \(\[thermocline_nova\] in nova.conf\): auth_type is not set"):
        _api(tmp_path).live_migrate(UUID)


def test_credentials_may_be_those_of_another_section(server, tmp_path):
    api = _api(tmp_path, f"endpoint_override = http://127.0.0.1:{server.server_port}", "auth_section = service_user", "[service_user]",
               "auth_type = none")
    api.live_migrate(UUID)
    assert len(server.requests) == 1


def test_an_api_that_is_away_is_said(server, tmp_path):
    with pytest.raises(MoveRefused, match="cannot be asked"):
        _api(tmp_path, "auth_type = none", "endpoint_override = http://127.0.0.1:1").live_migrate(UUID)
    with pytest.raises(MoveRefused, match="cannot be asked"):
        _api(tmp_path, "auth_type = no-such-plugin").live_migrate(UUID)
