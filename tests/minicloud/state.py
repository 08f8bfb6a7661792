# SPDX-License-Identifier: Apache-2.0
"""The folder that holds everything a cloud writes: configuration, databases, logs, who runs."""

import json
import os
import secrets
import shutil
from pathlib import Path

from .errors import CloudError
from .host import FIRST, service_of

DEFAULT = Path("/var/lib/thermocline-minicloud")
_MARK = "minicloud.json"


class State:
    """One cloud's folder. It is known by a file of ours in it, so that no other folder is ever removed."""

    def __init__(self, root):
        self.root = Path(root).resolve()
        self.log = self.root / "log"
        self.run = self.root / "run"
        self.etc = self.root / "etc"
        self.venv = self.root / "venv"

    def nova_folder(self, host):
        """nova-compute's on that host; there, it is where the first host's is."""
        return self.root / service_of("nova", host)

    def make_nova_folder(self, host):
        """With what nova-compute needs in it."""
        for name in ("instances", "lock"):
            (self.nova_folder(host) / name).mkdir(parents=True, exist_ok=True)

    def host_folder(self, host):
        """What libvirt has on that host."""
        return self.root / f"host@{host}"

    @property
    def exists(self):
        """True where this folder is a cloud's."""
        return (self.root / _MARK).exists()

    @property
    def password(self):
        """Of every user of the cloud; made with the folder."""
        return self.read()["password"]

    def read(self):
        """What is remembered over restarts. CloudError where there is no cloud."""
        try:
            return json.loads((self.root / _MARK).read_text())
        except FileNotFoundError:
            raise CloudError(f"there is no cloud in {self.root}; bring one up: tests/minicloud-ctl up") from None

    def remember(self, **values):
        """Adds to what read() returns."""
        text = json.dumps({**self.read(), **values})
        (self.root / _MARK).write_text(text)

    def make(self):
        """Makes the folder where it is missing. CloudError where it is something else's."""
        if self.root.exists() and not self.exists and any(self.root.iterdir()):
            raise CloudError(f"{self.root} is not empty and no cloud's; choose another folder with --state")
        if self.exists and not self.read()["ready"]:
            shutil.rmtree(self.root)  # its first start did not come to its end: half a database helps nobody
        for folder in (self.root, self.log, self.run, self.etc, self.root / "glance/images", self.root / "glance/lock",
                       self.root / "neutron/lock", self.root / "home", self.log / "rabbit", self.root / "rabbit", self.root / "mysql"):
            folder.mkdir(parents=True, exist_ok=True)
        self.make_nova_folder(FIRST)
        for folder in (self.root, self.log, self.run):
            folder.chmod(0o755)
        if not self.exists:
            descriptor = os.open(self.root / _MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as mark:
                mark.write(json.dumps({"password": secrets.token_hex(8), "ready": False}))

    def remove(self):
        """Removes the folder. CloudError where it is not a cloud's."""
        if not self.exists:
            raise CloudError(f"{self.root} is no cloud's folder; it is left as it is")
        shutil.rmtree(self.root)
