"""Ctrl-C during a training: the step in hand is ended first."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Interruption"]


class Interruption:
    """Turns the first Ctrl-C (SIGINT) into a flag; the second one interrupts at once."""

    def __init__(self) -> None:
        self.met = False

    def __enter__(self) -> Interruption:
        # only the main thread of a process may listen to signals
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._meet)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)

    def _meet(self, number: int, frame: FrameType | None) -> None:
        if self.met:
            raise KeyboardInterrupt
        self.met = True
