"""Several processes on one study: started, watched, and buried if they die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from unet_nas.errors import UnetNasError
from unet_nas.search.evaluate import Job
from unet_nas.search.failures import HopelessError
from unet_nas.search.finalists import run_jobs
from unet_nas.search.recovery import Undertaker
from unet_nas.search.storage import storage_errors
from unet_nas.search.trials import TrialLoop
from unet_nas.search.workplace import Order, open_workplace

__all__ = ["run_workers"]

_POLL_S = 0.5
_INTERRUPTED = 130


def run_workers(
    order: Order,
    jobs: Sequence[Job] | None,
    undertaker: Undertaker,
    on_poll: Callable[[], None],
    on_death: Callable[[str], None],
) -> str:
    """Runs the trials, or jobs, in processes, and waits for all of them.

    Args:
        order: what each of them is told.
        jobs: trainings after the trials; None: run trials.
        undertaker: gives the trial of a dead worker to the others.
        on_poll: called every half a second.
        on_death: told of a worker that died.

    Returns:
        Why they ended: ``enough``, ``timeout`` or ``nothing_left``; of jobs ``enough``.

    Raises:
        KeyboardInterrupt: if a person stopped them.
        HopelessError: if the first trials all fail.
        UnetNasError: if none of them came to the end.
    """
    context = multiprocessing.get_context("spawn")
    crew: dict[BaseProcess, Connection] = {}
    for index in range(order.workers):
        ours, theirs = context.Pipe(duplex=False)
        process: BaseProcess = context.Process(
            target=_work, args=(replace(order, index=index), jobs, theirs), name=f"worker {index}"
        )
        process.start()
        theirs.close()
        crew[process] = ours
    try:
        return _watch(crew, undertaker, on_poll, on_death)
    except KeyboardInterrupt:
        _stop(list(crew))
        raise
    except BaseException:
        for process in crew:
            process.terminate()
        raise


def _watch(
    crew: dict[BaseProcess, Connection],
    undertaker: Undertaker,
    on_poll: Callable[[], None],
    on_death: Callable[[str], None],
) -> str:
    alive, endings, troubles = set(crew), [], []
    while alive:
        wait([process.sentinel for process in alive], timeout=_POLL_S)
        for process in [process for process in alive if not process.is_alive()]:
            alive.discard(process)
            said = _last_words(crew[process])
            if said is not None and said[0] == "ended":
                endings.append(said[1])
                continue
            if process.exitcode == _INTERRUPTED:
                raise KeyboardInterrupt
            if said is not None and said[0] == "hopeless":
                raise HopelessError(said[1])
            reason = said[1] if said else f"it was killed (exit code {process.exitcode})"
            troubles.append(reason)
            undertaker.sweep(dead_worker=f"{socket.gethostname()}:{process.pid}")
            on_death(f"{process.name} has ended: {reason}; its trial goes to the others")
        on_poll()
    if not endings:
        raise UnetNasError(f"no worker came to the end: {troubles[-1]}")
    return min(endings)


def _last_words(connection: Connection) -> tuple[str, str] | None:
    try:
        said: tuple[str, str] | None = connection.recv() if connection.poll() else None
    except EOFError:
        return None
    return said


def _stop(crew: list[BaseProcess]) -> None:
    """Lets every process end its trial in hand; a second Ctrl-C ends them at once."""
    for process in crew:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    try:
        for process in crew:
            process.join()
    except KeyboardInterrupt:
        for process in crew:
            process.kill()


# --- in the process of a worker ----------------------------------------------------------------


def _work(order: Order, jobs: Sequence[Job] | None, parent: Connection) -> None:
    """What a worker does; its last words are why it ended."""
    # the workers share the cores: threads of one that wait for another's steal its time
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // order.workers)))
    # a search that a script starts in the background inherits that Ctrl-C is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=_follow_parent, daemon=True).start()
        place = open_workplace(order)
        with place.folder.membership(), storage_errors(place.place):
            # who comes after a dead parent may take this folder for empty until here
            _refuse_orphans()
            if jobs is None:
                ending = TrialLoop(place, lambda record: None).run()
            else:
                ending = "enough"
                for _ in run_jobs(place, list(jobs)):
                    pass
        parent.send(("ended", ending))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except HopelessError as error:
        parent.send(("hopeless", str(error)))
        sys.exit(1)
    except UnetNasError as error:
        parent.send(("failed", str(error)))
        sys.exit(1)
    except Exception as error:  # the parent tells it; the trace is for whoever mends it
        traceback.print_exc()
        parent.send(("failed", f"{type(error).__name__}: {error}"))
        sys.exit(1)


def _refuse_orphans() -> None:
    """Ends this process if the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt


def _follow_parent() -> None:
    """Ends this process, as Ctrl-C would, when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)
