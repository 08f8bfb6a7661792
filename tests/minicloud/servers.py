# SPDX-License-Identifier: Apache-2.0
"""Servers, hosts and flavors as a person sees them through Nova's API."""

import time
from http import HTTPStatus

from testbed.deadline import Deadline

from .errors import CloudError
from .host import FIRST, host_name
from .images import IMAGE, find_image
from .rest import ApiError, Rest

# Services have UUIDs from here on.
_SERVICES_VERSION = "compute 2.53"
_MOST_CONFLICTS = 20


class Servers:
    """Of one cloud. Not thread-safe."""

    def __init__(self, state):
        self.rest = Rest(state.password)

    def nova(self, method, path, body=None):
        """Nova's answer. ApiError where it says no."""
        return self.rest.call("nova-api", method, f"/v2.1{path}", body)

    def create(self, name, flavor="m128", image=None, host=None):
        """Returns the server's id at once; image: an id, or IMAGE; host: where to, else the scheduler decides."""
        server = {"name": name, "flavorRef": flavor, "imageRef": image or find_image(self.rest, IMAGE)["id"], "networks": "none"}
        if host is not None:
            server["availability_zone"] = f"nova:{host}"
        return self.nova("POST", "/servers", {"server": server})["server"]["id"]

    def show(self, server):
        """None where it is gone."""
        try:
            return self.nova("GET", f"/servers/{server}")["server"]
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self):
        """All of them, with details."""
        return self.nova("GET", "/servers/detail")["servers"]

    def wait_for(self, server, status, seconds=120.0, look_every=0.1):
        """Until its status is this one and no task is under way; returns it. CloudError, with the server's fault, for ERROR.
        Nova's API tells nobody of changes: it is asked."""
        deadline = Deadline(seconds)
        while True:
            found = self.show(server)
            now = "DELETED" if found is None else found["status"]
            if now == status and (found is None or found["OS-EXT-STS:task_state"] is None):
                return found
            if now == "ERROR" and status != "ERROR":
                raise CloudError(f"server {server}: {found.get('fault', {}).get('message', 'ERROR, and no word why')}")
            if deadline.over:
                task = found and found["OS-EXT-STS:task_state"]
                raise CloudError(f"server {server} is {now} after {seconds:.0f} s, not {status} (task: {task}); see its id in the services' logs")
            time.sleep(look_every)

    def act(self, server, action, argument=None):
        """os-stop, os-start, reboot, ..."""
        return self.nova("POST", f"/servers/{server}/action", {action: argument})

    def live_migrate(self, server, host):
        """Returns when the scheduler has agreed. Its disk goes along."""
        self.act(server, "os-migrateLive", {"host": host, "block_migration": "auto"})

    def console(self, server):
        """What the guest has said so far."""
        return self.act(server, "os-getConsoleOutput", {"length": None})["output"]

    def delete(self, server, seconds=60.0, wait=True):
        """Returns when it is gone, or at once; does nothing where it is gone already."""
        try:
            self.nova("DELETE", f"/servers/{server}")
        except ApiError as error:
            if error.status != 404:
                raise
        if wait:
            self.wait_for(server, "DELETED", seconds)

    def compute_service(self, host=FIRST):
        """The record of that host's nova-compute: id, state, status, updated_at. None where it has never reported."""
        path = f"/v2.1/os-services?binary=nova-compute&host={host}"
        found = self.rest.call("nova-api", "GET", path, version=_SERVICES_VERSION)["services"]
        return found[0] if found else None

    def force_down(self, host, down):
        """Says that the host is dead, whatever it says itself, or takes it back."""
        self.rest.call("nova-api", "PUT", f"/v2.1/os-services/{self.compute_service(host)['id']}", {"forced_down": down}, version=_SERVICES_VERSION)

    def forget_compute(self, host):
        """Nova and Placement know the host no more. REQUIRES: it has no servers, and its nova-compute has ended."""
        self.rest.call("nova-api", "DELETE", f"/v2.1/os-services/{self.compute_service(host)['id']}", version=_SERVICES_VERSION)

    def hypervisors(self, version="compute 2.90"):
        """With their details, one for each compute host."""
        return self.rest.call("nova-api", "GET", "/v2.1/os-hypervisors/detail", version=version)["hypervisors"]

    def diagnostics(self, server, version="compute 2.90"):
        """`server show --diagnostics`."""
        return self.rest.call("nova-api", "GET", f"/v2.1/servers/{server}/diagnostics", version=version)

    def providers(self):
        """Resource providers in placement: one for each compute host that has ever reported."""
        return self.rest.call("placement", "GET", "/resource_providers", version="placement 1.39")["resource_providers"]

    def provider(self, host=FIRST):
        """The compute host's: uuid and generation. None where it has never reported."""
        return next((each for each in self.providers() if each["name"] == host_name(host)), None)

    def memory_inventory(self, host=FIRST):
        """What placement believes of the host's MEMORY_MB: total, reserved, allocation_ratio, ..."""
        path = f"/resource_providers/{self.provider(host)['uuid']}/inventories"
        return self.rest.call("placement", "GET", path, version="placement 1.39")["inventories"]["MEMORY_MB"]

    def change_memory_inventory(self, **changes):
        """As somebody else than Nova. Nova reports meanwhile; as every client of placement's, who was late looks again."""
        path = f"/resource_providers/{self.provider()['uuid']}/inventories/MEMORY_MB"
        for _ in range(_MOST_CONFLICTS):
            known = self.rest.call("placement", "GET", path, version="placement 1.39")
            try:
                return self.rest.call("placement", "PUT", path, {**known, **changes}, version="placement 1.39")
            except ApiError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
        raise CloudError(f"{_MOST_CONFLICTS} changes of the inventory each came too late")

    def traits(self):
        """Of the compute host."""
        path = f"/resource_providers/{self.provider()['uuid']}/traits"
        return set(self.rest.call("placement", "GET", path, version="placement 1.39")["traits"])
