"""Servers that are started, loaded and recorded: what scripts/story, scripts/sizing.py and scripts/whatif.py share."""
import json
import os
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERVERS = os.path.join(ROOT, "fixtures", "servers")
STORIES = os.path.join(ROOT, "fixtures", "stories")
READY_SECONDS = 30


class Server:
    """A server in a process of its own, ready to answer. Its command may hold {port}."""

    def __init__(self, command, cwd, env=None, workers=0):
        self.port = free_port()
        self.process = subprocess.Popen(
            [part.replace("{port}", str(self.port)) for part in command], cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **(env or {})))
        self.wait_until_ready(workers)

    def wait_until_ready(self, workers):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if len(children(self.process.pid)) >= workers and answers(self.port):
                time.sleep(0.2)  # those that were started last import the application
                return
            time.sleep(0.05)
        self.end()
        sys.exit("%s did not come up; has the Python its packages?" % self.process.args[:4])

    def load(self, interpreter, clients, seconds, warm):
        """Clients that each wait for their answer; `counted` reads what they print at their end."""
        return subprocess.Popen(
            [interpreter, "-B", os.path.join(SERVERS, "sizing_load.py"), "--port", str(self.port), "--clients",
             str(clients), "--warm", str(warm), "--seconds", str(seconds)], stdout=subprocess.PIPE)

    def record(self, stallspy, interpreter, clients, seconds, out, recording=None):
        """What stallspy says of this server under load: its report; the recording is kept where one is to be."""
        load = self.load(interpreter, clients, seconds + 2, 0)
        try:
            time.sleep(1)
            return recorded(stallspy, self.process.pid, seconds, out, recording)
        finally:
            load.kill()
            load.communicate()

    def end(self):
        started = [self.process.pid] + children(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(2)  # it lets its workers end what they do
        except subprocess.TimeoutExpired:
            for pid in started:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            self.process.wait()


def counted(load):
    return json.loads(load.communicate()[0])


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def recorded(stallspy, pid, seconds, out, recording=None):
    """What stallspy says of a running server: its report, which is kept at `out`, and the recording if it is to be."""
    command = [stallspy, "record", "-p", str(pid), "-d", str(seconds), "-q", "-f", "json", "-o", out]
    code = subprocess.call(command + (["-f", "recording", "-o", recording] if recording else []), stdout=subprocess.DEVNULL)
    if code != 0:
        sys.exit("stallspy record ended with %d" % code)
    with open(out) as file:
        return json.load(file)


def advised_by_both(stallspy, before, after):
    """What stallspy says of one recording with an earlier one of the same server at another size."""
    return json.loads(subprocess.check_output([stallspy, "advise", after, "--before", before, "--json"]))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def lasting_port():
    """A port for what is started several times: none of those that Linux gives to clients, from 32768 on by default."""
    for port in range(20432, 32768):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    sys.exit("no port is free")


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return one.recv(100).startswith(b"HTTP/1.")
    except OSError:
        return False


def wait_for(port, process):
    """Until something listens at a port, or the process that was to has ended."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 5):
                return
        except OSError:
            time.sleep(0.02)
    process.kill()
    sys.exit("%s did not come up" % process.args[:4])


def advice(report, kinds):
    """The first recommendation of one of these kinds, or None."""
    every = (one for finding in report["findings"] for one in finding.get("recommendations", ()))
    return next((one for one in every if one["kind"] in kinds and changes(one)), None)


def changes(recommendation):
    """Whether it is more than to keep what there is."""
    return recommendation["recommended"] is None or recommendation["current"] != recommendation["recommended"]


def predicted_throughput(recommendation):
    effects = recommendation["predicted"] if recommendation else ()
    return next((effect["after"] for effect in effects if effect["name"] == "throughput"), None)
