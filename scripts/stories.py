"""The stories of scripts/story: which servers, in which order, and what must be said of each.

A story is a function of a `Teller`. Each step starts a server, measures and records it; `expect` says what is to be
true of what stallspy said. What the next step changes is taken from there.
"""
import os
import re
import subprocess
import sys

import serving
from serving import STORIES as FOLDER

MEASURE_SECONDS = 4
WARM_SECONDS = 1
RECORD_SECONDS = 11  # a size takes ten seconds of looks
HOLDS_WITHIN = 0.25  # of what was predicted: the project's aim on its own fixtures


class Step:
    def __init__(self, title, command, measured, report):
        self.title, self.command, self.measured, self.report = title, command, measured, report
        self.found = [one for one in report["findings"] if one["verdict"] == "found"]
        self.missing, self.predicted, self.at_best = [], None, False

    @property
    def ids(self):
        return [one["id"] for one in self.found]

    @property
    def advice(self):
        return [one for finding in self.found for one in finding["recommendations"] if serving.changes(one)]

    def expect(self, condition, words):
        if not condition:
            self.missing.append("%s: expected %s; found %s" % (self.title, words, ", ".join(self.ids)))

    def expect_first(self, *ids):
        self.expect(self.ids[:1] and self.ids[0] in ids, "%s first" % " or ".join(ids))

    def expect_not(self, *ids):
        """None of these that users notice."""
        felt = [one["id"] for one in self.found if one["severity"] in ("medium", "high")]
        for one in ids:
            self.expect(one not in felt, "no %s" % one)

    def expect_found(self, name):
        self.expect(name in self.ids, name)

    def expect_line(self, file, mark, *remedies):
        """That a recommendation is about the line with this mark, and its words have all of these."""
        path, line = os.path.join(FOLDER, file), marked(file, mark)
        about = [one for one in self.advice if one["place"] and os.path.realpath(one["place"]["file"]) == path
                 and one["place"]["line"] == line]
        self.expect(about, "%s:%d (%s) named" % (file, line, mark))
        for words in remedies if about else ():
            self.expect(any(words in one["command"] for one in about), "%s:%d: %s" % (file, line, words))

    def expect_words(self, words):
        self.expect(any(words in one["command"] for one in self.advice), "to be told: " + words)

    def expect_why(self, name, *words):
        """That the reasons of a finding's recommendations have all of these words."""
        why = " ".join(one["reason"] for finding in self.found if finding["id"] == name
                       for one in finding["recommendations"])
        for one in words:
            self.expect(one in why, "%s because of %s" % (name, one))

    def number(self, kinds, pattern, otherwise):
        """What to type: the number after `pattern` in the first recommendation of these kinds. Its prediction is
        what the next step is held against."""
        for one in self.advice:
            match = re.search(pattern + r"(\d+)", one["command"])
            if one["kind"] in kinds and match:
                return int(match.group(1)), serving.predicted_throughput(one), one
        self.expect(False, "a number to type (%s)" % pattern)
        return otherwise, None, None

    def as_dict(self):
        return {"title": self.title, "command": self.command, "measured": self.measured, "predicted": self.predicted, "at_best": self.at_best,
                "findings": self.found, "missing": self.missing}


class Teller:
    def __init__(self, stallspy, python, folder, keep=None, only_words=False):
        self.stallspy, self.python, self.folder, self.keep, self.steps = stallspy, python, folder, keep, []
        self.only_words = only_words

    def bin(self, name):
        return [os.path.join(os.path.dirname(self.python), "python"), "-m", name]

    def step(self, title, command, clients, env=None, workers=0, predicted=None, seconds=MEASURE_SECONDS, more_than=None):
        """One server: measured, then recorded under the same load. Where `more_than` is given, what was predicted is the
        most that may come, and more than this has to."""
        words = " ".join("%s=%s" % pair for pair in shown(env)) + " " + " ".join(command[1:])
        print("\n== %s\n   %s" % (title, words.strip()), flush=True)
        server = serving.Server(command, FOLDER, env, workers)
        try:
            measured = serving.counted(server.load(self.python, clients, seconds, WARM_SECONDS))
            out = os.path.join(self.keep or self.folder, re.sub(r"[^a-z0-9]+", "-", title.lower()) + ".json")
            report = server.record(self.stallspy, self.python, clients, max(seconds, RECORD_SECONDS), out)
        finally:
            server.end()
        step = Step(title, words.strip(), measured, report)
        step.predicted, step.at_best = predicted, more_than is not None
        self.steps.append(step)
        self.print(step)
        if predicted is not None and not self.only_words:
            ratio = predicted / max(measured["rps"], 1e-9)
            words = "%.0f/s as predicted, got %.0f" % (predicted, measured["rps"])
            if more_than is None:
                step.expect(abs(ratio - 1) <= HOLDS_WITHIN, words)
            else:
                step.expect(ratio >= 1 - HOLDS_WITHIN and measured["rps"] > more_than, "at most " + words)
        return step

    def print(self, step):
        print("   throughput %s/s, p99 %s ms%s" % (
            number(step.measured["rps"]), p99(step.measured),
            "" if step.predicted is None else "; predicted %s%s/s" % ("at best " if step.at_best else "", number(step.predicted))))
        print("   VERDICT  %s" % step.report["summary"]["verdict"])
        for finding in step.found:
            print("   %-22s %s" % (finding["id"], finding["summary"]))
        for one in step.advice:
            place = "%s:%d: " % (os.path.basename(one["place"]["file"]), one["place"]["line"]) if one["place"] else ""
            print("   DO  %s%s  (%s)" % (place, one["command"], one["reason"]))
            for effect in one["predicted"]:
                print("       %s %.4g -> %.4g %s" % (effect["name"], effect["before"], effect["after"], effect["unit"]))
        sys.stdout.flush()


def shown(env):
    """The settings that the story is about, not its addresses."""
    return [(key, value) for key, value in (env or {}).items() if key not in ("API", "DATABASE", "PGPORT")]


def marked(file, mark):
    with open(os.path.join(FOLDER, file)) as lines:
        return next(number for number, line in enumerate(lines, 1) if line.rstrip().endswith("# line: " + mark))


class Helper:
    """A program beside the server that prints what it is reached by, and ends when its standard input does."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.words = self.process.stdout.readline().decode().split()
        if not self.words:
            sys.exit("story: %s did not come up" % " ".join(command))

    def __enter__(self):
        return self.words

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


# ---- the stories --------------------------------------------------------------------------------------------


def control_plane(tell):
    """FastAPI handlers that call the kubernetes client: off the loop, then more tokens.

    uvicorn, one worker, as timers live in the process; 100 clients; the API server answers in 50 to 200 ms, and says
    429 now and then, upon which the client's throttle sleeps."""
    with Helper([tell.python, "-B", os.path.join(FOLDER, "slow_api.py")]) as (port,):
        env = {"API": "http://127.0.0.1:" + port}
        command = tell.bin("uvicorn") + ["--port", "{port}", "--no-access-log", "control_plane:app"]
        clients = 100
        # One iteration of the loop answers everybody, one after the other: in 12 s.
        step = tell.step("`async def` handlers", command, clients, env, seconds=18)
        step.expect_first("loop-blocked-by-call")
        step.expect_line("control_plane.py", "call", "`def`")
        # In the same iterations, as its own call.
        step.expect_line("throttle.py", "throttle", "asyncio.sleep")

        step = tell.step("`def` handlers", command, clients, dict(env, HANDLERS="def"))
        step.expect_not("loop-blocked-by-call")
        step.expect_first("pool-saturated")
        tokens, predicted, _ = step.number(("thread_pool",), r"total_tokens = ", 40)

        step = tell.step("%d tokens" % tokens, command, clients, dict(env, HANDLERS="def", TOKENS=str(tokens)),
                         predicted=predicted)
        step.expect_not("loop-blocked-by-call", "pool-saturated")


def sqlite_gevent(tell):
    """Flask, SQLAlchemy and SQLite under gevent: workers with threads instead."""
    database = os.path.join(tell.folder, "orders.sqlite")
    env = {"DATABASE": database}
    subprocess.check_call([tell.python, "-B", os.path.join(FOLDER, "orders.py")], env=dict(os.environ, **env))
    gunicorn = tell.bin("gunicorn") + ["-b", "127.0.0.1:{port}", "orders:app"]
    clients = 24
    step = tell.step("gevent", gunicorn + ["-k", "gevent"], clients, env, 1)
    step.expect_first("loop-blocked-by-native", "loop-blocked-by-call")
    step.expect_line("orders.py", "query", "gthread")
    step.expect_found("wrong-worker-class")
    step.expect_words("-k gthread --workers 1 --threads ")  # SQLite lets one process write
    flags, predicted = sized(step)

    before = step.measured["rps"]
    command = gunicorn + ["-k", "gthread"] + flags
    step = tell.step("gthread, as advised", command, clients, env, 1, predicted, more_than=before)
    step.expect_not("loop-blocked-by-native", "loop-blocked-by-call", "wrong-worker-class")
    step.expect_first("gthread-starved")
    step.expect_words("no more workers or threads")  # the CPUs, or the lock of the database, are the limit
    step.expect_line("orders.py", "query", "PRAGMA journal_mode=WAL")

    before = step.measured["p99_ms"]
    step = tell.step("a write-ahead log, as advised then", command, clients, dict(env, JOURNAL="WAL"), 1)
    step.expect(step.measured["p99_ms"] < before, "a shorter p99 than %.0f ms" % before)
    step.expect(not any("journal_mode" in one["command"] for one in step.advice), "no more of SQLite's lock")


def postgres_gevent(tell):
    """psycopg2 under gevent: psycogreen, then the database's connections are the limit, then a pool."""
    postgres = os.path.join(serving.SERVERS, "postgres.py")
    with Helper([tell.python, "-B", postgres]) as (_, port):
        env = {"PGPORT": port, "QUERY_MS": "400"}
        gunicorn = tell.bin("gunicorn") + ["-b", "127.0.0.1:{port}", "-k", "gevent", "tickets:app"]
        # One iteration of the hub holds all their queries, one after the other; more clients would look hung.
        step = tell.step("as it is, 10 clients", gunicorn, 10, env, 1)
        step.expect_first("loop-blocked-by-call")
        step.expect_line("tickets.py", "query", "psycogreen")

        env["PSYCOGREEN"], clients = "1", 130
        step = tell.step("psycogreen, %d clients" % clients, gunicorn, clients, env, 1)
        step.expect_not("loop-blocked-by-call")
        step.expect_first("connection-limit")
        step.expect_found("connection-churn")
        step.expect_line("tickets.py", "connect", "keep a pool")
        size, _, _ = step.number(("config",), r"pool of at most ", 27)

        step = tell.step("a pool of %d" % size, gunicorn, clients, dict(env, POOL=str(size)), 1)
        step.expect_not("loop-blocked-by-call", "connection-limit", "connection-churn")
        step.expect_words("let more through at once where it is made, if what it guards can take more")


WAITS, COMPUTES = {"CPU_MS": "1", "WAIT_MS": "80"}, {"CPU_MS": "20", "WAIT_MS": "0"}
CLIENTS = 40
RULE_OF_THUMB = str(2 * os.cpu_count() + 1)


def gunicorn_of(tell, *flags):
    return tell.bin("gunicorn") + ["-b", "127.0.0.1:{port}", "shop:app"] + list(flags)


def sized(step):
    """The flags that a step said to type, and the throughput it predicted of them."""
    _, predicted, one = step.number(("workers", "threads"), r"(?:--workers|--threads) ", 1)
    return flags_of(one), predicted


def flags_of(one):
    """What a recommendation says to type."""
    flags = re.findall(r"(--workers|--threads) (\d+)", one["command"]) if one else []
    return [word for pair in flags for word in pair]


def threads(tell):
    """Requests that wait, under gunicorn's one default worker: threads."""
    step = tell.step("waiting, one default worker", gunicorn_of(tell), CLIENTS, WAITS, 1)
    step.expect_first("sync-starved")
    flags, predicted = sized(step)
    step.expect("--threads" in flags, "threads for what waits")
    step = tell.step("waiting, as advised", gunicorn_of(tell, *flags), CLIENTS, WAITS, 1, predicted)
    step.expect_not("sync-starved", "gthread-starved")
    step.expect(tell.only_words or not step.advice, "nothing to change")


def processes(tell):
    """2 × cores + 1 workers: too few for what waits, enough for what computes; and too many of them."""
    step = tell.step("waiting, 2 × cores + 1", gunicorn_of(tell, "--workers", RULE_OF_THUMB), CLIENTS, WAITS, 1)
    step.expect_first("sync-starved")
    flags, predicted = sized(step)
    step.expect("--threads" in flags, "threads for what waits")
    step = tell.step("waiting, as advised then", gunicorn_of(tell, *flags), CLIENTS, WAITS, 1, predicted)
    step.expect_not("sync-starved", "gthread-starved")

    step = tell.step("computing, one default worker", gunicorn_of(tell), CLIENTS, COMPUTES, 1)
    step.expect_first("sync-starved")
    flags, predicted = sized(step)
    step.expect("--threads" not in flags, "no threads for what computes")
    step = tell.step("computing, as advised", gunicorn_of(tell, *flags), CLIENTS, COMPUTES, 1, predicted)
    step.expect_words("no more workers or threads: make requests cheaper, or give the server more CPUs")

    step = tell.step("computing, 2 × cores + 1", gunicorn_of(tell, "--workers", RULE_OF_THUMB), CLIENTS, COMPUTES, 1)
    step.expect_words("no more workers or threads: make requests cheaper, or give the server more CPUs")
    many = str(8 * os.cpu_count())
    step = tell.step("computing, 8 × cores", gunicorn_of(tell, "--workers", many), CLIENTS, COMPUTES, 1)
    step.expect_found("too-many-workers")


def dev_server(tell):
    """`python app.py` in production, and what to type instead."""
    step = tell.step("python app.py", [tell.python, "shop.py", "{port}"], CLIENTS, WAITS)
    step.expect_first("dev-server")
    step.expect_words("gunicorn --workers %s --threads" % RULE_OF_THUMB)
    count, _, _ = step.number(("config",), "--threads ", 4)
    flags = ["--workers", RULE_OF_THUMB, "--threads", str(count)]
    step = tell.step("gunicorn, as advised", gunicorn_of(tell, *flags), CLIENTS, WAITS, 1)
    step.expect_not("dev-server")


def hypercorn(tell):
    """FastAPI on hypercorn's one default worker, which computes all the time."""
    command = tell.bin("hypercorn") + ["-b", "127.0.0.1:{port}", "shop_async:app"]
    needs = {"CPU_MS": "10", "WAIT_MS": "0"}
    step = tell.step("hypercorn, one worker", command, CLIENTS, needs)
    step.expect_first("too-few-workers")
    flags, predicted = sized(step)
    step = tell.step("hypercorn, as advised", command + flags, CLIENTS, needs, 0, predicted)
    step.expect_not("too-few-workers")


def one_process(tell):
    """A scheduler, a timer and SQLite in the only worker: threads, and workers once they are moved out."""
    gthread = tell.bin("gunicorn") + ["-b", "127.0.0.1:{port}", "-k", "gthread", "desk:app"]
    needs, own = {"CPU_MS": "6", "WAIT_MS": "50"}, {"DATABASE": os.path.join(tell.folder, "desk.sqlite")}
    step = tell.step("all in one worker", gthread + ["--threads", "2"], CLIENTS, dict(needs, **own), 1)
    step.expect_first("gthread-starved")
    step.expect_found("single-process-state")
    flags, predicted = sized(step)
    step.expect("--threads" in flags and "--workers" not in flags, "threads, and no more workers")
    step.expect_why("single-process-state", "APScheduler (remind) at desk.py:%d" % marked("desk.py", "remind"),
                    "flush at desk.py:%d every 1.0 s" % marked("desk.py", "flush"), "desk.sqlite")
    step = tell.step("threads, as advised", gthread + flags, CLIENTS, dict(needs, **own), 1, predicted)
    step.expect_words("keep 1 worker: 1 scheduler, 1 timer and 1 SQLite database written to live in it")
    # What is to be typed once they have a process of their own.
    one = next((one for one in step.advice if "to have more" in one["command"]), None)
    flags, predicted = flags_of(one), serving.predicted_throughput(one)
    step.expect("--workers" in flags and predicted, "a number of workers for later")
    step = tell.step("jobs moved out, as advised then", gthread + flags, CLIENTS, needs, 1, predicted)
    step.expect_not("single-process-state")


STORIES = {"control-plane": control_plane, "sqlite-gevent": sqlite_gevent, "postgres-gevent": postgres_gevent,
           "threads": threads, "processes": processes, "dev-server": dev_server, "hypercorn": hypercorn, "one-process": one_process}


def tell(name, stallspy, python, folder, keep=None, only_words=False):
    teller = Teller(stallspy, python, folder, keep, only_words)
    print("# %s: %s" % (name, STORIES[name].__doc__.splitlines()[0]))
    STORIES[name](teller)
    return {"name": name, "steps": [step.as_dict() for step in teller.steps]}


# ---- in words -----------------------------------------------------------------------------------------------


def number(value):
    return "%.0f" % value if value >= 100 else "%.3g" % value


def p99(measured):
    return "%s%.0f" % ("≥ " if measured["p99_at_least"] else "", measured["p99_ms"])


def markdown(result):
    """A story's table."""
    rows = ["### %s\n" % result["name"], "| step | throughput / s | predicted | p99, ms | errors | verdict | what to do |",
            "|---|---|---|---|---|---|---|"]
    for step in result["steps"]:
        measured, findings = step["measured"], step["findings"]
        do = [one for finding in findings for one in finding["recommendations"]][:2]
        rows.append("| %s | %s | %s | %s | %d | %s | %s |" % (
            step["title"], number(measured["rps"]), "–" if step["predicted"] is None else ("≤ " if step["at_best"] else "") + number(step["predicted"]),
            p99(measured), measured["errors"],
            "%s: %s" % (findings[0]["id"], findings[0]["summary"]) if findings else "–",
            "; ".join(words(one) for one in do) or "nothing"))
    return "\n".join(rows) + "\n"


def words(one):
    place = "%s:%d: " % (os.path.basename(one["place"]["file"]), one["place"]["line"]) if one["place"] else ""
    return place + one["command"]
