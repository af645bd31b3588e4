"""Compare whatever is named: runs and groups by what is on record, everybody else by asking.

compare(["night-1", "night-2"])                  # their records: scores, spec, decisions
compare(["gsm8k-1"])                             # base and stages of a group, by the CSVs of their scores
compare(["gsm8k-1", "gsm8k-2"])                  # groups of several seeds
compare(["./base", "night-1"], spec="math-gsm")  # who answers: each is asked the same prompts
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.files import check_parent, write_rows, write_text
from harness.commands.report import Document
from harness.core.paths import database_url
from harness.errors import InputError
from harness.types import Progress, no_progress

if TYPE_CHECKING:
    from harness.store.reader import RunReader
    from harness.types import RunRecord


def compare(
    names: Sequence[str],
    *,
    spec: str | None = None,
    html: Path | None = None,
    csv: Path | None = None,
    db: str | None = None,
    out: str = "runs",
    progress: Progress = no_progress,
) -> Document:
    """Compare what is named with the first; write the page to ``html`` and a row for each to ``csv`` if given.

    Runs are compared by their records, a group or several by the scores of their stages. Anything else (a model,
    RUN@CHECKPOINT, a hosted model, a record of answers, and runs beside them) answers the test prompts of ``spec``,
    unset that of the first run or exported model, and is judged by its reward. Raises InputError, and RunFailed where
    somebody answered nothing.
    """
    for file, option in ((html, "--html"), (csv, "--csv")):
        if file is not None:
            check_parent(file, option)
    names = names or ("latest",)
    from harness.store.reader import find_reader

    reader = find_reader(database_url(out, db))
    groups = _find_groups(reader, names)
    if reader is not None and groups:
        return _compare_groups(reader, names, groups, spec, html, csv)
    runs = _match_runs(reader, names)
    if reader is not None and runs:
        if spec is not None:
            raise InputError(
                f"--spec: runs alone are compared by their records; {runs[0].name}@best, with a checkpoint, is asked"
            )
        if len({record.id for record in runs}) < max(2, len(runs)):
            raise InputError("compare takes two or more different runs; grpo runs lists them")
        from harness.commands.comparing.runs import write_comparison

        return write_comparison(reader, [record.name for record in runs], html, csv)
    return _compare_answerers(names, spec, html, csv, db, out, progress)


def _find_groups(reader: RunReader | None, names: Sequence[str]) -> list[str]:
    from harness.views.groups import find_stage_runs

    if reader is None:
        return []
    known = {run.name for run in reader.list_runs()}
    grouped = {name.partition("/")[0] for name in known if "/" in name}
    return [name for name in names if name in grouped and name not in known and find_stage_runs(reader, name)]


def _compare_groups(
    reader: RunReader,
    names: Sequence[str],
    groups: Sequence[str],
    spec: str | None,
    html: Path | None,
    csv: Path | None,
) -> Document:
    from harness.commands.comparing.groups import compare_group, compare_groups

    if len(groups) < len(names):
        from harness.views.groups import find_stage_runs

        stage = next(iter(find_stage_runs(reader, groups[0]).values()))
        raise InputError(
            f"{groups[0]} is a group, which is compared alone or with other groups; beside something else name the run "
            f"of a stage, such as {stage.name}"
        )
    if len(set(groups)) < len(groups):
        raise InputError("compare takes different groups; grpo runs lists them")
    if spec is not None:
        raise InputError("--spec: the stages of a group are compared by their scores; leave it out")
    one = len(groups) == 1
    document = compare_group(reader, groups[0]) if one else compare_groups(reader, groups)
    if html is not None:
        from harness.views.html.answers import render_answers_page, render_groups_page

        page = render_answers_page(document) if one else render_groups_page(document)
        write_text(html, [page], option="--html")
    if csv is not None:
        from harness.views.answers import list_rows

        write_rows(csv, [row for each in ([document] if one else document["each"]) for row in list_rows(each)])
    return Document(document)


def _match_runs(reader: RunReader | None, names: Sequence[str]) -> list[RunRecord] | None:
    """Match names with runs, None where one of them names something else. Raises InputError for what begins several."""
    from harness.config.names import KNOWN_MODELS

    known = [run.name for run in reader.list_runs()] if reader is not None else []
    for name in names:
        other = name in KNOWN_MODELS or ":" in name or "@" in name or name.endswith(".gguf") or Path(name).is_dir()
        begins = name == "latest" or any(run.startswith(name) for run in known if name)
        if name not in known and (other or not (known and begins)):
            return None
    return [reader.match_run(name) for name in names] if reader is not None else None


def _compare_answerers(
    names: Sequence[str],
    spec: str | None,
    html: Path | None,
    csv: Path | None,
    db: str | None,
    out: str,
    progress: Progress,
) -> Document:
    from harness.run.answerers import find_answerer

    found = [find_answerer(name, db=db, out=out) for name in names]
    if len({(one.kind, one.name, one.checkpoint) for one in found}) < max(2, len(found)):
        raise InputError("compare takes two or more that differ, or the name of one group; grpo runs lists the runs")
    from harness.commands.comparing.answerers import compare_answerers

    document = compare_answerers(list(zip(names, found, strict=True)), spec=spec, progress=progress)
    if html is not None:
        from harness.views.html.answers import render_answers_page

        write_text(html, [render_answers_page(document)], option="--html")
    if csv is not None:
        from harness.views.answers import list_rows

        write_rows(csv, list_rows(document))
    return Document(document)
