"""The processes of a run on several devices or machines: they start, stop and end together.

Each is told who it is by the environment variables of torchrun and Kubeflow: RANK and WORLD_SIZE,
MASTER_ADDR and MASTER_PORT of the first process. What they compute with each other is the backend's
business. Beside it every process keeps a connection to the first one, at MASTER_PORT + 1: over it
they agree, and notice at once when one is gone, where a backend would wait for minutes or for ever.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time

WAIT_SECONDS = 600  # for all processes to be there


class Processes:
    """This process among all of a run.

    Args:
        index: int, this process; 0 is the first, which alone reports and writes.
        count: int, all of them.
        address: (host, port) of the first one.
        stop: `StopRequest`; of the first process it is asked, by whichever process was.

    Attributes:
        addresses: list of "host:port", where the backend may call each process.
        kept: function that says what the checkpoint holds, for the message when a process is gone;
            None until the run folder is known.
    """

    def __init__(self, index=0, count=1, address=None, stop=None):
        self.index, self.count, self.address, self.stop = index, count, address, stop
        self.kept = None
        self.addresses = []
        self._others, self._said, self._over = {}, queue.Queue(), False
        self._lock = threading.Lock()
        if stop is not None and index > 0:
            stop.forward = self.ask_to_stop

    @classmethod
    def of_environment(cls, stop=None):
        """Who this process is; a ValueError where the environment says only a part of it."""
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        found = {name: os.environ[name] for name in names if name in os.environ}
        if found.get("WORLD_SIZE", "1") == "1":
            return cls(stop=stop)
        try:
            index, count, port = (int(found[key]) for key in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
            address = found["MASTER_ADDR"], port
            if not 0 <= index < count:
                raise ValueError
        except (KeyError, ValueError):
            raise ValueError(
                f"A run of several processes needs {', '.join(names)}, as torchrun sets them, with "
                f"RANK below WORLD_SIZE. Received: {found}"
            ) from None
        return cls(index, count, address, stop)

    @property
    def first(self):
        """Whether this is the process that reports and writes."""
        return self.index == 0

    def meet(self):
        """Waits until all are there; `addresses` then has a free "host:port" of each."""
        if self.count == 1:
            return
        with socket.socket() as probe:  # a port that is free now
            probe.bind(("", 0))
            own_port = probe.getsockname()[1]
        host, port = self.address[0], self.address[1] + 1
        deadline = time.monotonic() + WAIT_SECONDS
        if not self.first:
            self._others[0] = _Connection(_connect(host, port, deadline))
            self._others[0].send({"index": self.index, "port": own_port})
            self.addresses = self._others[0].receive()
        else:
            addresses = [f"{host}:{own_port}"] + [None] * (self.count - 1)
            with socket.create_server(("", port)) as server:
                while len(self._others) < self.count - 1:
                    server.settimeout(max(deadline - time.monotonic(), 0.1))
                    connection = _Connection(_accept(server, len(self._others) + 1, self.count))
                    hello = connection.receive()
                    self._others[hello["index"]] = connection
                    addresses[hello["index"]] = f"{connection.host}:{hello['port']}"
            self.addresses = addresses
            self.tell(addresses)
        for index, connection in self._others.items():
            threading.Thread(target=self._watch, args=(index, connection), daemon=True).start()

    def tell(self, message):
        """From the first process to all others: something that JSON can say."""
        with self._lock:
            for connection in self._others.values():
                connection.send(message)

    def hear(self):
        """What the first process tells next; waits for it."""
        return self._said.get()

    def wait_for_first(self):
        """Keeps the others until the first process has come here too, with what it wrote."""
        if self.first:
            self.tell(["here"])
        else:
            self.hear()

    def end(self, code):
        """Ends all processes with an exit code; called in the first one."""
        self._over = True
        self.tell({"end": code})
        _exit(code)

    def wait_for_end(self):
        """Keeps this process until the first one ends them all."""
        threading.Event().wait()

    def give_time(self):
        """Time to notice that a process is gone, for one whose computation has failed by that."""
        if self.count > 1:
            time.sleep(10)

    def ask_to_stop(self, number):
        """Hands a signal on to the first process, which keeps a checkpoint and stops them all."""
        self.tell({"stop": int(number)})

    def _watch(self, index, connection):
        """Reads what a process says; where it falls silent the run is over."""
        while (message := connection.receive()) is not None:
            if not isinstance(message, dict):
                self._said.put(message)
            elif "stop" in message:
                self.stop.ask(message["stop"])
            elif "end" in message:
                _exit(message["end"])
            else:
                self._said.put(message)
        if not self._over:
            self._lost(index)

    def _lost(self, index):
        self._over = True
        if self.first or index == 0:
            said = f"{self.kept()}; " if self.kept else ""
            print(
                f"error: process {index} of {self.count} has ended; {said}start all of them again, "
                "with --resume if there is a checkpoint. Received: its connection is closed at "
                f"process {self.index}",
                file=sys.stderr,
                flush=True,
            )
        if self.first:
            self.tell({"end": 1})
        _exit(1)


class _Connection:
    """JSON, a line a message."""

    def __init__(self, connected):
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):  # a machine that is gone closes no connection
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._socket, self._lines = connected, connected.makefile("r", encoding="utf-8")
        self.host = connected.getpeername()[0]

    def send(self, message):
        with contextlib.suppress(OSError):  # its end is noticed where it is read
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        """The next message; None where there will be none."""
        try:
            line = self._lines.readline()
        except OSError:
            return None
        return json.loads(line) if line else None


def _connect(host, port, deadline):
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError as error:
            if time.monotonic() > deadline:
                raise ValueError(
                    "The first process must run at MASTER_ADDR and MASTER_PORT + 1 must be open "
                    f"there: {error}. Received: {host}:{port}"
                ) from error
            time.sleep(0.2)


def _accept(server, there, count):
    try:
        return server.accept()[0]
    except TimeoutError:
        raise ValueError(
            f"All processes of a run must start within {WAIT_SECONDS} seconds. "
            f"Received: {there} of {count}"
        ) from None


def _exit(code):
    """Ends the process at once: its other threads may wait for one that is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
