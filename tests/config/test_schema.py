from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.config.load import apply_overrides, load_recorded, load_spec, parse_spec
from harness.config.names import recipe_names
from harness.config.schema import DEFAULT_GROUP_SIZE, RunSpec
from harness.core.knobs import DEFAULT_BOUNDS
from harness.errors import InputError


def test_an_empty_spec_is_all_defaults() -> None:
    assert parse_spec({}) == RunSpec()


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_is_valid_and_called_by_its_name(recipe: str) -> None:
    _, name = load_spec(recipe)
    assert name == recipe


def test_no_source_is_the_arithmetic_recipe() -> None:
    assert load_spec(None) == load_spec("arithmetic")


def test_a_spec_survives_json() -> None:
    spec, _ = load_spec("arithmetic")
    assert parse_spec(json.loads(spec.model_dump_json())) == spec


def test_toml_and_json_files_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seed = 3\n[knobs]\ntemperature = 0.7\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"seed": 3, "knobs": {"temperature": 0.7}}', encoding="utf-8")
    assert load_spec(str(tmp_path / "a.toml")) == load_spec(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=5", ("seed",), 5),
        ("knobs.temperature=0.7", ("knobs", "temperature"), 0.7),
        ("pool.splits.dev=50", ("pool", "splits", "dev"), 50),
        ("policy.kind=fixed", ("policy", "kind"), "fixed"),
        ('model.name="tiny"', ("model", "name"), "tiny"),
        ("trainer.stop=['#']", ("trainer", "stop"), ["#"]),
        ("pool.source=rows.jsonl", ("pool", "source"), "rows.jsonl"),
        ("output.db=sqlite:///x=y.db", ("output", "db"), "sqlite:///x=y.db"),
        ("bounds.temperature=[0.5, 1.2]", ("bounds", "temperature"), (0.5, 1.2)),
    ],
)
def test_overrides_take_toml_values_and_bare_words(override: str, path: tuple[str, ...], value: object) -> None:
    spec, _ = load_spec("arithmetic", [override])
    found: object = spec
    for part in path:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("knobs", "--set takes section.field=value, not 'knobs'"),
        ("=3", "--set takes section.field=value"),
        ("knobs.max_tokens.x=3", "knobs.max_tokens.x: max_tokens is a value, not a section"),
        ("knobs.temprature=1", "knobs.temprature: no such field in .knobs., did you mean temperature"),
        ("modle.name=tiny", "modle: no such field at the top level, did you mean model"),
        ("knobs.temperature=-1", "knobs.temperature: .*greater than 0, not -1"),
        ("knobs.temperature=9", r"knobs.temperature 9 is outside its bounds \[0.3, 1.5\]"),
        ("knobs.temperature=hot", "knobs.temperature: .*not 'hot'"),
        ("knobs.temperature=nan", "knobs.temperature: .*finite"),
        ("budget.steps=0", "budget.steps: .*greater than or equal to 1, not 0"),
        ("policy.kind=rule", "policy.kind: no decision policy named rule, did you mean rules"),
        ("pool.splits.dve=3", "pool.splits: no split named dve, did you mean dev"),
        ("pool.splits.Dev=3", "pool.splits: no split named Dev, did you mean dev"),
        ("pool.splits.trian=3", "pool.splits: no split named trian, did you mean train"),
        ("pool.splits.tst=3", "pool.splits: no split named tst, did you mean test"),
        ("pool.splits.probbe=3", "pool.splits: no split named probbe, did you mean probe"),
        ("pool.splits.all=3", "pool.splits: no split can be named all"),
        ("pool.strip='<<['", "pool.strip: '<<.' is no regular expression: unterminated character set"),
        ("pool.conflicts=last", "pool.conflicts: must be 'refuse', 'first' or 'drop', not 'last'"),
        ('pool.splits."a b"=3', "pool.splits: a split's name is of small letters"),
        ("pool.splits.dev=0", "pool.splits: dev 0 must be greater than or equal to 1"),
        ("pool.splits.other=-1", "pool.splits: other -1 must be greater than or equal to 0"),
        ("pool.splits.dev=1.0", "pool.splits: dev 1 must be a whole number of prompts or a fraction between 0 and 1"),
        ("pool.splits={test=0.6, dev=0.5}", "pool.splits: the fractions add up to 1.1"),
        ('pool.columns={answer="a"}', "pool.columns: no column named answer"),
        ("pool.template=hello", r"pool.template: must contain \{prompt\}"),
        ("trainer.lr_scheduler=cosine", "needs scheduler_total_steps"),
        ("trainer.loss_type=gpo", "trainer.loss_type"),
        ("reward.range=[1, 0]", "range .* must go from low to high"),
        ("reward.solved_at=2", "solved_at 2 is not within range"),
        ("reward.weights=[1, 2]", "2 values for 1 functions"),
        ("reward.function=[]", "function names no reward"),
        ("bounds.temp=[0, 1]", "bounds: no hyperparameter named temp"),
        ("bounds.temperature=[1, 0]", "must go from low to high"),
        ("seed=-1", "seed: "),
        ("name=a/b", "name: 'a/b' must be letters"),
        ("name=..", "name: '..' must be letters"),
        ("name=latest", "name: 'latest' means something else"),
        ("name=-x", "name: '-x' means something else"),
        ("seed=" + "9" * 5000, "seed: "),
        ("seed=" + "[" * 5000, "seed: "),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_field(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_spec("arithmetic", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("arithmetik", "no recipe named arithmetik; recipes are arithmetic"),
        ("nothing/here.toml", "no spec file at nothing/here.toml"),
    ],
)
def test_a_source_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_spec(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"seed = ", "not valid TOML"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b"[1]", "must hold a table"),
        ("a.json", b"[" * 100_000, "not valid JSON: nested too deeply"),
        ("a.toml", b"a=" + b"[" * 100_000, "not valid TOML: nested too deeply"),
        ("a.toml", b"name = '\xff'", "not valid TOML"),
    ],
)
def test_a_malformed_file_is_wrong_input(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_spec(str(tmp_path / name))


def test_splits_that_are_not_given_keep_their_size() -> None:
    assert parse_spec({"pool": {"splits": {"dev": 5}}}).pool.splits == {"probe": 100, "dev": 5, "test": 300}


def test_bounds_replace_those_of_one_knob() -> None:
    spec = parse_spec({"bounds": {"temperature": [0.1, 2.0]}, "knobs": {"temperature": 1.9}})
    assert spec.all_bounds == DEFAULT_BOUNDS | {"temperature": (0.1, 2.0)}


@pytest.mark.parametrize(
    ("given", "recommended", "expected"),
    [(4, 16, (4, "spec")), (None, 16, (16, "model")), (None, None, (DEFAULT_GROUP_SIZE, "default"))],
)
def test_group_size_comes_from_spec_then_model_then_default(
    given: int | None, recommended: int | None, expected: tuple[int, str]
) -> None:
    spec = parse_spec({"knobs": {"group_size": given}})
    knobs, origin = spec.first_knobs(recommended)
    assert (knobs.group_size, origin) == expected


@pytest.mark.parametrize("kind", ["rules", "fixed", "llm", "replay:night-1"])
def test_these_are_the_decision_policies(kind: str) -> None:
    assert parse_spec({"policy": {"kind": kind}}).policy.kind == kind


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"policy": {"kind": "lmm"}}, "policy.kind: no decision policy named lmm, did you mean llm"),
        ({"policy": {"kind": "replay:"}}, "policy.kind: replay: needs the name of a run"),
        ({"budget": {"usd": 1}}, 'budget.usd: a cap needs prices, in USD per million tokens: set [prices] "claude-'),
        ({"llm": {"output_price": 5}}, 'llm.output_price: it stands in [prices] now: "claude-haiku-5-5" = {'),
        ({"llm": {"time_limit": 5}}, "llm.time_limit: it is answers.time_limit now"),
        ({"llm": {"model": "openai:"}}, "llm.model: 'openai:' names no model"),
        ({"answers": {"concurrency": 0}}, "answers.concurrency: must be greater than or equal to 1"),
        ({"prices": {"m": {"input": 1}}}, "prices.m.output: field required"),
        ({"prices": {"m": {"input": -1, "output": 5}}}, "prices.m.input: must be greater than or equal to 0"),
        ({"llm": {"key": "x"}}, "llm.key: no such field"),
    ],
)
def test_what_is_wrong_with_an_llm_is_told_before_it_is_asked(tree: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_spec(tree)


def test_a_cap_with_prices_is_right() -> None:
    assert parse_spec({"budget": {"usd": 1}, "prices": {"m": {"input": 1, "output": 5}}}).budget.usd == 1


OLD_LLM = {"model": "m/a.b", "every": 7, "attempts": 2, "time_limit": 9.0, "input_price": 1.0, "output_price": 5.0}


def test_a_spec_from_before_has_its_llm_settings_where_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "run-spec.json"
    path.write_text(json.dumps({"llm": OLD_LLM, "budget": {"usd": 1.0}}))
    spec = load_recorded(path)
    assert (spec.llm.model, spec.llm.every) == ("m/a.b", 7)
    assert (spec.answers.attempts, spec.answers.time_limit) == (2, 9.0)
    assert spec.prices["m/a.b"].model_dump() == {"input": 1.0, "output": 5.0}
    path.write_text(json.dumps({"llm": OLD_LLM | {"input_price": None, "output_price": None}}))
    assert load_recorded(path).prices == {}
    with pytest.raises(InputError, match=r"^llm\.attempts: it is answers\.attempts now$"):
        parse_spec({"llm": {"attempts": 2}})


def test_a_name_with_dots_stands_in_quotes() -> None:
    tree = apply_overrides({}, ['prices."qwen3.5:8b".input=1', 'prices."qwen3.5:8b".output=2.5', "answers.attempts=2"])
    spec = parse_spec(tree)
    assert spec.prices["qwen3.5:8b"].output == 2.5
    for wrong in ('prices."m.input=1', "a..b=1", ".a=1", "a.=1", '"".a=1'):
        with pytest.raises(InputError, match=r"--set takes section\.field=value"):
            apply_overrides({}, [wrong])


def test_a_split_may_have_any_name_that_is_no_slip_of_the_pen() -> None:
    names = ["rlaif", "rlhf", "final", "trial", "best", "tests", "text", "rest", "devs", "robe"]
    spec = parse_spec({"pool": {"splits": dict.fromkeys(names, 3)}})
    assert spec.pool.splits.keys() == {*names, "probe", "dev", "test"}
    both = parse_spec({"pool": {"splits": {"train": 0.5, "trian": 0.2}}})
    assert both.pool.splits["trian"] == 0.2, "train has a share of its own"


def test_a_spec_that_a_run_left_in_a_file_says_which_ids_it_knows(tmp_path: Path) -> None:
    tree = RunSpec().model_dump(mode="json")
    path = tmp_path / "run-spec.json"
    path.write_text(json.dumps(tree))
    assert load_recorded(path) == RunSpec()
    del tree["pool"]["identity"], tree["pool"]["conflicts"]
    path.write_text(json.dumps(tree))
    assert (load_recorded(path).pool.identity, load_recorded(path).pool.conflicts) == ("normalised", "first")
