"""Ctrl-C and SIGTERM: a run that is asked to stop ends at a step, with a checkpoint."""

import contextlib
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Somebody asked the run to stop; no `except Exception` on the way may swallow that.

    Args:
        number: `signal.Signals` that asked.
    """

    def __init__(self, number):
        super().__init__(number)
        self.signal = signal.Signals(number)

    def __str__(self):
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


class Diverged(ArithmeticError):
    """The loss is no number any more; the message says when."""


class StopRequest:
    """Takes a first Ctrl-C or SIGTERM as a wish, while a model is fitted, and a second as an order.

    Attributes:
        asked: `Stopped` that is to be raised after the step, or None.
        forward: function of the signal's number that takes the wish elsewhere, or None.
    """

    def __init__(self):
        self.asked = self.forward = None
        self._fitting = self._listen = False

    @contextlib.contextmanager
    def listening(self):
        """Within it the signals of this process come here."""
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
        """Within it somebody looks at `asked` after every step."""
        self._fitting = True
        if self._listen:
            self._take_signals()  # again: the backends of several processes take SIGTERM to them
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
        """Asks for the end of the run at the end of this step."""
        self.asked = self.asked or Stopped(number)

    def _take(self, number, frame):
        if not self._fitting or self.asked:
            raise Stopped(number)
        (self.forward or self.ask)(number)
