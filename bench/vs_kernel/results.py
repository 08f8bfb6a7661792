# SPDX-License-Identifier: Apache-2.0
"""From measurements to rows and bars. Arithmetic only.

A measurement is a dictionary with "value", or with "error". A row is about one workload of one subject: medians over the
rounds, and how many times better ours is than the best rival of this run."""

from statistics import median

OURS = "ours"
_LATENCIES = ("p50_us", "p99_us", "p999_us")

# (name, subject, workload, times better than the best rival)
_WANTED = (
    ("process: random", "process", "random", 2.0),
    ("process: zipf", "process", "zipf", 1.5),
    ("process: sequential", "process", "sequential", 5.0),
    ("process: strided", "process", "strided", 5.0),
    ("process: wake", "process", "wake", 5.0),
)
_EVERY_ROW = 1.25


def medians(measurements, key):
    """Of those that have it; None without any."""
    values = [measurement[key] for measurement in measurements if measurement.get(key) is not None]
    return median(values) if values else None


def ratio(ours, rival, lower_is_better):
    """How many times better ours is."""
    if ours is None or rival is None:
        return None
    better, worse = (ours, rival) if lower_is_better else (rival, ours)
    return worse / better if better > 0 else None


def best_rival(rivals, lower_is_better):
    """Name of the best one; None where none has a figure."""
    known = {name: value for name, value in rivals.items() if value is not None}
    if not known:
        return None
    return (min if lower_is_better else max)(known, key=known.get)


def make_row(subject, workload, measured, lower_is_better=False):
    """`measured`: {side: [measurement, ...]}"""
    rivals = {name: medians(found, "value") for name, found in measured.items() if name != OURS}
    ours = medians(measured.get(OURS, []), "value")
    given_more = sorted(name for name, found in measured.items() if any(m.get("given", 1.0) > 1.0 for m in found))
    best = best_rival({name: value for name, value in rivals.items() if name not in given_more}, lower_is_better)
    at_least = sorted(name for name, found in measured.items() if any(m.get("at_least") for m in found))
    open_ended = OURS in at_least and best in at_least  # nobody got there: nothing to compare
    each = {key: {name: medians(found, key) for name, found in measured.items()}
            for key in ("used_bytes", "limit_bytes", "cpu_us_per_access", *_LATENCIES)}
    return {
        "subject": subject, "workload": workload,
        "unit": "s" if lower_is_better else "accesses/s", "better": "lower" if lower_is_better else "higher",
        "ours": ours, "rivals": rivals, "best_rival": best,
        "ratio_to_best": None if open_ended else ratio(ours, rivals.get(best), lower_is_better),
        **{key: value for key, value in each.items() if any(v is not None for v in value.values())},
        "at_least": at_least,
        "given_more": given_more,  # than the total, or they would not run: not compared
        "notes": _notes(measured),
        "measurements": measured,
    }


def _notes(measured):
    notes = []
    for name, found in measured.items():
        for number, measurement in enumerate(found, 1):
            if "error" in measurement:
                notes.append(f"{name}, round {number}: {measurement['error']}")
            notes += [f"{name}, round {number}: failed and tried again, {failure}" for failure in measurement.get("failures", [])]
            if measurement.get("wrong"):
                notes.append(f"{name}, round {number}: {measurement['wrong']} accesses found wrong bytes")
            if measurement.get("calibrated") is False:
                notes.append(f"{name}, round {number}: used {measurement['gap'] * 100:+.1f} % against the total")
    return notes


def make_bars(rows):
    """Only those that this run can tell about."""
    bars = []
    for name, subject, workload, want in _WANTED:
        row = next((row for row in rows if (row["subject"], row["workload"]) == (subject, workload)), None)
        if row is not None and row["rivals"]:
            bars.append(_bar(f"{name}, times the best rival", want, row["ratio_to_best"]))
    compared = [row for row in rows if row["best_rival"] is not None]
    if compared:
        ratios = [row["ratio_to_best"] for row in compared]
        bars.append(_bar("every row, times its best rival", _EVERY_ROW, None if None in ratios else min(ratios)))
    return bars


def _bar(name, want, got):
    return {"name": name, "want": want, "got": got, "met": got is not None and got >= want}


def sound(rows):
    """Did our side work: a figure in every row, and not one wrong byte on any side?"""
    return all(row["ours"] is not None for row in rows) and not any(
        measurement.get("wrong") for row in rows for found in row["measurements"].values() for measurement in found)
