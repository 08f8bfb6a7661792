# SPDX-License-Identifier: Apache-2.0
"""What ./demo and the system tests share: a host with libvirtd, a thermoclined of its own, and guests whose memory can
be verified byte for byte. Whatever is started here is ended here."""
