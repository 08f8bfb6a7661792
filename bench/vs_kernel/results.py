# SPDX-License-Identifier: Apache-2.0
"""From measurements to rows and bars. Arithmetic only.

A measurement is a dictionary with "value", or with "error". A row is about one workload of one subject: medians over the
rounds, and how many times better ours is than the best rival of this run."""

from statistics import median

from .plan import OURS, WITHOUT

_LATENCIES = ("p50_us", "p99_us", "p999_us")

_BEST = "times the best rival"
# (subject, workload, the row's ratio is called, at least)
_WANTED = (
    ("process", "random", _BEST, 2.0),
    ("process", "zipf", _BEST, 1.5),
    ("process", "sequential", _BEST, 5.0),
    ("process", "strided", _BEST, 5.0),
    ("process", "wake", _BEST, 5.0),
    ("process", "saved", "memory saved at 90 % of full speed, times the best rival", 1.10),
    ("process", "proactive-cold", "speed, times without us", 0.99),
    ("process", "proactive-hot", "speed, times without us", 0.99),
)
_EVERY_ROW = 1.25
_COLD_SHARE = 0.95
# (workload of subject engine, times the raw fault, at most)
_FAULTS = (("staged-fault", 1.3), ("cold-fault", 1.6))


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


def make_row(subject, workload, measured, lower_is_better=False, unit=None):
    """`measured`: {side: [measurement, ...]}"""
    rivals = {name: medians(found, "value") for name, found in measured.items() if name != OURS}
    ours = medians(measured.get(OURS, []), "value")
    given_more = sorted(name for name, found in measured.items() if any(m.get("given", 1.0) > 1.0 for m in found))
    best = best_rival({name: value for name, value in rivals.items() if name not in given_more}, lower_is_better)
    at_least = sorted(name for name, found in measured.items() if any(m.get("at_least") for m in found))
    open_ended = OURS in at_least and best in at_least  # nobody got there: nothing to compare
    each = {key: {name: medians(found, key) for name, found in measured.items()}
            for key in ("used_bytes", "limit_bytes", "cpu_us_per_access", "cold_share", "cold_share_of_compressible",
                        "cold_seconds", *_LATENCIES)}
    return {
        "subject": subject, "workload": workload,
        "unit": unit or ("s" if lower_is_better else "accesses/s"), "better": "lower" if lower_is_better else "higher",
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


def against_swap(row):
    """Is the row about our manager against the kernel's swap, at the same total?"""
    return row["subject"] != "engine" and WITHOUT not in row["rivals"] and row["unit"] != "bytes"


def wanted(row):
    """The ratio that a row should have."""
    named = (want for subject, workload, _, want in _WANTED if (subject, workload) == (row["subject"], row["workload"]))
    faults = (1 / most for workload, most in _FAULTS if (row["subject"], row["workload"]) == ("engine", workload))
    return next(faults, _EVERY_ROW if against_swap(row) else next(named, _EVERY_ROW))


def make_bars(rows):
    """Only those that this run can tell about."""
    known = {(row["subject"], row["workload"]): row for row in rows if row["rivals"]}
    bars = [_bar(f"{subject} {workload}: {what}", want, known[subject, workload]["ratio_to_best"])
            for subject, workload, what, want in _WANTED if (subject, workload) in known]
    cold = known.get(("process", "proactive-cold"))
    if cold is not None:
        for what, key in (("share", "cold_share"), ("share of what compresses", "cold_share_of_compressible")):
            bars.append(_bar(f"process proactive-cold: {what} gone within 60 s", _COLD_SHARE, cold.get(key, {}).get(OURS)))
    for workload, most in _FAULTS:
        if ("engine", workload) in known:
            times = known["engine", workload]["ratio_to_best"]
            bars.append(_bar(f"engine {workload}: times the raw userfaultfd fault", most, 1 / times if times else None, at_most=True))
    compared = [row for row in rows if row["best_rival"] is not None and against_swap(row)]
    if compared:
        ratios = [row["ratio_to_best"] for row in compared]
        bars.append(_bar("every row: times its best rival", _EVERY_ROW, None if None in ratios else min(ratios)))
    return bars


def _bar(name, want, got, at_most=False):
    met = got is not None and (got <= want if at_most else got >= want)
    return {"name": name, "want": want, "at_most": at_most, "got": got, "met": met}


def sound(rows):
    """Did our side work: a figure in every row, and not one wrong byte on any side?"""
    return all(row["ours"] is not None for row in rows) and not any(
        measurement.get("wrong") for row in rows for found in row["measurements"].values() for measurement in found)
