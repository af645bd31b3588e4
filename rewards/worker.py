"""A reward in a process of its own, so that one which hangs or crashes costs a completion and not the night.

    asked item by item    after ``time_limit`` seconds the worker is killed and a fresh one gets the same prompt with
                          an empty completion. It answers: the completion made the reward loop, which is an ordinary
                          lowest reward. It hangs too: the verifier is stuck, errored.
    asked as a batch      (TRL-style) ``time_limit`` for each completion in all, but after the first ``time_limit`` a
                          second worker gets the empty completion. A batch that does not end is asked row by row.
    the first call        of a worker may take ``startup_limit``: a reward may load a model in it. Item by item the
                          empty completion is what gets so long; the worker that answers it is asked the rest.
    a crash               is the verifier's: errored with the signal or exit code; a fresh worker goes on.

Two processes talk over a socket in messages with their length before them. The harness sends a batch, the worker
says that it has it (from then on time counts), then sends the scores, each as soon as it is known. The harness sends
pickles; what comes back is JSON and is checked, since the worker has run code that nobody vouches for.
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import json
import os
import pickle
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from harness.core.formatting import clean
from harness.types import Prompt, Score
from rewards.contract import Reward, RewardDescription, errored, errored_by, load_reward
from rewards.offline import deny_network
from rewards.trl import START, TrainerState

TIME_LIMIT_S = 10.0
START_LIMIT_S = 120.0
"""For a worker to import its rewards and take a batch; a reward may well import torch."""
GRACE_S = 2.0
"""For an idle worker to end by itself, so that what a reward does at exit is done."""
REASON, ERROR = 200, 2_000
"""Characters of what a reward says, at most: reasons are counted by name, and both are printed."""
NO_ANSWER = "the reward's process sent something else than scores"
CRASHES = 3
"""In a row, after which a call gives up."""

LENGTH = struct.Struct("!Q")
MESSAGE_LIMIT = 1 << 28
"""Bytes of a message from the worker, at most."""
Item = tuple[Prompt, str, Sequence[int] | None]
"""Prompt, completion, and its token ids where they are known."""


class _Silence(Exception):
    """No answer within the limit."""


class _Crash(Exception):
    """The worker ended, or never began. Its text says how."""


class _Unusable(Exception):
    """The worker cannot judge anything in this call. Its text says why."""


# ---------------------------------------------------------------- the harness's side


class _Call:
    """What a call of ``score`` was asked and has answered so far."""

    def __init__(self, items: list[Item], state: TrainerState) -> None:
        self.items = items
        self.state = state
        self.scores: dict[int, Score] = {}
        self._open = deque(range(len(items)))

    @property
    def left(self) -> list[Item]:
        return [self.items[i] for i in self._open]

    def settle(self, scores: Sequence[Score]) -> None:
        """The next of those left, in order."""
        for score in scores:
            self.scores[self._open.popleft()] = score

    def err(self, message: str, *, prompt: Prompt | None = None) -> None:
        """All that are left, or those of one prompt."""
        given_up = [i for i in self._open if prompt is None or self.items[i][0].id == prompt.id]
        self.scores |= dict.fromkeys(given_up, errored(message))
        self._open = deque(i for i in self._open if i not in self.scores)


@dataclass(eq=False)
class RewardWorker:
    """``harness.types.Scorer`` over a Reward in a worker process, which the first call starts.

    ``time_limit`` is seconds per completion, ``startup_limit`` (at least that) for the first call of a process. What
    the reward prints goes to the file ``log``, else nowhere. One call at a time. The kernel ends the worker with the
    thread that started it; the next call starts another.
    With ``offline`` the worker has no network, and its attempts to reach one are lines of that file.
    """

    description: RewardDescription
    _: KW_ONLY
    time_limit: float = TIME_LIMIT_S
    startup_limit: float = 0.0
    log: Path | None = None
    offline: Path | None = None
    environment: Mapping[str, str] | None = None
    grace: float = GRACE_S
    abandoned: bool = field(default=False, init=False)
    _process: _Process | None = field(default=None, init=False)
    _patience: float = field(init=False)  # with a batch, before a second worker is asked
    _overrun: bool = field(default=False, init=False)  # a batch once took all its time and did not end

    def __post_init__(self) -> None:
        self.range = self.description.range
        self._patience = self.time_limit
        self.startup_limit = max(self.startup_limit, self.time_limit)

    def __enter__(self) -> RewardWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. A later ``score`` would start another."""
        self._stop(self.grace)

    def abandon(self) -> None:
        """End a call of another thread, and any other until ``abandoned`` is unset: what is not settled is errored."""
        self.abandoned = True
        self._stop()

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        ids: Sequence[Sequence[int]] | None = None,
        state: TrainerState = START,
    ) -> list[Score]:
        known: Sequence[Sequence[int] | None] = ids or [None] * len(prompts)
        call = _Call(list(zip(prompts, completions, known, strict=True)), state)
        try:
            self._answer(call)
        except BaseException:  # such as Ctrl-C: what the worker still sends would be taken for the next call's
            self._stop()
            raise
        return [call.scores[i] for i in range(len(call.items))]

    def _answer(self, call: _Call) -> None:
        seed = random.getrandbits(32)
        by_row, crashes = False, 0
        old = self._process
        while left := call.left:
            at_item, process = False, None
            try:
                if self.abandoned:
                    raise _Unusable("abandoned")
                process = self._start()
                if process.begin(left, call.state, seed=seed, by_row=by_row):
                    by_row = True  # if this does not settle all
                    self._await_batch(process, call)
                    continue
                at_item = True
                for _ in left:
                    call.settle(process.receive(1, self.time_limit))
                    crashes = 0
            except _Silence:
                cold, asked = process is not None and not process.warm, time.monotonic()
                self._stop()
                if self._err_stuck(call):
                    continue
                # A worker that was only slow to start is asked again.
                if not cold or time.monotonic() - asked < self.time_limit:
                    call.settle([Score(self.range[0], False, "timeout")])
            except _Crash as crash:
                self._stop()
                if process is not None and process is old:  # it may have had reasons of its own, such as its memory
                    by_row = False
                    continue
                crashes += 1
                if at_item:
                    call.settle([errored(str(crash))])
                if crashes == CRASHES:
                    call.err(str(crash))
            except _Unusable as problem:
                self._stop()
                call.err(str(problem))

    def _await_batch(self, process: _Process, call: _Call) -> None:
        """Settle the whole call, or what is stuck, or nothing. Raises _Crash."""
        started = time.monotonic()
        n = len(call.left)
        until = started + self.time_limit * n
        patience = min(self._patience, until - started)
        if not process.warm:
            until, patience = max(until, started + self.startup_limit), max(patience, self.startup_limit)
        with suppress(_Silence):
            call.settle(process.receive(n, patience))
            return
        spare: _Process | None = process
        self._process = None  # another one is asked meanwhile
        try:
            if not self._err_stuck(call) and not self._overrun:
                call.settle(process.receive(n, until - time.monotonic()))
                self._patience = 2 * (time.monotonic() - started)  # slow, not stuck: no second worker for the next
                spare, self._process = self._process, process
        except _Silence:
            self._overrun = True  # the next one is not given as long: it may hold the same loop
        finally:
            if spare is not None:
                spare.stop()

    def _err_stuck(self, call: _Call) -> bool:
        """Err what is stuck: nothing, all that is left, or only the first prompt, when another one is answered."""
        first = call.left[0][0]
        why = f"no answer within {self.time_limit:g} s, not even for an empty completion"
        if self.startup_limit > self.time_limit:
            why += f" within {self.startup_limit:g} s (reward.startup_limit: raise it for one that is slow to start)"
        if not self._is_stuck(first):
            return False
        self.startup_limit = self.time_limit  # it had its time, and is not given as much again
        other = next((prompt for prompt, *_ in call.left if prompt.id != first.id), None)
        if other is None or self._is_stuck(other):
            call.err(f"the verifier is stuck: {why}")
        else:
            call.err(f"the verifier is stuck on this prompt: {why}", prompt=first)
        return True

    def _is_stuck(self, prompt: Prompt) -> bool:
        """Whether not even the empty completion is answered; an exception or a crash is an answer."""
        try:
            process = self._start()
            process.begin([(prompt, "", None)], START, seed=0, by_row=True)
            process.receive(1, self.time_limit if process.warm else self.startup_limit)
        except (_Silence, _Crash, _Unusable) as failure:
            self._stop()
            return isinstance(failure, _Silence)
        return False

    def _start(self) -> _Process:
        if self._process is None:
            self._process = _Process(self.description, self.log, self.offline, self.environment)
        return self._process

    def _stop(self, grace: float = 0.0) -> None:
        if self._process is not None:
            self._process.stop(grace)
        self._process = None


class _Process:
    """One worker process and the harness's end of its socket. Ended at the latest when this process ends."""

    def __init__(
        self,
        description: RewardDescription,
        log: Path | None,
        offline: Path | None,
        environment: Mapping[str, str] | None,
    ) -> None:
        ours, theirs = socket.socketpair()
        # sys.path is the harness's from the first line on, so every name means the same file as there.
        path = [entry for entry in sys.path if isinstance(entry, str)]
        code = (
            f"import sys; sys.path[:] = {path!a}; "
            f"from rewards.worker import serve; serve({theirs.fileno()}, {os.getpid()}, {str(offline or '')!a})"
        )
        try:
            with theirs, (log or Path(os.devnull)).open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-B", "-c", code],
                    pass_fds=[theirs.fileno()],
                    env=os.environ | (environment or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is not for it, and what it starts dies with it
                )
        except OSError as error:
            ours.close()
            raise _Unusable(f"no worker process for the reward could be started: {error}") from None
        self._socket = ours
        self._received = bytearray()
        self.warm = False  # whether it has answered once
        self._stop = weakref.finalize(self, _end, self._process, ours, GRACE_S)
        self._send(pickle.dumps(description))

    def stop(self, grace: float = 0.0) -> None:
        if self._stop.detach():
            _end(self._process, self._socket, grace)

    def begin(self, items: Sequence[Item], state: TrainerState, *, seed: int, by_row: bool) -> bool:
        """Hand over a batch. Returns whether it is answered as a whole, else item by item."""
        try:
            data = pickle.dumps((seed, by_row, items, state))
        except Exception as error:
            raise _Unusable(f"the prompts cannot be handed to the reward's process: {error}") from None
        self._send(data)
        try:
            message = self._read(START_LIMIT_S)
        except _Silence:
            raise _Crash(f"the reward's process took no prompts for {START_LIMIT_S:g} s") from None
        match message:
            case [bool(whole), ""]:
                return whole
            case [bool(), str(problem)]:
                raise _Unusable(clean(problem[:ERROR]))
        raise _Crash(NO_ANSWER)

    def receive(self, n: int, seconds: float) -> list[Score]:
        """The next ``n`` scores. Raises _Silence or _Crash."""
        message = self._read(seconds)
        if not isinstance(message, list) or len(message) != n:
            raise _Crash(NO_ANSWER)
        self.warm = True
        return [_to_score(values) for values in message]

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(START_LIMIT_S)
            self._socket.sendall(LENGTH.pack(len(data)) + data)
        except TimeoutError:
            raise _Crash(f"the reward's process took no prompts for {START_LIMIT_S:g} s") from None
        except OSError:
            raise self._crash() from None

    def _read(self, seconds: float) -> Any:
        until = time.monotonic() + seconds
        while True:
            received = self._received
            if len(received) >= LENGTH.size:
                size = LENGTH.unpack_from(received)[0]
                if size > MESSAGE_LIMIT:
                    raise _Crash(NO_ANSWER)
                if len(received) >= LENGTH.size + size:
                    data = bytes(received[LENGTH.size : LENGTH.size + size])
                    del received[: LENGTH.size + size]
                    try:
                        return json.loads(data)
                    except (ValueError, RecursionError, MemoryError):
                        raise _Crash(NO_ANSWER) from None
            late = time.monotonic() >= until
            try:
                self._socket.settimeout(0.001 if late else min(until - time.monotonic() + 0.001, 0.1))
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                if self._process.poll() is not None:  # what it forked may still hold the socket open
                    raise self._crash() from None
                if late:
                    raise _Silence from None
                continue
            except OSError:
                data = b""
            if not data:
                raise self._crash()
            received += data

    def _crash(self) -> _Crash:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return _Crash("the verifier closed the connection to the harness")
        if code >= 0:
            return _Crash(f"the verifier crashed: exit code {code}")
        try:
            name = f" ({signal.Signals(-code).name})"
        except ValueError:
            name = ""
        perhaps = ", perhaps out of memory" if -code == signal.SIGKILL else ""
        return _Crash(f"the verifier crashed: signal {-code}{name}{perhaps}")


def _to_score(values: Any) -> Score:
    """Turn what _plain made into a Score. Raises _Crash."""
    match values:
        case [
            None | float() as reward, bool(correct), str(reason), dict(components), str(error), dict(logged),
            dict(seconds),
        ]:  # fmt: skip
            numbers = [{clean(name[:REASON]): value for name, value in one.items()}
                       for one in (components, logged, seconds)]  # fmt: skip
            if all(isinstance(value, float) for one in numbers for value in one.values()):
                return Score(reward, correct, clean(reason[:REASON]), numbers[0], clean(error[:ERROR]), *numbers[1:])
    raise _Crash(NO_ANSWER)


def _end(process: subprocess.Popen[bytes], link: socket.socket, grace: float) -> None:
    """Let an idle worker end for ``grace`` seconds, then kill it and everything it has started."""
    link.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # one that waits for a broken disk cannot be killed yet
        process.wait(5.0)


# ---------------------------------------------------------------- the worker's side


def serve(number: int, parent: int, offline: str) -> None:
    """Answer batches from the socket with file descriptor ``number`` until it ends or process ``parent`` is gone."""
    _die_with(parent)
    if offline:
        deny_network(Path(offline))
    _leave_signals_to_the_parent()
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        cast(io.TextIOWrapper, stream).reconfigure(errors="backslashreplace", line_buffering=True)
    me = os.getpid()
    with socket.socket(fileno=number) as link, link.makefile("rb") as inbox:
        link.set_inheritable(False)
        reward, problem = _load(_receive(inbox))
        while data := _receive(inbox):
            try:
                seed, by_row, items, state = pickle.loads(data)
            except Exception as error:
                _send(link, (False, f"the reward's process cannot read the prompts: {errored_by(error).error}"))
                continue
            whole = reward is not None and (reward.takes_batches or reward.awaits) and not by_row
            _send(link, (whole, problem))
            if reward is None:
                continue
            _seed(seed)
            for part in [items] if whole else [[item] for item in items]:
                values = _judge(reward, part, state)
                if os.getpid() != me:  # a child that the reward forked and did not end
                    os._exit(1)
                _send(link, values)


def _load(data: bytes) -> tuple[Reward | None, str]:
    """The reward, else None and why."""
    try:
        return load_reward(pickle.loads(data)), ""
    except BaseException as error:
        return None, str(error) or type(error).__name__


def _judge(reward: Reward, items: Sequence[Item], state: TrainerState) -> list[tuple[Any, ...]]:
    """The fields of each Score as plain values, which any process can read back."""
    try:
        prompts, completions, ids = zip(*items, strict=True)
        scores = reward.score(prompts, completions, ids, state)
        return [_plain(score) for score in scores]
    except BaseException as error:  # a completion that is run may raise anything, KeyboardInterrupt too
        return [_plain(errored_by(error))] * len(items)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # a timer that the reward forgot would go off in our own lines


def _plain(score: Score) -> tuple[Any, ...]:
    return (
        None if score.reward is None else float(score.reward),
        bool(score.correct),
        str(score.reason)[:REASON],  # here too, so that a batch of long ones stays below MESSAGE_LIMIT
        _numbers(score.components),
        str(score.error)[:ERROR],
        _numbers(score.logged),
        _numbers(score.seconds),
    )


def _numbers(values: Mapping[str, float]) -> dict[str, float]:
    return {str(name)[:REASON]: float(value) for name, value in values.items()}


def _receive(inbox: BinaryIO) -> bytes:
    """One message; empty at the end of the stream."""
    head = inbox.read(LENGTH.size)
    return inbox.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def _send(link: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode()  # in ASCII, which lone surrogates pass
    link.sendall(LENGTH.pack(len(data)) + data)


def _seed(seed: int) -> None:
    """A reward that draws random numbers draws the same ones in the same step, as it did in the harness's process."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _die_with(parent: int) -> None:
    """Not outlive a parent that was killed, even in the middle of a loop, and be what the kernel kills for memory."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent:
        os._exit(1)


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C, a closed terminal or a job that ends reach every process; the parent decides what becomes of this one."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # A handler instead of SIG_IGN, and undone in children: a reward's own processes must stay easy to end.
    for number in numbers:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=lambda: [signal.signal(number, signal.SIG_DFL) for number in numbers])
