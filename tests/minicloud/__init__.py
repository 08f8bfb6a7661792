# SPDX-License-Identifier: Apache-2.0
"""A real OpenStack on this machine, for tests: keystone, placement, glance, neutron's API, Nova, RabbitMQ, MariaDB and
memcached from Debian's packages, with a libvirtd of its own. `tests/minicloud-ctl --help` is its command."""
