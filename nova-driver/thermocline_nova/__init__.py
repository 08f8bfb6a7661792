# SPDX-License-Identifier: Apache-2.0
"""Thermocline in OpenStack Nova: a compute driver on top of Nova's libvirt driver. docs/nova.md is for its operators."""
