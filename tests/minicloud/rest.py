# SPDX-License-Identifier: Apache-2.0
"""The cloud's REST APIs as its admin. With Python's own HTTP client: a real one would be another 30 packages, and slower."""

import http.client
import json

from .errors import CloudError
from .services import PORTS

COMPUTE_VERSION = "compute 2.90"


class ApiError(CloudError):
    """An answer that says no. status: of HTTP; message: what the API says to its user."""

    def __init__(self, what, status, message):
        super().__init__(f"{what}: {status} {message}")
        self.status = status
        self.message = message


class Rest:
    """Not thread-safe. Logs in when it is first used."""

    def __init__(self, password):
        self._password = password
        self._token = None

    def call(self, service, method, path, body=None, raw=None, version=COMPUTE_VERSION):
        """The answer's JSON, {} where it has none. body: for JSON; raw: bytes, of a file. ApiError for 400 and above."""
        headers = {"OpenStack-API-Version": version, "X-Auth-Token": self._log_in()}
        _, answer = _request(service, method, path, body, raw, headers)
        return answer

    def _log_in(self):
        if self._token is None:
            user = {"name": "admin", "domain": {"id": "default"}, "password": self._password}
            scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
            body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
            headers, _ = _request("keystone", "POST", "/v3/auth/tokens", body, None, {})
            self._token = headers["X-Subject-Token"]
        return self._token


def _request(service, method, path, body, raw, headers):
    connection = http.client.HTTPConnection("127.0.0.1", PORTS[service], timeout=120)
    what = f"{method} {service} {path}"
    try:
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
            headers = {**headers, "Content-Type": "application/json"}
        elif raw is not None:
            headers = {**headers, "Content-Type": "application/octet-stream"}
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CloudError(f"{what}: {error!r}") from None
    finally:
        connection.close()
    try:
        answer = json.loads(text) if text else {}
    except ValueError:
        answer = {}
    if response.status >= 400:
        raise ApiError(what, response.status, _message(answer) or text[:300].decode("utf-8", "replace"))
    return response.headers, answer


def _message(answer):
    """Each API wraps it in its own way: {"badRequest": {"message": ...}}."""
    for value in answer.values() if isinstance(answer, dict) else ():
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            return value["message"]
    return ""
