# SPDX-License-Identifier: Apache-2.0
"""MariaDB's files, the services' databases, and the tables in them."""

import subprocess

from .errors import CloudError

_USERS = ("keystone", "glance", "placement", "nova", "neutron")
_DATABASES = {"keystone": "keystone", "glance": "glance", "placement": "placement", "nova": "nova", "nova_api": "nova",
              "nova_cell0": "nova", "neutron": "neutron"}


class Databases:
    """Of one cloud."""

    def __init__(self, state, environment):
        self._state = state
        self._environment = environment

    def install(self):
        """MariaDB's own tables, where they are missing. REQUIRES: MariaDB does not run."""
        if (self._state.root / "mysql/mysql").exists():
            return
        self._run("mariadb-install", ["mariadb-install-db", f"--defaults-file={self._state.etc}/mariadb.cnf", "--user=mysql",
                                      f"--datadir={self._state.root}/mysql", "--skip-test-db",
                                      "--auth-root-authentication-method=socket"])

    def create(self):
        """An empty database and a user for each service. REQUIRES: MariaDB runs."""
        password = self._state.password
        statements = [f"CREATE USER IF NOT EXISTS '{user}'@'127.0.0.1' IDENTIFIED BY '{password}';" for user in _USERS]
        for database, user in _DATABASES.items():
            statements.append(f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8;")
            statements.append(f"GRANT ALL ON {database}.* TO '{user}'@'127.0.0.1';")
        result = subprocess.run(["mariadb", "--no-defaults", "-S", f"{self._state.run}/mysqld.sock", "-uroot"],
                                input="\n".join(statements), text=True, capture_output=True, env=self._environment, check=False)
        if result.returncode:
            raise CloudError(f"cannot create the databases: {result.stderr.strip()}")

    def fill(self):
        """All tables, side by side: it is most of what a fresh cloud waits for."""
        chains = {"init-keystone": self._keystone(), "init-glance-placement-neutron": self._small_ones(), "init-nova": self._nova()}
        running = {}
        try:
            for name, commands in chains.items():
                running[name] = self._start_chain(name, commands)
            for name, child in running.items():
                if child.wait():
                    raise CloudError(f"{name} failed: see {self._state.log / name}.out")
        finally:
            for child in running.values():
                child.kill()
                child.wait()

    def map_compute_hosts(self):
        """Makes the scheduler see nova-compute's hosts. REQUIRES: each nova-compute has made its record."""
        self._run("init-discover", [*self._nova_manage(), "cell_v2", "discover_hosts"])

    def _nova_manage(self):
        return ["nova-manage", "--config-file", f"{self._state.etc}/nova/nova.conf"]

    def _keystone(self):
        manage = ["keystone-manage", "--config-file", f"{self._state.etc}/keystone/keystone.conf"]
        owner = ["--keystone-user", "root", "--keystone-group", "root"]
        url = "http://127.0.0.1:5000/v3/"
        return [[*manage, "db_sync"], [*manage, "fernet_setup", *owner], [*manage, "credential_setup", *owner],
                [*manage, "bootstrap", "--bootstrap-password", self._state.password, "--bootstrap-region-id", "RegionOne",
                 "--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url]]

    def _small_ones(self):
        etc = self._state.etc
        return [["glance-manage", "--config-file", f"{etc}/glance/glance-api.conf", "db_sync"],
                ["placement-manage", "--config-file", f"{etc}/placement/placement.conf", "db", "sync"],
                ["neutron-db-manage", "--config-file", f"{etc}/neutron/neutron.conf", "upgrade", "head"]]

    def _nova(self):
        manage = self._nova_manage()
        cell0 = f"mysql+pymysql://nova:{self._state.password}@127.0.0.1/nova_cell0"
        return [[*manage, "api_db", "sync"], [*manage, "cell_v2", "map_cell0", "--database_connection", cell0],
                [*manage, "cell_v2", "create_cell", "--name", "cell1"], [*manage, "db", "sync"]]

    def _start_chain(self, name, commands):
        """One after the other, up to the first that fails."""
        script = 'set -e; while [ $# -gt 0 ]; do n=$1; shift; "${@:1:n}"; shift "$n"; done'
        words = [word for command in commands for word in (str(len(command)), *command)]
        with open(self._state.log / f"{name}.out", "ab") as log:
            return subprocess.Popen(["bash", "-c", script, name, *words], env=self._environment, stdin=subprocess.DEVNULL,
                                    stdout=log, stderr=log)

    def _run(self, name, command):
        if self._start_chain(name, [command]).wait():
            raise CloudError(f"{name} failed: see {self._state.log / name}.out")
