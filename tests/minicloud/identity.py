# SPDX-License-Identifier: Apache-2.0
"""The services' users, roles and addresses in keystone. By REST: the command line would take a second for each."""

from .services import PORTS

_USERS = ("nova", "glance", "placement", "neutron")
_ENDPOINTS = (("nova", "compute", "nova-api", "/v2.1"), ("glance", "image", "glance-api", ""),
              ("placement", "placement", "placement", ""), ("neutron", "network", "neutron-api", ""))


def make_identities(rest, password):
    """Makes what is missing."""
    project = _make(rest, "projects", "project", {"name": "service"}, {"domain_id": "default"})
    roles = [_make(rest, "roles", "role", {"name": name}) for name in ("admin", "service")]
    for name in _USERS:
        user = _make(rest, "users", "user", {"name": name}, {"password": password, "domain_id": "default"})
        for role in roles:
            rest.call("keystone", "PUT", f"/v3/projects/{project}/users/{user}/roles/{role}")
    for name, kind, service, path in _ENDPOINTS:
        of = _make(rest, "services", "service", {"name": name}, {"type": kind})
        for interface in ("public", "internal"):
            _make(rest, "endpoints", "endpoint", {"service_id": of, "interface": interface},
                  {"url": f"http://127.0.0.1:{PORTS[service]}{path}", "region_id": "RegionOne"})


def _make(rest, kind, singular, known_by, more=None):
    """Returns the id; makes it where no object of that kind has these values."""
    query = "&".join(f"{key}={value}" for key, value in known_by.items())
    found = rest.call("keystone", "GET", f"/v3/{kind}?{query}")[kind]
    if not found:
        found = [rest.call("keystone", "POST", f"/v3/{kind}", {singular: {**known_by, **(more or {})}})[singular]]
    return found[0]["id"]
