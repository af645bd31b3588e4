"""Prompts before, beside and after a run: ``commands.pool.show("latest")``. Nothing heavy is imported at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.files import check_place, write_lines
from harness.commands.lookup import load_inputs, open_reader
from harness.errors import InputError
from harness.types import Progress, no_progress

if TYPE_CHECKING:
    from harness.commands.pool_build import Built
    from harness.commands.pool_convert import Conversion, Demonstrated
    from harness.commands.pool_report import PoolView


@dataclass(frozen=True, slots=True)
class SeenPrompts:
    """``written`` of the ``seen`` prompts of a run are in ``file``."""

    file: Path
    written: int
    seen: int


def convert(
    source: str,
    file: Path,
    *,
    spec: str | None = None,
    reference: str | None = None,
    overrides: Sequence[str] = (),
    chat: bool = False,
    progress: Progress = no_progress,
) -> Conversion | Demonstrated:
    """Keep the rows of ``source`` whose solution in column ``reference`` scores 1.0 under the spec's reward.

    Or those of the spec's own source that ``recorded:FILE`` answers right, which become their demonstrations. Without
    ``spec`` it is that of the rows' known layout, without ``reference`` their demonstration. They go to the new
    ``file`` (.jsonl). ``chat`` gives TRL-style rewards messages. Raises InputError, and then nothing was written.
    """
    check_place(file)
    from harness.commands.pool_convert import convert_answers, convert_source
    from harness.config.load import load_spec
    from harness.llm.names import RECORDED
    from harness.run.answerers import find_answerer, open_target, spec_of_rows

    if source.startswith(RECORDED):
        if reference is not None:
            raise InputError("--reference: the recorded answers are what is judged; leave it out")
        target = open_target(find_answerer(source), spec=spec, overrides=overrides)
        return convert_answers(target, file, progress=progress)
    checked = load_spec(spec, overrides)[0] if spec is not None else spec_of_rows(source, overrides)
    return convert_source(source, file, checked, reference=reference or "demonstration", chat=chat, progress=progress)


def build(
    file: Path,
    *,
    spec: str,
    model: str | None = None,
    checkpoint: str = "final",
    n: int = 8,
    size: int | None = None,
    overrides: Sequence[str] = (),
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> Built:
    """Keep the train prompts of which ``model`` gets some of ``n`` completions right and others wrong.

    ``model`` is whoever answers, by default the spec's own model after its warm start. It stops at ``size``
    prompts. What was rolled out until an interruption is in ``FILE.part``; the same call takes that up. Raises
    InputError.
    """
    check_place(file)
    checked = load_inputs(spec, overrides).spec
    from harness.commands.pool_build import build_pool_file
    from harness.run.answerers import find_answerer, load_start, open_target

    named = None if model is None else find_answerer(model, checkpoint=checkpoint, db=db, out=out)
    target = load_start(checked, progress) if named is None else open_target(named, spec=checked)
    return build_pool_file(target, file, n=n, size=size, progress=progress)


def show(run: str = "latest", *, n: int = 5, db: str | None = None, out: str = "runs") -> PoolView:
    """Look at how a run goes through its prompts, with ``n`` of the hardest and of the easiest. Raises InputError."""
    from harness.checks.inputs import build_splits
    from harness.checks.trust import load_trusted
    from harness.commands.pool_report import load_pool_view

    reader, record = open_reader(db, out, run)
    train = build_splits(load_trusted(reader, record))["train"]
    return load_pool_view(reader, record, train, n=n)


def export(run: str, file: Path, *, failed: bool = False, db: str | None = None, out: str = "runs") -> SeenPrompts:
    """Write the prompts that a run has seen, each with its pass_rate, to the new ``file`` (.jsonl).

    With ``failed`` only those that are wrong more often than right. Raises InputError, when there are none too.
    """
    from harness.checks.inputs import build_splits
    from harness.checks.trust import load_trusted
    from harness.commands.pool_report import select_seen
    from pools.rows import encode, name_columns
    from pools.view import rank_prompts

    check_place(file)
    reader, record = open_reader(db, out, run)
    spec = load_trusted(reader, record)
    standings = rank_prompts(reader.load_groups(record.id))
    chosen, rates = select_seen(build_splits(spec)["train"], standings, below=0.5 if failed else None)
    if not rates:
        which = "is wrong more often than right" if failed else "was drawn"
        raise InputError(f"{record.name}: no prompt {which}, so nothing was written")
    rows = chosen.to_rows(name_columns(spec.pool.columns))
    write_lines(file, (encode(row | {"pass_rate": rate}) for row, rate in zip(rows, rates, strict=True)))
    return SeenPrompts(file, len(rates), len(standings))
