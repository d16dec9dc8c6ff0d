"""Early ends of a run: Ctrl-C and SIGTERM, which leave a checkpoint, and divergence."""

import contextlib
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal stopped the run. A `BaseException`, so that no `except Exception` swallows it.

    Args:
        number: `signal.Signals` that was received.
    """

    def __init__(self, number):
        super().__init__(number)
        self.signal = signal.Signals(number)

    def __str__(self):
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


class Diverged(ArithmeticError):
    """The loss or the weights are not finite; the message says when."""


class StopRequest:
    """Handles Ctrl-C and SIGTERM: during `fit` the first stops after a step, the second at once.

    Attributes:
        asked: `Stopped` to raise after the step, or None.
        forward: function that passes the number of a signal on to another process, or None.
    """

    def __init__(self):
        self.asked = self.forward = None
        self._fitting = self._listen = False

    @contextlib.contextmanager
    def listening(self):
        """Context in which this object handles the signals of the process."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._listen = True
        self._take_signals()
        try:
            yield self
        finally:
            self._listen = False
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def fitting(self):
        """Context in which `asked` is checked after every step."""
        self._fitting = True
        if self._listen:
            self._take_signals()  # again: with several processes the backends replace the handler
        try:
            yield
        finally:
            self._fitting = False
        if self.asked:
            raise self.asked

    def _take_signals(self):
        for number in SIGNALS:
            signal.signal(number, self._take)

    def ask(self, number):
        """Requests that the run stops at the end of this step."""
        self.asked = self.asked or Stopped(number)

    def _take(self, number, frame):
        if not self._fitting or self.asked:
            raise Stopped(number)
        (self.forward or self.ask)(number)
