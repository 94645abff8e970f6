#!/usr/bin/env python3
"""Clients that are slow or silent on purpose, and what they do to everybody else.

Starts a simulated CC-Gateway and previewgate with TLS in front of it, sends a steady 50 requests a second (resources,
polls and callouts in turn) on kept connections and two more on new ones, and meanwhile attacks: slowhttptest's four
attacks, and connections that never say anything. Prints one row of a Markdown table for each: the latency of the steady
requests beside what it was in the quiet seconds just before, the gateway's memory, and what became of the attackers.

    cargo build --release
    python3 benches/slow_clients.py                      # all, about seven minutes
    python3 benches/slow_clients.py slowloris silent-tls # some
    python3 benches/slow_clients.py --help

Needs Python 3.11, openssl, slowhttptest (both are Debian packages) and a limit of open files above 12000.
Everything runs on 127.0.0.1 and ends with the script.

The gateway has the machine's processors but one for itself, as it has elsewhere; all others share the last one, and
attackers get what the rest leaves. What they still take (caches, the kernel's locks and memory) is shown by
`--neighbour`: it attacks a second gateway, and measures the first.
"""

import argparse
import asyncio
import csv
import json
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

API = "/agentgateway/resource"
AGENT, CONTROL_ID, NUMBER = 1001, 7001, "5550101"
KEPT_CONNECTIONS = 10
REQUESTS_PER_CONNECTION = 5.0  # a second
NEW_CONNECTIONS = 2.0  # a second
PATIENCE = 10.0
DOWNLOAD = 1024 * 1024  # what the gateway does not hold waits in the kernel's buffers, which are not without end

# Name: arguments of slowhttptest, {url} being the API.
SLOWHTTPTEST = {
    "slowloris": "-H -i 5 -x 24 -t GET -u {url}/voicecall/1001/answer",
    "slow-body": "-B -i 5 -s 8192 -x 16 -t PUT -u {url}/recordplay/1001/upload",
    "slow-callout": "-B -i 5 -s 8192 -x 16 -t PUT -f application/json -u {url}/voicecall/1001/previewCallout",
    "range": "-R -t HEAD -a 10 -b 3000 -u {url}/recordplay/1001/download?bytes=1000000",
    "slow-read": f"-X -w 1 -y 512 -n 5 -z 32 -u {{url}}/recordplay/1001/download?bytes={DOWNLOAD}",
}
SILENT = ["silent-tcp", "silent-tls"]
PROCESSORS = sorted(os.sched_getaffinity(0))
COLUMNS = ["attack", "connections", "kept p50 (ms)", "kept p99", "new p50", "new p99", "failed"]
COLUMNS += ["RSS before / most / after (MiB)", "CPU (s)", "attackers"]


# ------------------------------------------------------------------------------------------------ the steady clients


class Client:
    """One HTTP/1.1 connection."""

    def __init__(self, port, tls):
        self.port, self.tls, self.streams = port, tls, None

    async def request(self, method, path, headers=(), body=b""):
        """Status, header section and body."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        reader, writer = self.streams
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        answer = await reader.readexactly(int(length[1])) if length else b""
        return int(head.split(" ", 2)[1]), head, answer

    def close(self):
        if self.streams is not None:
            self.streams[1].transport.abort()
        self.streams = None


async def agent_session(port, tls, simulator):
    """Signs the agent in, lets it see a preview, and returns its GUID."""
    client = Client(port, tls)
    _, head, _ = await client.request("PUT", f"{API}/onlineagent/{AGENT}/forcelogin", body=b"{}")
    guid = re.search(r"(?i)set-guid: JSESSIONID=(\S+)", head)[1]
    preview = json.dumps({"controlid": CONTROL_ID, "dialeddigits": NUMBER}).encode()
    await asyncio.to_thread(urllib.request.urlopen, f"{simulator}/simulator/agents/{AGENT}/preview", preview)
    event = b""
    while b"Preview_CallOut" not in event:
        _, _, event = await client.request("GET", f"{API}/agentevent/{AGENT}", [f"Guid: {guid}"])
    client.close()
    return guid


def steady_requests(guid):
    """A resource, a callout and the poll that fetches one of its events, over and over."""
    headers = [f"Guid: {guid}"]
    callout = json.dumps({"called": NUMBER, "callcontrolid": CONTROL_ID}).encode()
    while True:
        yield "GET", f"{API}/voicecall/{AGENT}/anything", headers, b""
        yield "PUT", f"{API}/voicecall/{AGENT}/previewCallout", headers, callout
        yield "GET", f"{API}/agentevent/{AGENT}", headers, b""


async def steadily(port, ca, simulator, seconds):
    tls = ssl.create_default_context(cafile=ca)
    guid = await agent_session(port, tls, simulator)
    end = time.monotonic() + seconds
    kept, new, failures = [], [], []

    async def one(client, request, times):
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                status, _, body = await client.request(*request)
            times.append(time.perf_counter() - began)
            if status != 200 or b'"retcode":"0"' not in body:
                failures.append(f"{status} {body[:120]!r}")
        except (OSError, EOFError, TimeoutError) as error:
            failures.append(repr(error))
            client.close()

    async def keep(phase):
        client, requests = Client(port, tls), steady_requests(guid)
        for _ in range(phase):
            next(requests)
        due = time.monotonic() + phase / KEPT_CONNECTIONS / REQUESTS_PER_CONNECTION
        await one(client, next(requests), [])  # connects
        while (due := due + 1 / REQUESTS_PER_CONNECTION) < end:
            await asyncio.sleep(due - time.monotonic())
            await one(client, next(requests), kept)
        client.close()

    async def renew():
        requests, due = steady_requests(guid), time.monotonic()
        while (due := due + 1 / NEW_CONNECTIONS) < end:
            await asyncio.sleep(due - time.monotonic())
            client = Client(port, tls)
            await one(client, next(requests), new)
            client.close()

    await asyncio.gather(renew(), *(keep(phase) for phase in range(KEPT_CONNECTIONS)))
    return kept, new, failures


def measure(*arguments):
    return asyncio.run(steadily(*arguments))


# -------------------------------------------------------------------------------------------------- the silent clients


async def say_nothing(port, ca, count, with_tls, seconds):
    """Seconds after which each connection was ended by the other side; how many never came about or never ended."""
    tls = ssl.create_default_context(cafile=ca) if with_tls else None
    at_once = asyncio.Semaphore(64)
    lasted, refused = [], []

    async def one():
        async with at_once:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            except OSError as error:
                return refused.append(repr(error))
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await reader.read()
        except TimeoutError:
            return writer.transport.abort()
        except OSError:
            pass
        lasted.append(time.monotonic() - began)
        writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(count)))
    return lasted, refused


def stand_back():
    """Attackers get what time those who are measured leave, on the processor that is not the gateway's."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def silence(*arguments):
    stand_back()
    return asyncio.run(say_nothing(*arguments))


# --------------------------------------------------------------------------------------------------------- the stage


class Apart:
    """A function at work in a process of its own."""

    def __init__(self, function, *arguments):
        context = multiprocessing.get_context("spawn")
        self.outcome, there = context.Pipe(duplex=False)
        self.process = context.Process(target=Apart.work, args=(there, function, arguments), daemon=True)
        self.process.start()
        there.close()

    @staticmethod
    def work(there, function, arguments):
        there.send(function(*arguments))

    def result(self):
        outcome = self.outcome.recv()
        self.process.join()
        return outcome


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(directory):
    """An authority `ca.crt`, and `server.crt` with `server.key`."""
    key = ["-newkey", "rsa:2048", "-nodes", "-days", "30"]  # as most sites have it, and the dearest for a server
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    for command in (
        ["-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.crt"],
        ["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.crt", "-CA", "ca.crt", "-CAkey", "ca.key"]
        + names,
    ):
        subprocess.run(["openssl", "req", "-x509", *key, *command], cwd=directory, check=True, capture_output=True)


class Stage:
    """The simulator and the gateway."""

    def __init__(self, previewgate, directory):
        self.directory, self.port = directory, free_port()
        simulator, admin = free_port(), free_port()
        self.simulator, self.admin = f"http://127.0.0.1:{simulator}", f"http://127.0.0.1:{admin}"
        make_certificates(directory)
        self.ca = str(directory / "ca.crt")
        (directory / "gate.toml").write_text(
            f'[listener]\naddress = "127.0.0.1:{self.port}"\n'
            '[listener.tls]\ncertificate = "server.crt"\nprivate_key = "server.key"\n'
            f'[upstream]\nendpoints = ["{self.simulator}"]\n[admin]\naddress = "127.0.0.1:{admin}"\n'
        )
        self.processes = []
        for arguments, where in (
            (["simulate", "--plain", "--address", f"127.0.0.1:{simulator}"], PROCESSORS[-1:]),
            (["run", "--config", str(directory / "gate.toml")], PROCESSORS[:-1] or PROCESSORS),
        ):
            with open(directory / f"{arguments[0]}.log", "wb") as log:
                os.sched_setaffinity(0, where)  # inherited
                self.processes.append(subprocess.Popen([previewgate, *arguments], stdout=log, stderr=log))
        os.sched_setaffinity(0, PROCESSORS[-1:])
        self.gateway = self.processes[-1].pid
        for _ in range(100):
            try:
                return urllib.request.urlopen(f"{self.admin}/readyz").close()
            except OSError:
                time.sleep(0.1)
        sys.exit((directory / "run.log").read_text())

    def metric(self, name):
        with urllib.request.urlopen(f"{self.admin}/metrics") as answer:
            text = answer.read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def processor(self):
        """Seconds of processor time used so far."""
        user, system = pathlib.Path(f"/proc/{self.gateway}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident set, in MiB."""
        status = pathlib.Path(f"/proc/{self.gateway}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def end(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


class Watch(threading.Thread):
    """The most memory and connections that were seen."""

    def __init__(self, stage):
        super().__init__(daemon=True)
        self.stage, self.memory, self.connections, self.over = stage, 0.0, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.2):
            self.memory = max(self.memory, self.stage.memory())
            try:
                open_now = self.stage.metric('previewgate_connections_open{side="downstream"}')
            except OSError as error:
                print(f"metrics: {error}", file=sys.stderr)
                continue
            self.connections = max(self.connections, int(open_now))


# -------------------------------------------------------------------------------------------------------- the attacks


def slowhttptest(stage, name, connections, seconds):
    """What became of the attackers, as slowhttptest saw it."""
    arguments = SLOWHTTPTEST[name].format(url=f"https://localhost:{stage.port}{API}").split()
    report = stage.directory / "report"
    common = ["-c", connections, "-r", 400, "-l", seconds, "-p", 3, "-g", "-o", report, "-v", 1]
    command = ["slowhttptest", *map(str, common), *arguments]
    subprocess.run(command, capture_output=True, timeout=seconds * 3, check=False, preexec_fn=stand_back)
    with open(f"{report}.csv") as table:
        rows = [[int(cell) for cell in row[:5]] for row in list(csv.reader(table))[1:] if len(row) >= 5]
    closing = [row for row in rows if row[1] > 0]
    available = sum(1 for row in rows if row[4] > 0)
    first = f"first closed after {closing[0][0]} s, " if closing else ""
    last = rows[-1]
    return f"{first}at {last[0]} s {last[1]} closed, {last[3]} connected; probe answered {available} of {len(rows)}"


def silent(stage, name, connections, seconds):
    with_tls = name.endswith("tls")
    lasted, refused = Apart(silence, stage.port, stage.ca, connections, with_tls, seconds * 2).result()
    if not lasted:
        return f"none of {connections} closed; {len(refused)} refused"
    when = f"after {min(lasted):.1f} to {max(lasted):.1f} s"
    return f"{len(lasted)} of {connections} closed, {when}; {len(refused)} refused"


def percentile(times, part):
    ordered = sorted(times)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000 if ordered else float("nan")


def row(stage, name, connections, seconds, victim):
    steady = lambda duration: Apart(measure, stage.port, stage.ca, stage.simulator, duration)
    before = victim.memory()
    quiet, quiet_new, failed = steady(seconds / 2).result()
    if failed:
        print(f"{name}: {len(failed)} failed before it began: {failed[0]}", file=sys.stderr)
    watch = Watch(victim)
    watch.start()
    faults, shed = (victim.metric(f"previewgate_{counter}_total") for counter in ("head_faults", "requests_shed"))
    used = victim.processor()
    steady_while = steady(seconds)
    if name in SILENT:
        fate = silent(victim, name, connections, seconds)
    else:
        fate = slowhttptest(victim, name, connections, seconds)
    kept, new, failed = steady_while.result()
    watch.over.set()
    watch.join()
    used = victim.processor() - used
    faults = victim.metric("previewgate_head_faults_total") - faults
    shed = victim.metric("previewgate_requests_shed") - shed
    time.sleep(4)
    if failed:
        print(f"{name}: {len(failed)} failed: {sorted(set(failed))[:3]}", file=sys.stderr)
    cells = [name, str(watch.connections)]
    for calm, attacked in ((quiet, kept), (quiet_new, new)):
        for part in (0.5, 0.99):
            was, now = percentile(calm, part), percentile(attacked, part)
            cells.append(f"{was:.2f} → {now:.2f} ({now / was:.1f}×)")
    cells += [str(len(failed)), f"{before:.0f} / {watch.memory:.0f} / {victim.memory():.0f}"]
    cells.append(f"{used:.1f}")
    cells.append(f"{fate}; refused heads {faults:.0f}, shed {shed:.0f}")
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    every = [*SLOWHTTPTEST, *SILENT]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(every))
    parser.add_argument("--previewgate", default="target/release/previewgate", help="the program")
    parser.add_argument("--seconds", type=int, default=30, help="length of each attack")
    parser.add_argument("--connections", type=int, default=2000, help="of slowhttptest")
    parser.add_argument("--neighbour", action="store_true", help="attack a second gateway and measure the first")
    parser.add_argument("--silent", type=int, default=5000, help="silent connections")
    options = parser.parse_args()
    wanted = options.attacks or every
    if unknown := [attack for attack in wanted if attack not in every]:
        parser.error(f"unknown: {', '.join(unknown)}")
    if missing := [tool for tool in ("openssl", "slowhttptest") if shutil.which(tool) is None]:
        parser.error(f"not installed: {', '.join(missing)}")
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    with tempfile.TemporaryDirectory() as directory:
        stages = []
        try:
            for name in ["measured", "neighbour"][: 1 + options.neighbour]:
                (place := pathlib.Path(directory, name)).mkdir()
                stages.append(Stage(options.previewgate, place))
            print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
            for name in wanted:
                connections = options.silent if name in SILENT else options.connections
                row(stages[0], name, connections, options.seconds, stages[-1])
        finally:
            for stage in stages:
                stage.end()


if __name__ == "__main__":
    main()
