#!/usr/bin/env python3
"""Compares a stallspy JSON report with the truth a fixture server wrote.

    scripts/score.py TRUTH.jsonl REPORT.json [--json] [--misses]

What is counted:
  found      a true stall >= the threshold, of which a reported one covers more than half. Only truth inside
             [attached + 50 ms, detached] counts.
  duration   per reported stall with truth in it: its length, less the true one's. A stall is one loop
             *iteration*: with several true stalls in it, from the first one's start to the last one's end.
             What the iteration did before and after is in the error, unless the truth has `iteration`
             entries (--iterations): those are compared where there are any.
  headline   per reported stall: is its culprit the line that truly took the most of it?
             kind, syscall, peer, endpoint and function are judged on the same ones, where the truth has them.
             Where the truth says that the thread computed and had the CPU for less than half of the time,
             `cpu_starved` is a right kind, and then it needs no line (`starved`).
  false      a reported stall in which the truth, all added up, has less than 0.8 of the threshold. The kinds
             that speak of others than the application are counted apart, as are stalls with no culprit, and a
             wait for the GIL while another loop of the process was truly blocked.
"""
import argparse
import json
import sys

CLASSES_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, float("inf")]
SETTLE_NS = 50000000  # after attaching; a stall that began before is reported as cut off
NOT_STALLS = {"no_loop", "iteration"}
# What the report may say of each kind of truth. (A C call on the CPU is both.)
KINDS = {
    "sleep": {"blocking_call"}, "recv": {"blocking_call"}, "subprocess": {"blocking_call"},
    "pipe": {"blocking_call"}, "lock": {"blocking_call"}, "nested": {"blocking_call"}, "pg": {"blocking_call"},
    "locked": {"blocking_call"}, "first": {"blocking_call"}, "second": {"blocking_call"},
    "cpu": {"cpu"}, "json": {"c_call", "cpu"}, "pbkdf2": {"c_call", "cpu"}, "sqlite": {"c_call", "cpu"},
    "zlib": {"c_call", "cpu"},
    "fork": {"cpu", "c_call", "blocking_call"},
}
COMPUTES = {"cpu", "json", "pbkdf2", "sqlite", "zlib"}
APART = {"cpu_starved", "many_callbacks", "gc", "nobody blamed"}


def load_truth(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def overlap(a_start, a_end, b_start, b_end):
    return max(0, min(a_end, b_end) - max(a_start, b_start))


def same_file(a, b):
    """A report names files as the target sees them; short names (other tools') match by their end."""
    return bool(a and b) and (a == b or a.endswith("/" + b) or b.endswith("/" + a))


def same_thread(stall, entry):
    return all(stall.get(key) in (None, entry.get(key)) or entry.get(key) is None for key in ("pid", "tid"))


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))] if values else None


def score(truth, report, threshold_ns=None):
    """`truth`: entries of load_truth; `report`: the parsed JSON. All results in one dict, times in ms."""
    threshold = threshold_ns or report["threshold_ns"]
    stalls = []
    for index, stall in enumerate(report["stalls"]):
        stalls.append(dict(stall, index=index, end_ns=stall["start_ns"] + stall["duration_ns"]))
    blocked = [entry for entry in truth if entry["kind"] not in NOT_STALLS]
    iterations = [entry for entry in truth if entry["kind"] == "iteration"]
    first, last = report["attached_ns"] + SETTLE_NS, report["detached_ns"]
    inside = [entry for entry in blocked if entry["start_ns"] >= first and entry["end_ns"] <= last]

    # Recall, by length.
    classes = [{"low_ms": low, "high_ms": high, "true": 0, "found": 0}
               for low, high in zip(CLASSES_MS, CLASSES_MS[1:])]
    missed = []
    for entry in inside:
        length = entry["end_ns"] - entry["start_ns"]
        if length < threshold:
            continue
        found = any(overlap(entry["start_ns"], entry["end_ns"], stall["start_ns"], stall["end_ns"]) * 2 > length
                    for stall in stalls if same_thread(stall, entry))
        for row in classes:
            if row["low_ms"] <= length / 1e6 < row["high_ms"]:
                row["true"] += 1
                row["found"] += found
        if not found:
            missed.append({"kind": entry["kind"], "start_ns": entry["start_ns"], "ms": round(length / 1e6, 3)})

    # What is said of each reported stall.
    errors, starts, ends = [], [], []
    judged = {name: [0, 0] for name in ("headline", "function", "kind", "syscall", "peer", "endpoint")}
    wrong, false, apart, explained, starved = [], [], {kind: 0 for kind in sorted(APART)}, 0, 0
    for stall in stalls:
        parts = [entry for entry in blocked if same_thread(stall, entry)
                 and overlap(stall["start_ns"], stall["end_ns"], entry["start_ns"], entry["end_ns"])]
        covered = sum(overlap(stall["start_ns"], stall["end_ns"], part["start_ns"], part["end_ns"]) for part in parts)
        whole = any(part["end_ns"] - part["start_ns"] >= 0.8 * threshold for part in parts)
        if covered < 0.8 * threshold and not whole:
            elsewhere = any(overlap(stall["start_ns"], stall["end_ns"], entry["start_ns"], entry["end_ns"])
                            for entry in blocked if entry.get("pid") == stall.get("pid"))
            if stall.get("kind") in APART:
                apart[stall["kind"]] += 1
            elif stall.get("kind") == "gil_wait" and elsewhere:
                explained += 1
            elif "culprit" in stall and stall["culprit"] is None:
                apart["nobody blamed"] += 1
            else:
                false.append({"index": stall["index"], "kind": stall.get("kind"), "culprit": stall.get("culprit"),
                              "start_ns": stall["start_ns"], "ms": round(stall["duration_ns"] / 1e6, 3)})
            continue
        if not all(part["start_ns"] >= first and part["end_ns"] <= last for part in parts):
            continue  # cut off at an end of the recording: seen, but not to be judged
        # What it speaks of: not what it touches by a clock's error only (other tools' reports).
        parts = [part for part in parts if 2 * overlap(
            stall["start_ns"], stall["end_ns"], part["start_ns"], part["end_ns"])
            >= min(stall["duration_ns"], part["end_ns"] - part["start_ns"])] or parts
        # Same thread, most overlap: the iteration this stall is, when the truth has them.
        own = [entry for entry in iterations if same_thread(stall, entry)
               and overlap(stall["start_ns"], stall["end_ns"], entry["start_ns"], entry["end_ns"])]
        own = max(own, default=None, key=lambda entry: overlap(
            stall["start_ns"], stall["end_ns"], entry["start_ns"], entry["end_ns"]))
        start = own["start_ns"] if own else min(part["start_ns"] for part in parts)
        end = own["end_ns"] if own else max(part["end_ns"] for part in parts)
        errors.append((stall["duration_ns"] - (end - start)) / 1e6)
        starts.append((stall["start_ns"] - start) / 1e6)
        ends.append((stall["end_ns"] - end) / 1e6)

        # The line with the largest share; lines within a tenth of it are as good.
        shares = {}
        for part in parts:
            key = (part["file"], part["line"])
            shares[key] = shares.get(key, 0) + part["end_ns"] - part["start_ns"]
        most = max(shares.values())
        heads = [part for part in parts if shares[(part["file"], part["line"])] >= 0.9 * most]
        culprit = stall.get("culprit") or {}
        was_starved = stall.get("kind") == "cpu_starved" and any(_starved(part) for part in heads)
        if was_starved:
            starved += 1
            _tally(judged, "kind", True)
            if not culprit:
                continue
        hits = [part for part in heads if same_file(part["file"], culprit.get("file"))
                and culprit.get("line") in part.get("lines", [part["line"]])]
        _tally(judged, "headline", bool(hits))
        if not hits:
            wrong.append({"index": stall["index"], "said": culprit, "kind": stall.get("kind"),
                          "ms": round(stall["duration_ns"] / 1e6, 3),
                          "true": {key: heads[0].get(key) for key in ("kind", "file", "line", "function")}})
        heads = hits or heads
        function = (culprit.get("function") or "").rsplit(".", 1)[-1]  # 3.11+ may give the qualified name
        _tally(judged, "function", any(part["function"] == function for part in heads))
        if not was_starved:
            _tally(judged, "kind", any(
                stall.get("kind") in KINDS.get(part["kind"], {part["kind"]}) for part in heads))
        for name, said in [("syscall", culprit.get("syscall")), ("peer", culprit.get("peer")),
                           ("endpoint", stall.get("endpoint"))]:
            if any(name in part for part in heads):
                _tally(judged, name, any(part.get(name) == said for part in heads))

    true = sum(row["true"] for row in classes)
    found = sum(row["found"] for row in classes)
    return {
        "threshold_ms": threshold / 1e6, "reported": len(stalls), "true": true, "found": found,
        "recall": found / true if true else None,
        "classes": [row for row in classes if row["true"]], "missed": missed,
        "duration_error_ms": _spread([abs(error) for error in errors]),
        "duration_bias_ms": percentile(errors, 0.5),
        "start_error_ms": _spread([abs(error) for error in starts]),
        "end_error_ms": _spread([abs(error) for error in ends]),
        "accuracy": {name: {"right": right, "of": of, "share": right / of if of else None}
                     for name, (right, of) in judged.items()},
        "wrong_lines": wrong, "false": len(false), "false_reports": false,
        "apart": apart, "gil_wait_explained": explained, "starved": starved,
    }


def _starved(entry):
    return entry["kind"] in COMPUTES and 2 * entry.get("cpu_ns", float("inf")) < entry["end_ns"] - entry["start_ns"]


def _tally(judged, name, right):
    judged[name][0] += bool(right)
    judged[name][1] += 1


def _spread(values):
    return {"median": percentile(values, 0.5), "p95": percentile(values, 0.95), "max": max(values, default=None)}


def text(result, misses=False):
    def ms(value):
        return "-" if value is None else "%.3f" % value

    def share(value):
        return "-" if value is None else "%.1f %%" % (100 * value)

    lines = ["recall      %s  (%d of %d true stalls >= %g ms; %d reported)" % (
        share(result["recall"]), result["found"], result["true"], result["threshold_ms"], result["reported"])]
    for row in result["classes"]:
        lines.append("  %4g..%-4g ms  %d of %d" % (row["low_ms"], row["high_ms"], row["found"], row["true"]))
    for name in ("duration", "start", "end"):
        spread = result[name + "_error_ms"]
        lines.append("%-9s error  median %s  p95 %s  max %s ms" % (
            name, ms(spread["median"]), ms(spread["p95"]), ms(spread["max"])))
    lines.append("duration bias   median %s ms" % ms(result["duration_bias_ms"]))
    for name, row in result["accuracy"].items():
        if row["of"]:
            lines.append("%-9s %s  (%d of %d)" % (name, share(row["share"]), row["right"], row["of"]))
    if result["starved"]:
        lines.append("starved   %d  (rightly: the thread had less than half of its time on a CPU)" % result["starved"])
    lines.append("false     %d  (apart: %s; gil_wait explained by another loop: %d)" % (
        result["false"], ", ".join("%s %d" % pair for pair in result["apart"].items()),
        result["gil_wait_explained"]))
    if misses:
        for name in ("missed", "wrong_lines", "false_reports"):
            lines += ["%s %s" % (name, json.dumps(row)) for row in result[name]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth")
    parser.add_argument("report")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--misses", action="store_true", help="list what was missed, wrong or false")
    args = parser.parse_args()
    with open(args.report) as file:
        result = score(load_truth(args.truth), json.load(file))
    print(json.dumps(result, indent=1) if args.json else text(result, args.misses))


if __name__ == "__main__":
    sys.exit(main())
