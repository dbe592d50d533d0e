"""Whether a recommended number of workers and threads holds: what `scripts/bench --only sizing` measures.

For each workload a gunicorn of the starting shape is loaded and recorded; the recommendation of the report is read
and applied, and what is said then is read too. Then the start, the recommendation and a small grid of shapes are
measured in turn, in rounds, the second one backwards. Nothing here knows what is right: the best is what was measured to be best.
"""
import json
import math
import os
import random
import re
import socket
import subprocess
import sys
import time

SERVERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures", "servers")
# A shape is (workers, threads); one thread is gunicorn's sync worker, more are gthread's.
GRID = [(1, 1), (2, 1), (3, 1), (1, 24), (2, 8), (2, 24), (3, 16), (5, 8)]
ROUNDS = 2
RECORD_SECONDS = 11  # sizes of less than 10 s are not given
LOAD_SECONDS = 1.6
WARM_SECONDS = 0.4
ENOUGH = 0.95  # of the best: what varies from run to run is as much


class Workload:
    def __init__(self, name, cpu_ms, wait_ms, clients, start):
        self.name, self.cpu_ms, self.wait_ms, self.clients, self.start = name, cpu_ms, wait_ms, clients, start

    def words(self):
        return "%s: %.3g ms CPU, %.3g ms waiting, %d clients" % (self.name, self.cpu_ms, self.wait_ms, self.clients)


def workloads(seed, only):
    """Four of known kinds, and one that nobody chose: it is drawn by the seed."""
    rng = random.Random(seed)

    def log_uniform(low, high):
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    every = [
        Workload("computes", 20, 0, 16, (1, 1)),
        Workload("waits", 1, 80, 44, (1, 1)),
        Workload("both, mostly waiting", 4, 45, 44, (1, 4)),
        Workload("both, half and half", 10, 20, 30, (1, 1)),
        Workload("drawn by seed %d" % seed, log_uniform(1, 20), log_uniform(5, 100), rng.randint(8, 48),
                 rng.choice([(1, 1), (2, 1), (1, 2), (1, 4)])),
    ]
    return [one for one in every if any(part in one.name for part in only.split(","))]


class Gunicorn:
    """A server of one shape, ready to answer."""

    def __init__(self, interpreter, workload, shape):
        self.port = free_port()
        workers, threads = shape
        flags = ["-k", "gthread", "--threads", str(threads)] if threads > 1 else []
        self.process = subprocess.Popen(
            [interpreter, "-B", "-m", "gunicorn", "-b", "127.0.0.1:%d" % self.port, "-w", str(workers)] + flags
            + ["sizing_app:application"], cwd=SERVERS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, CPU_MS=repr(workload.cpu_ms), WAIT_MS=repr(workload.wait_ms)))
        self.wait_until_ready(workers)

    def wait_until_ready(self, workers):
        deadline = time.monotonic() + 30
        path = "/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(path) as children:
                forked = len(children.read().split())
            if forked >= workers and answers(self.port):
                time.sleep(0.2)  # those that were forked last import the application
                return
            time.sleep(0.05)
        self.end()
        sys.exit("bench: gunicorn did not come up; has --python its package?")

    def load(self, interpreter, clients, seconds):
        return subprocess.Popen(
            [interpreter, "-B", os.path.join(SERVERS, "sizing_load.py"), "--port", str(self.port), "--clients",
             str(clients), "--warm", str(WARM_SECONDS), "--seconds", str(seconds)], stdout=subprocess.PIPE)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(2)  # it lets its workers end what they do
        except subprocess.TimeoutExpired:
            self.process.send_signal(3)  # SIGQUIT: at once
            self.process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return one.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def record(stallspy, interpreter, workload, shape, folder):
    """What stallspy says of a server of this shape under load: its report."""
    out = os.path.join(folder, "report.json")
    server = Gunicorn(interpreter, workload, shape)
    try:
        load = server.load(interpreter, workload.clients, RECORD_SECONDS + 2)
        time.sleep(1)
        command = [stallspy, "record", "-p", str(server.process.pid), "-d", str(RECORD_SECONDS), "-q", "-f", "json",
                   "-o", out]
        code = subprocess.call(command, stdout=subprocess.DEVNULL)
        load.kill()
        load.wait()
    finally:
        server.end()
    if code != 0:
        sys.exit("bench: stallspy record ended with %d" % code)
    with open(out) as file:
        return json.load(file)


def recommendation(report, start):
    """What the report says to type: (shape, text to type or None, predicted throughput or None).

    Where it says nothing about the size, the start is what it recommends."""
    for finding in report["findings"]:
        for one in finding.get("recommendations", ()):
            if one["kind"] not in ("workers", "threads") or one["current"] == one["recommended"]:
                continue
            workers = re.search(r"(?:--workers |WORKER_NUM=|WEB_CONCURRENCY=)(\d+)", one["command"])
            threads = re.search(r"--threads (\d+)", one["command"])
            shape = (int(workers.group(1)) if workers else start[0], int(threads.group(1)) if threads else start[1])
            predicted = [effect["after"] for effect in one["predicted"] if effect["name"] == "throughput"]
            return shape, one["command"], predicted[0] if predicted else None
    return start, None, None


def run(stallspy, interpreter, seed, only, folder):
    """A dict of numbers for each workload, as they come."""
    for workload in workloads(seed, only):
        said = record(stallspy, interpreter, workload, workload.start, folder)
        shape, command, predicted = recommendation(said, workload.start)
        _, then, _ = recommendation(record(stallspy, interpreter, workload, shape, folder), shape)
        shapes = list(dict.fromkeys([workload.start, shape] + GRID))
        measured = {one: [] for one in shapes}
        for number in range(ROUNDS):
            for one in shapes[::1 if number % 2 == 0 else -1]:
                server = Gunicorn(interpreter, workload, one)
                try:
                    load = server.load(interpreter, workload.clients, LOAD_SECONDS)
                    measured[one].append(json.loads(load.communicate()[0]))
                finally:
                    server.end()
        result = judge(workload, shape, predicted, [summary(one, measured[one]) for one in shapes])
        yield dict(result, command=command, then=then)


def summary(shape, rounds):
    """Of a shape's rounds the better one: what else the machine does only takes away."""
    better = max(rounds, key=lambda one: one["rps"])
    return dict(better, shape=shape, rounds=rounds)


def judge(workload, shape, predicted, points):
    by_shape = {point["shape"]: point for point in points}
    recommended, start = by_shape[shape], by_shape[workload.start]
    grid = [by_shape[one] for one in GRID]
    best = max(grid, key=lambda point: point["rps"])
    enough = [point for point in grid if point["rps"] >= ENOUGH * best["rps"]]
    smallest = min(enough, key=lambda point: (point["shape"][0] * point["shape"][1], point["shape"][0]))
    return {"workload": workload.words(), "start": start, "recommended": recommended,
            "predicted_rps": predicted, "best": best, "smallest": smallest, "points": points,
            "of_best": recommended["rps"] / best["rps"]}


# ---- the tables: rows of words ------------------------------------------------------------------------------


def size(shape):
    return "%d × %d" % shape if shape[1] > 1 else "%d" % shape[0]


def p99(point):
    return "%s%.0f" % ("≥ " if point["p99_at_least"] else "", point["p99_ms"])


HEADER = ["workload", "start", "to type", "and then", "throughput / s: start, predicted, measured", "predicted / measured",
          "best of the grid", "recommended / best", "smallest with 0.95", "threads in all, workers: of the smallest",
          "p99, ms: start, recommended, best"]


def row(result):
    start, got, best, smallest = result["start"], result["recommended"], result["best"], result["smallest"]
    predicted, least = result["predicted_rps"], smallest["shape"]
    workers, threads = got["shape"]
    return [
        result["workload"], size(start["shape"]), result["command"] or "nothing", result["then"] or "nothing",
        "%.0f, %s, %.0f" % (start["rps"], "–" if predicted is None else "%.0f" % predicted, got["rps"]),
        "–" if predicted is None else "%.2f" % (predicted / max(got["rps"], 1e-9)),
        "%s: %.0f" % (size(best["shape"]), best["rps"]), "%.2f" % result["of_best"], size(least),
        "%d / %d, %d / %d" % (workers * threads, least[0] * least[1], workers, least[0]),
        "%s, %s, %s" % (p99(start), p99(got), p99(best))]


GRID_HEADER = ["workload"] + [size(shape) for shape in GRID]


def grid_row(result):
    by_shape = {point["shape"]: point["rps"] / result["best"]["rps"] for point in result["points"]}
    return [result["workload"].split(":")[0]] + ["%.2f" % by_shape[shape] for shape in GRID]
