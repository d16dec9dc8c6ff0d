"""The processes of a run on several devices or machines, which start, stop and end together.

A process is configured by the environment variables of torchrun and Kubeflow: RANK and WORLD_SIZE,
and MASTER_ADDR and MASTER_PORT of rank 0, the main process. The backend does the collective
computation. In addition every process has a connection to the main process, at MASTER_PORT + 1, for
messages, and to detect at once that a process has ended, for which a backend would wait for minutes
or forever.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time

WAIT_SECONDS = 600  # for all processes to connect


class ProcessGroup:
    """The processes of a run, from the point of view of one of them.

    Args:
        rank: int, rank of this process. Rank 0 is the main process, which reports and writes files.
        world_size: int, number of processes.
        address: (host, port) of the main process.
        stop: `StopRequest` of this process. A signal to any process is passed to the main process.

    Attributes:
        addresses: list of "host:port", for the backend, one per process.
        describe_checkpoint: function that returns a description of the checkpoint, for the message
            if a process has ended; None until the run folder is known.
    """

    def __init__(self, rank=0, world_size=1, address=None, stop=None):
        self.rank, self.world_size, self.address, self.stop = rank, world_size, address, stop
        self.describe_checkpoint = None
        self.addresses = []
        self._connections, self._received, self._ended = {}, queue.Queue(), False
        self._lock = threading.Lock()
        if stop is not None and rank > 0:
            stop.forward = self.ask_to_stop

    @classmethod
    def from_environment(cls, stop=None):
        """The group in the environment variables; raises a `ValueError` if some are missing."""
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        found = {name: os.environ[name] for name in names if name in os.environ}
        if found.get("WORLD_SIZE", "1") == "1":
            return cls(stop=stop)
        try:
            rank, world_size, port = (
                int(found[key]) for key in ("RANK", "WORLD_SIZE", "MASTER_PORT")
            )
            address = found["MASTER_ADDR"], port
            if not 0 <= rank < world_size:
                raise ValueError
        except (KeyError, ValueError):
            raise ValueError(
                f"A run of several processes needs {', '.join(names)}, as torchrun sets them, with "
                f"RANK below WORLD_SIZE. Received: {found}"
            ) from None
        return cls(rank, world_size, address, stop)

    @property
    def is_main(self):
        """Whether this is the main process, with rank 0, which reports and writes files."""
        return self.rank == 0

    def connect(self):
        """Connects all processes, and sets `addresses` to a free "host:port" of each."""
        if self.world_size == 1:
            return
        with socket.socket() as probe:  # finds a free port
            probe.bind(("", 0))
            own_port = probe.getsockname()[1]
        host, port = self.address[0], self.address[1] + 1
        deadline = time.monotonic() + WAIT_SECONDS
        if not self.is_main:
            self._connections[0] = _Connection(_connect(host, port, deadline))
            self._connections[0].send({"rank": self.rank, "port": own_port})
            self.addresses = self._connections[0].receive()
        else:
            addresses = [f"{host}:{own_port}"] + [None] * (self.world_size - 1)
            with socket.create_server(("", port)) as server:
                while len(self._connections) < self.world_size - 1:
                    server.settimeout(max(deadline - time.monotonic(), 0.1))
                    connection = _Connection(
                        _accept(server, len(self._connections) + 1, self.world_size)
                    )
                    hello = connection.receive()
                    self._connections[hello["rank"]] = connection
                    addresses[hello["rank"]] = f"{connection.host}:{hello['port']}"
            self.addresses = addresses
            self.broadcast(addresses)
        for rank, connection in self._connections.items():
            threading.Thread(target=self._watch, args=(rank, connection), daemon=True).start()

    def broadcast(self, message):
        """Sends a message, serialisable as JSON, from the main process to all others."""
        self._send(message)

    def _send(self, message):
        with self._lock:
            for connection in self._connections.values():
                connection.send(message)

    def receive(self):
        """Waits for the next message that the main process broadcasts, and returns it."""
        return self._received.get()

    def wait_for_main(self):
        """Makes the other processes wait until the main process calls it too."""
        if self.is_main:
            self.broadcast(["here"])
        else:
            self.receive()

    def end(self, code):
        """Ends all processes with an exit code; to be called in the main process."""
        self._ended = True
        self.broadcast({"end": code})
        _exit(code)

    def wait_for_end(self):
        """Waits until the main process ends all processes."""
        threading.Event().wait()

    def give_time(self):
        """Gives `_watch` time to detect an ended process after a computation has failed."""
        if self.world_size > 1:
            time.sleep(10)

    def ask_to_stop(self, number):
        """Passes a signal on to the main process, which writes a checkpoint and stops all."""
        self._send({"stop": int(number)})

    def _watch(self, rank, connection):
        """Reads the messages of a process; the run ends if its connection closes."""
        while (message := connection.receive()) is not None:
            if not isinstance(message, dict):
                self._received.put(message)
            elif "stop" in message:
                self.stop.ask(message["stop"])
            elif "end" in message:
                _exit(message["end"])
            else:
                self._received.put(message)
        if not self._ended:
            self._lost(rank)

    def _lost(self, rank):
        self._ended = True
        if self.is_main or rank == 0:
            said = f"{self.describe_checkpoint()}; " if self.describe_checkpoint else ""
            print(
                f"error: process {rank} of {self.world_size} has ended; {said}restart all "
                "processes, with --resume if there is a checkpoint. Received: a closed connection "
                f"at process {self.rank}",
                file=sys.stderr,
                flush=True,
            )
        if self.is_main:
            self.broadcast({"end": 1})
        _exit(1)


class _Connection:
    """A connection that sends and receives JSON messages, one per line."""

    def __init__(self, connected):
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):  # a machine that is switched off does not close connections
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._socket, self._lines = connected, connected.makefile("r", encoding="utf-8")
        self.host = connected.getpeername()[0]

    def send(self, message):
        with contextlib.suppress(OSError):  # `receive` detects a closed connection
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        """The next message, or None if the connection is closed."""
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
    """Ends the process at once, even if other threads wait for a process that has ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
