"""Whether what a fix is predicted to do is what it does: what `scripts/bench --only whatif` measures.

Two servers whose loop two lines block are loaded by requests that arrive at random, and recorded. For each of the
two lines the report predicts the delay of the loop and what it can carry without it. Then the server is started
anew with that line fixed (`FIX=`, fixtures/servers/whatif_app.py), loaded by the very same arrivals, and recorded.
"""
import json
import os
import subprocess
import sys
import time

from serving import SERVERS, free_port, recorded

MIX = "2:/wait,3:/compute,30:/ping"
WAIT_MS, COMPUTE_MS = 100, 60
# The functions that the report is to blame, by the FIX that takes their work off the loop.
KINDS = {
    "uvicorn": ({"wait": ["wait"], "compute": ["compute"]},
                "-m uvicorn whatif_app:asgi --port %d --log-level warning --no-access-log --loop asyncio"),
    "gunicorn -k gevent": ({"wait": ["unpatched_wait"], "compute": ["digest"]},
                           "-m gunicorn whatif_app:wsgi -k gevent -b 127.0.0.1:%d --log-level error"),
}
EFFECTS = ("loop_lag_p50", "loop_lag_p99", "capacity")


def record(stallspy, interpreter, kind, fix, seconds, seed, folder):
    """The report of a server under load, and what its clients saw."""
    port, out = free_port(), os.path.join(folder, "report.json")
    server = subprocess.Popen(
        [interpreter, "-B"] + (KINDS[kind][1] % port).split(), cwd=SERVERS, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=dict(os.environ, FIX=fix, WAIT_MS=str(WAIT_MS), COMPUTE_MS=str(COMPUTE_MS)))

    def load(mix, length):
        return subprocess.Popen([interpreter, "-B", os.path.join(SERVERS, "open_load.py"), "--port", str(port), "--mix",
                                 mix, "--seconds", str(length), "--seed", str(seed)], stdout=subprocess.PIPE)

    try:
        deadline = time.monotonic() + 30
        while True:
            seen = json.loads(load("20:/compute", 0.3).communicate()[0])["/compute"]
            if seen["requests"] > seen["errors"]:
                break
            if time.monotonic() > deadline or server.poll() is not None:
                sys.exit("bench: %s did not come up; has --python its packages?" % kind)
        time.sleep(0.5)
        clients = load(MIX, seconds + 2)
        time.sleep(1)
        report = recorded(stallspy, server.pid, seconds, out)
        seen = json.loads(clients.communicate()[0])
    finally:
        server.terminate()
        server.wait()
    return report, seen


def predictions(report, functions):
    """{effect: (before, after)} of the recommendation for one of these functions; None without one."""
    for finding in report["findings"]:
        for one in finding["recommendations"]:
            if one["place"] and one["place"]["function"] in functions and one["predicted"]:
                return {effect["name"]: (effect["before"], effect["after"]) for effect in one["predicted"]}
    return None


def measured(report):
    """The same figures of a report as they are."""
    server = report["servers"][0]
    loop = max(server["loops"], key=lambda one: one["utilization"])
    return {"loop_lag_p50": loop["lag_p50_ns"] / 1e9, "loop_lag_p99": loop["lag_p99_ns"] / 1e9,
            "capacity": server["requests_per_second"] / loop["utilization"], "busy": loop["utilization"]}


def run(stallspy, interpreter, seconds, seed, folder):
    """A dict for each server and fix, as they come."""
    for kind, (functions, _) in KINDS.items():
        before, clients_before = record(stallspy, interpreter, kind, "", seconds, seed, folder)
        for fix, names in functions.items():
            after, clients_after = record(stallspy, interpreter, kind, fix, seconds, seed, folder)
            yield {"server": kind, "fix": fix, "predicted": predictions(before, names), "before": measured(before),
                   "after": measured(after), "ping_p99_ms": (clients_before["/ping"]["p99_ms"], clients_after["/ping"]["p99_ms"])}


HEADER = ["server, and what is fixed", "busy: before, after", "delay p50, ms: before, predicted, measured",
          "delay p99, ms: before, predicted, measured", "predicted / measured", "capacity / s: before, predicted, measured",
          "predicted / measured", "p99 of /ping for its clients, ms: before, after"]


def row(result):
    before, after, predicted = result["before"], result["after"], result["predicted"] or {}
    cells = ["%s, %s" % (result["server"], result["fix"]), "%.2f, %.2f" % (before["busy"], after["busy"])]
    for name, scale in (("loop_lag_p50", 1e3), ("loop_lag_p99", 1e3), ("capacity", 1)):
        told = predicted[name][1] if name in predicted else None
        cells.append("%.1f, %s, %.1f" % (before[name] * scale, "–" if told is None else "%.1f" % (told * scale), after[name] * scale))
        if name != "loop_lag_p50":
            cells.append("–" if told is None or not after[name] else "%.2f" % (told / after[name]))
    return cells + ["%.0f, %.0f" % result["ping_p99_ms"]]
