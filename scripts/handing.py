"""What handing the interpreter lock from thread to thread costs: what `scripts/bench --only handing` measures.

gunicorn's gthread answers requests that compute and wait (`fixtures/servers/sizing_app.py`), in processes of several
threads, loaded by more clients than it takes to keep their locks busy. What the workers' CPU time for a request would
allow, one lock for each process, is set against what got done.
"""
import os

import serving
import sizing

CPU_MS, WAIT_MS, CLIENTS = (0.5, 1, 2, 4, 8, 16), 20, 48
SHAPES = [(1, 24), (1, 48), (2, 12), (2, 24), (4, 12)]
ROUNDS, LOAD_SECONDS = 2, 2.0
TICKS = os.sysconf("SC_CLK_TCK")

HEADER = ["CPU of a request, ms", "size"] + ["throughput / s", "CPU time of the workers for a request, ms",
                                             "time of a process for a request, ms", "of its lock, used"]


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/stat" % pid) as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def point(interpreter, cpu_ms, size):
    workload = sizing.Workload("", cpu_ms, WAIT_MS, CLIENTS, size)
    server = workload.serve(interpreter, size)
    try:
        pids = serving.children(server.process.pid)
        before = cpu_seconds(pids)
        load = serving.counted(server.load(interpreter, CLIENTS, LOAD_SECONDS, sizing.WARM_SECONDS))
        answered = load["rps"] * (LOAD_SECONDS + sizing.WARM_SECONDS)
        return load["rps"], (cpu_seconds(pids) - before) / max(answered, 1)
    finally:
        server.end()


def run(interpreter):
    """A row of numbers for each size, the better of two rounds, as they come."""
    for cpu_ms in CPU_MS:
        for size in SHAPES:
            rps, cpu = max(point(interpreter, cpu_ms, size) for _ in range(ROUNDS))
            kept = size[0] / rps
            yield {"cpu_ms": cpu_ms, "size": size, "rps": rps, "cpu": cpu, "kept": kept, "used": cpu / kept}


def row(one):
    return ["%g" % one["cpu_ms"], "%d × %d" % one["size"], "%.0f" % one["rps"], "%.2f" % (one["cpu"] * 1e3),
            "%.2f" % (one["kept"] * 1e3), "%.2f" % one["used"]]
