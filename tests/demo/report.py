# SPDX-License-Identifier: Apache-2.0
"""The last screen, and the JSON object of --json."""

import dataclasses

from testbed.sizes import format_size


def as_json(measured, accelerator):
    fields = dataclasses.asdict(measured)
    fields["saved_bytes"] = measured.saved_bytes
    fields["saved_ratio"] = round(measured.saved_ratio, 4)
    fields["stall_ratio"] = round(measured.stall_ratio, 4)
    fields["accelerator"] = "kvm" if accelerator == "kvm" else "tcg"
    return fields


def lines(measured, terminal):
    rows = [
        ("guest RAM", format_size(measured.memory_bytes), f"of which it filled {format_size(measured.filled_bytes)}"),
        ("in host RAM before", format_size(measured.resident_before_bytes), ""),
        ("in host RAM under the limit", format_size(measured.used_after_bytes),
         f"{format_size(measured.resident_after_bytes)} pages, {format_size(measured.store_bytes)} compressed, "
         f"{format_size(measured.metadata_bytes)} bookkeeping"),
        ("saved", format_size(measured.saved_bytes), f"{measured.saved_ratio * 100:.0f} %"),
        ("attach pause", f"{measured.attach_pause_us} us", "the VM was never restarted or reconfigured"),
        ("page faults served", f"{measured.faults:,}", "while the guest swept through all of its memory"),
        ("stall", f"{measured.stall_ratio * 100:.1f} %", "of that time; the longest wait for one page, seen in the guest: "
                                                         f"{measured.guest_worst_page_us / 1000:.1f} ms"),
        ("verified in the guest", format_size(measured.verified_bytes),
         terminal.good("every byte right") if measured.guest_ok else terminal.bad("NOT all right")),
    ]
    return [f"    {name:<28} {terminal.bold(f'{value:>10}')}  {note}" for name, value, note in rows]
