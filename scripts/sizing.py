"""Whether a recommended number of workers, threads or tokens holds: what `scripts/bench --only sizing` measures.

For each workload a server of the starting size is loaded and recorded; the recommendation of the report is read
and applied, and what is said then is read too: of that recording alone, and with the one from before (`--before`). Then the start, the recommendation and a small grid of sizes are
measured in turn, in rounds, the second one backwards. Nothing here knows what is right: the best is what was measured to be best.
"""
import math
import os
import random
import re
import subprocess

import serving

ROUNDS = 2
RECORD_SECONDS = 11  # sizes of less than 10 s are not given
LOAD_SECONDS = 2.0
WARM_SECONDS = 1.0  # all clients come at once, and are spread after some rounds of requests
ENOUGH = 0.95  # of the best: what varies from run to run is as much


class Workload:
    """Requests of one kind on gunicorn's workers: a size is (workers, threads)."""

    grid = [(1, 1), (2, 1), (3, 1), (1, 24), (2, 8), (2, 24), (3, 16), (5, 8)]

    def __init__(self, name, cpu_ms, wait_ms, clients, start):
        self.name, self.cpu_ms, self.wait_ms, self.clients, self.start = name, cpu_ms, wait_ms, clients, start

    def words(self):
        return "%s: %.3g ms CPU, %.3g ms waiting, %d clients" % (self.name, self.cpu_ms, self.wait_ms, self.clients)

    def needs(self):
        return {"CPU_MS": repr(self.cpu_ms), "WAIT_MS": repr(self.wait_ms)}

    def serve(self, interpreter, size):
        workers, threads = size
        flags = ["-k", "gthread", "--threads", str(threads)] if threads > 1 else []
        command = [interpreter, "-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", str(workers)] + flags
        return serving.Server(command + ["sizing_app:application"], serving.SERVERS, self.needs(), workers)

    def recommended(self, report, start):
        """What the report says to type: (size, text to type or None, predicted throughput or None).

        Where it says nothing about the size, the start is what it recommends."""
        one = serving.advice(report, self.kinds)
        size = one and self.typed(one["command"], start)
        if not size:
            return start, None, None
        return size, one["command"], serving.predicted_throughput(one)

    kinds = ("workers", "threads")

    def typed(self, command, start):
        workers = re.search(r"(?:--workers |WORKER_NUM=|WEB_CONCURRENCY=)(\d+)", command)
        threads = re.search(r"--threads (\d+)", command)
        return int(workers.group(1)) if workers else start[0], int(threads.group(1)) if threads else start[1]

    def resources(self, size):
        """Least first: what the smallest size is chosen by."""
        return size[0] * size[1], size[0]

    def size_words(self, size):
        return "%d × %d" % size if size[1] > 1 else "%d" % size[0]


class Loops(Workload):
    """Requests that compute on an event loop, of uvicorn's workers or gunicorn's gevent: a size is the workers."""

    grid = [1, 2, 3, 4]
    kinds = ("workers",)

    def __init__(self, *arguments, gevent=False):
        super().__init__(*arguments)
        self.gevent = gevent

    def serve(self, interpreter, size):
        command = [interpreter, "-m", "uvicorn", "--port", "{port}", "--no-access-log", "--workers", str(size),
                   "sizing_async:app"]
        if self.gevent:
            command = [interpreter, "-m", "gunicorn", "-b", "127.0.0.1:{port}", "-k", "gevent", "-w", str(size),
                       "sizing_app:application"]
        return serving.Server(command, serving.SERVERS, self.needs(), size if self.gevent or size > 1 else 0)

    def typed(self, command, start):
        workers = re.search(r"--workers (\d+)", command)
        return int(workers.group(1)) if workers else None

    def resources(self, size):
        return (size,)

    def size_words(self, size):
        return str(size)


class Tokens(Loops):
    """Requests that compute and wait in threads of anyio's or of the loop's executor, of one uvicorn: a size is its tokens."""

    grid = [20, 40, 80, 120, 200]
    kinds = ("thread_pool",)
    handlers = "def"

    def serve(self, interpreter, size):
        command = [interpreter, "-m", "uvicorn", "--port", "{port}", "--no-access-log", "sizing_async:app"]
        return self.start_of(interpreter, command, dict(self.needs(), HANDLERS=self.handlers, TOKENS=str(size)), 0)

    def start_of(self, interpreter, command, env, workers):
        return serving.Server(command, serving.SERVERS, env, workers)

    def typed(self, command, start):
        tokens = re.search(r"(?:total_tokens = |ThreadPoolExecutor\((?:max_workers=)?)(\d+)", command)
        return int(tokens.group(1)) if tokens else None


class Connections(Loops):
    """Requests that wait on gunicorn's gevent: a size is the connections of its worker."""

    grid = [20, 50, 100, 200, 1000]
    kinds = ("connections",)

    def serve(self, interpreter, size):
        command = [interpreter, "-m", "gunicorn", "-b", "127.0.0.1:{port}", "-k", "gevent", "--worker-connections",
                   str(size), "sizing_app:application"]
        return self.start_of(interpreter, command, self.needs(), 1)

    def start_of(self, interpreter, command, env, workers):
        return serving.Server(command, serving.SERVERS, env, workers)

    def typed(self, command, start):
        connections = re.search(r"--worker-connections (\d+)", command)
        return int(connections.group(1)) if connections else None


class Pool(Workload):
    """Requests that wait for a database on gunicorn's gthread, on connections of SQLAlchemy's: a size is (workers, threads,
    connections of each worker)."""

    grid = [(1, 8, 4), (1, 8, 8), (1, 24, 4), (1, 24, 24), (2, 24, 4), (2, 24, 12), (2, 24, 24), (3, 16, 16)]
    kinds = ("workers", "threads", "connections")
    at_once = 0  # as many as come

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.port = serving.lasting_port()  # whatever the server's size, the database is where it was

    def serve(self, interpreter, size):
        workers, threads, pool = size
        database = Database(interpreter, self.port, self.wait_ms, self.at_once)
        env = {"CPU_MS": repr(self.cpu_ms), "DATABASE_PORT": str(database.port), "POOL": str(pool)}
        command = [interpreter, "-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", str(workers), "-k", "gthread",
                   "--threads", str(threads), "sizing_app:application"]
        return WithDatabase(database, command, serving.SERVERS, env, workers)

    def typed(self, command, start):
        workers, threads = super().typed(command, start[:2])
        pool = re.search(r"pool_size=(\d+)", command)
        return workers, threads, int(pool.group(1)) if pool else start[2]

    def resources(self, size):
        return size[0] * size[1], size[0], size[0] * size[2]

    def size_words(self, size):
        return "%d × %d, pool of %d" % size if size[2] else "%d × %d" % size[:2]


class BusyDatabase(Pool):
    """Requests that wait for a database which works on 8 at once, on gunicorn's gthread, each thread with its connection: a
    size is (workers, threads)."""

    grid = [(1, 4, 0), (1, 8, 0), (1, 12, 0), (1, 24, 0), (2, 4, 0), (2, 12, 0), (2, 24, 0)]
    at_once = 8


class BeforeDatabase:
    """Requests that wait for a database which works on so many at once, each on a connection of its own."""

    def __init__(self, *arguments, at_once):
        super().__init__(*arguments)
        self.at_once, self.port = at_once, serving.lasting_port()

    def start_of(self, interpreter, command, env, workers):
        database = Database(interpreter, self.port, self.wait_ms, self.at_once)
        return WithDatabase(database, command, serving.SERVERS, dict(env, DATABASE_PORT=str(database.port)), workers)


class BusyTokens(BeforeDatabase, Tokens):
    """The same in threads of anyio's, of one uvicorn: a size is its tokens."""

    grid = [20, 40, 60, 80, 120, 200]


class BusyExecutor(BusyTokens):
    """The same in threads of the loop's executor: a size is how many it has."""

    handlers = "to_thread"


class BusyConnections(BeforeDatabase, Connections):
    """The same on gunicorn's gevent: a size is the connections of its worker."""

    grid = [10, 20, 30, 40, 60, 100]


class Database:
    """`sizing_database.py` in a process of its own."""

    def __init__(self, interpreter, port, wait_ms, at_once):
        self.port = port
        self.process = subprocess.Popen(
            [interpreter, "-B", os.path.join(serving.SERVERS, "sizing_database.py"), "--port", str(self.port),
             "--wait-ms", repr(wait_ms), "--at-once", str(at_once)])
        serving.wait_for(self.port, self.process)


class WithDatabase(serving.Server):
    """A server and the database behind it."""

    def __init__(self, database, *arguments):
        self.database = database
        super().__init__(*arguments)

    def end(self):
        super().end()
        self.database.process.kill()
        self.database.process.wait()


def workloads(seed, only):
    """Some of each kind, and of each one that nobody chose: it is drawn by the seed."""
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
        Pool("a pool of connections", 1, 80, 24, (1, 24, 4)),
        Pool("threads and a pool of connections", 1, 80, 44, (1, 8, 4)),
        BusyDatabase("a busy database", 1, 80, 44, (1, 4, 0)),
        BusyDatabase("a busy database, more threads", 1, 80, 44, (1, 12, 0)),
        Loops("on a loop", 6, 30, 40, 1),
        Loops("on a loop, drawn by seed %d" % seed, log_uniform(2, 20), log_uniform(5, 50), rng.randint(16, 64), 1),
        Loops("on a gevent hub", 6, 30, 40, 1, gevent=True),
        Connections("a gevent hub's connections", 1, 120, 60, 20),
        Connections("a gevent hub's connections, drawn by seed %d" % seed, log_uniform(0.5, 2), log_uniform(60, 240),
                    rng.randint(40, 120), rng.choice([10, 20])),
        Tokens("in anyio's threads", 1, 120, 100, 40),
        Tokens("in anyio's threads, drawn by seed %d" % seed, log_uniform(0.5, 3), log_uniform(60, 240),
               rng.randint(60, 140), rng.choice([20, 40])),
        BusyTokens("anyio's threads before a busy database", 1, 400, 100, 40, at_once=50),
        BusyExecutor("an executor's threads before a busy database", 1, 400, 100, 20, at_once=50),
        BusyConnections("a hub's connections before a busy database", 1, 250, 60, 20, at_once=32),
    ]
    return [one for one in every if any(one.name.startswith(part) for part in only.split(","))]


def record(stallspy, interpreter, workload, size, folder, recording):
    server = workload.serve(interpreter, size)
    try:
        return server.record(stallspy, interpreter, workload.clients, RECORD_SECONDS, os.path.join(folder, "report.json"),
                             recording)
    finally:
        server.end()


def run(stallspy, interpreter, seed, only, folder):
    """A dict of numbers for each workload, as they come."""
    for workload in workloads(seed, only):
        before, after = (os.path.join(folder, name + ".stallspy") for name in ("before", "after"))
        said = record(stallspy, interpreter, workload, workload.start, folder, before)
        first, command, predicted = workload.recommended(said, workload.start)
        _, then, _ = workload.recommended(record(stallspy, interpreter, workload, first, folder, after), first)
        both = serving.advised_by_both(stallspy, before, after) if first != workload.start else said
        size, with_both, better = workload.recommended(both, first)
        # Where both say that another is better than what one alone does it is that which has to hold.
        with_both = with_both if with_both != then else None
        size, predicted = (size, better) if with_both else (first, predicted)
        sizes = list(dict.fromkeys([workload.start, first, size] + workload.grid))
        measured = {one: [] for one in sizes}
        for number in range(ROUNDS):
            for one in sizes[::1 if number % 2 == 0 else -1]:
                server = workload.serve(interpreter, one)
                try:
                    load = server.load(interpreter, workload.clients, LOAD_SECONDS, WARM_SECONDS)
                    measured[one].append(serving.counted(load))
                finally:
                    server.end()
        result = judge(workload, size, predicted, [summary(one, measured[one]) for one in sizes])
        yield dict(result, command=command, then=then, with_both=with_both)


def summary(size, rounds):
    """Of a size's rounds the better one: what else the machine does only takes away."""
    better = max(rounds, key=lambda one: one["rps"])
    return dict(better, size=size, rounds=rounds)


def judge(workload, size, predicted, points):
    by_size = {point["size"]: point for point in points}
    recommended, start = by_size[size], by_size[workload.start]
    grid = [by_size[one] for one in workload.grid]
    best = max(grid, key=lambda point: point["rps"])
    enough = [point for point in grid if point["rps"] >= ENOUGH * best["rps"]]
    smallest = min(enough, key=lambda point: workload.resources(point["size"]))
    words = {name: workload.size_words(point["size"])
             for name, point in (("start", start), ("best", best), ("smallest", smallest))}
    resources = [" / ".join("%d" % number for number in pair)
                 for pair in zip(workload.resources(size), workload.resources(smallest["size"]))]
    shares = ["%s: %.2f" % (workload.size_words(one), by_size[one]["rps"] / best["rps"]) for one in workload.grid]
    return {"workload": workload.words(), "kind": type(workload).__doc__, "start": start, "recommended": recommended,
            "predicted_rps": predicted, "best": best, "smallest": smallest, "points": points, "words": words,
            "resources": ", ".join(resources), "shares": ", ".join(shares), "of_best": recommended["rps"] / best["rps"]}


# ---- the tables: rows of words ------------------------------------------------------------------------------


def p99(point):
    return "%s%.0f" % ("≥ " if point["p99_at_least"] else "", point["p99_ms"])


def then(result):
    alone, both = result["then"] or "nothing", result["with_both"]
    return "%s; with both recordings: %s" % (alone, both) if both else alone


HEADER = ["workload", "start", "to type", "and then", "throughput / s: start, predicted, measured", "predicted / measured",
          "best of the grid", "recommended / best", "smallest with 0.95", "of that: recommended / smallest",
          "p99, ms: start, recommended, best"]


def row(result):
    start, got, best, words = result["start"], result["recommended"], result["best"], result["words"]
    predicted = result["predicted_rps"]
    return [
        result["workload"], words["start"], result["command"] or "nothing", then(result),
        "%.0f, %s, %.0f" % (start["rps"], "–" if predicted is None else "%.0f" % predicted, got["rps"]),
        "–" if predicted is None else "%.2f" % (predicted / max(got["rps"], 1e-9)),
        "%s: %.0f" % (words["best"], best["rps"]), "%.2f" % result["of_best"], words["smallest"], result["resources"],
        "%s, %s, %s" % (p99(start), p99(got), p99(best))]


GRID_HEADER = ["workload", "of the best throughput, each size of the grid has"]


def grid_row(result):
    return [result["workload"].split(":")[0], result["shares"]]
