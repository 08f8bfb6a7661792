# SPDX-License-Identifier: Apache-2.0
"""The results as pictures, each as SVG and PNG beside the JSON."""

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402  (needs its backend first)

from testbed.sizes import MIB  # noqa: E402

from .plan import OURS  # noqa: E402
from .proactive import COLD_WANTED  # noqa: E402
from .results import against_swap  # noqa: E402
from .saved import SPEED_SHARE  # noqa: E402

_COLOURS = ("#0b6e4f", "#c8553d", "#e09f3e", "#7a8ca3")
_WIDTH = 0.8
_FAR_APART = 20


def draw_all(document, sides, directory):
    """Returns the names of the files, without their suffixes."""
    rows = document["rows"]
    drawn = []
    for subject in dict.fromkeys(row["subject"] for row in rows):
        counted = [row for row in rows if row["subject"] == subject and row["better"] == "higher" and against_swap(row)]
        if counted:
            label = f"{counted[0]['unit'].split('/')[0]} per second"
            drawn.append(_grouped(counted, sides, directory, f"vs-kernel-{subject}-throughput", label,
                                  lambda row, side: ({"ours": row["ours"], **row["rivals"]}).get(side), subject))
            drawn.append(_grouped(counted, sides, directory, f"vs-kernel-{subject}-p99", "p99 latency, us",
                                  lambda row, side: row.get("p99_us", {}).get(side), subject))
        waking = next((row for row in rows if row["subject"] == subject and row["workload"] == "wake"), None)
        if waking is not None:
            drawn.append(_wake(waking, sides, directory, f"vs-kernel-{subject}-wake", subject))
    for row in rows:
        if any("cold_curve" in found for found in row["measurements"].get(OURS, [])):
            drawn.append(_cold(row, directory, f"vs-kernel-{row['subject']}-{row['workload']}"))
        if row["unit"] == "bytes" and any("curve" in found for each in row["measurements"].values() for found in each):
            drawn.append(_saved(row, sides, directory, f"vs-kernel-{row['subject']}-{row['workload']}"))
    return drawn


def _save(figure, directory, name):
    for suffix in ("svg", "png"):
        figure.savefig(directory / f"{name}.{suffix}", dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    return name


def _grouped(rows, sides, directory, name, label, value, subject):
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    each = _WIDTH / len(sides)
    for number, side in enumerate(sides):
        places = [index - _WIDTH / 2 + (number + 0.5) * each for index in range(len(rows))]
        axes.bar(places, [value(row, side) or 0 for row in rows], each * 0.92, label=side,
                 color=_COLOURS[number % len(_COLOURS)])
    known = [found for row in rows for side in sides if (found := value(row, side))]
    # On a logarithmic axis a small difference would look like a large one.
    if known and max(known) > _FAR_APART * min(known):
        axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [row["workload"] for row in rows])
    axes.set_ylabel(label)
    axes.set_title(f"{subject}: {label}, the same memory of the host for each")
    axes.grid(axis="y", which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(sides), loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return _save(figure, directory, name)


def _wake(row, sides, directory, name, subject):
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    for number, side in enumerate(sides):
        found = next((m for m in row["measurements"].get(side, []) if m.get("slices")), None)
        if found is None:
            continue
        axes.plot([when for when, _ in found["slices"]],
                  [100 * speed / found["full_speed"] for _, speed in found["slices"]],
                  label=side, color=_COLOURS[number % len(_COLOURS)], linewidth=1.2)
    axes.axhline(95, color="#444", linewidth=0.8, linestyle=":")
    axes.set_xlabel("seconds since the limit was lifted")
    axes.set_ylabel("% of full speed")
    axes.set_title(f"{subject}: back to full speed after a limit is lifted")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _save(figure, directory, name)


def _curves(directory, name, title, x_label, y_label, draw):
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    draw(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _save(figure, directory, name)


def _cold(row, directory, name):
    def draw(axes):
        for number, found in enumerate(row["measurements"][OURS], 1):
            curve = found.get("cold_curve", [])
            axes.plot([when for when, _ in curve], [100 * share for _, share in curve], label=f"round {number}",
                      color=_COLOURS[(number - 1) % len(_COLOURS)], linewidth=1.4)
        axes.axhline(100 * COLD_WANTED, color="#444", linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 102)
    return _curves(directory, name, f"{row['subject']}: memory that nobody touches goes, within the stall that is allowed",
                   "seconds since the policy was switched on", "% of it in the store", draw)


def _saved(row, sides, directory, name):
    def draw(axes):
        for number, side in enumerate(sides):
            for found in (found for found in row["measurements"].get(side, []) if "curve" in found):
                curve = found["curve"]
                axes.plot([(found["full_bytes"] - used) / MIB for used, _ in curve], [100 * share for _, share in curve],
                          marker="o", markersize=3, linewidth=1.4, color=_COLOURS[number % len(_COLOURS)],
                          label=side if side not in axes.get_legend_handles_labels()[1] else None)
        axes.axhline(100 * SPEED_SHARE, color="#444", linewidth=0.8, linestyle=":")
    return _curves(directory, name, f"{row['subject']}: speed against the host memory that is saved",
                   "MiB of the host saved", "% of full speed", draw)
