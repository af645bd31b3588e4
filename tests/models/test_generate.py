"""The sampling loop against transformers' own, and what it promises beyond that."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from harness.errors import Diverged
from harness.models.generate import Generated, build_stop, draw_uniforms, find_shared, generate_ids, sample_tokens
from harness.models.tiny import build_tiny_model, build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()
PROMPTS = [TOKENIZER(text)["input_ids"] for text in ("12+34=", "5+5=", "5+5=", "5+5=", "123+456=", "a")]


def sharp_model(seed: int = 0) -> torch.nn.Module:
    """Untrained weights, sharpened so that completions differ and some end early."""
    model = build_tiny_model(seed)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3)
        model.model.embed_tokens.weight[TOKENIZER.eos_token_id].mul_(2)
    return model.eval()


def sample(
    model: torch.nn.Module, prompts: list[list[int]], uniforms: torch.Tensor | None, **more: object
) -> Generated:
    options = {"max_tokens": 12, "temperature": 1.0 if uniforms is not None else 0.0}
    options |= {"eos_ids": [TOKENIZER.eos_token_id]} | more
    return generate_ids(model, prompts, pad_id=TOKENIZER.pad_token_id, uniforms=uniforms, **options)


def other_architectures() -> list[torch.nn.Module]:
    """Learned absolute positions, and a sliding window that is shorter than the text."""
    size = {"vocab_size": len(TOKENIZER), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **size))
    mistral = MistralForCausalLM(
        MistralConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            sliding_window=5, **size,
        )
    )  # fmt: skip
    for model in (gpt2, mistral):
        for parameter in model.parameters():
            parameter.data.mul_(4)
    return [gpt2.eval(), mistral.eval()]


@pytest.mark.parametrize("model", [sharp_model(), *other_architectures()], ids=["llama", "gpt2", "mistral"])
def test_greedy_is_what_transformers_generates(model: torch.nn.Module) -> None:
    made = sample(model, PROMPTS, None)
    for prompt, ids, truncated in zip(PROMPTS, made.ids, made.truncated, strict=True):
        whole = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False,
            pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        assert ids == whole[0, len(prompt) :].tolist()
        assert truncated == (ids[-1] != 1)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    model = sharp_model()
    uniforms = draw_uniforms(3, len(PROMPTS), 12)
    often = list(range(20))
    together = sample(model, PROMPTS, uniforms, eos_ids=often)
    assert len({len(ids) for ids in together.ids}) > 1, "some rows should end early"
    for row, prompt in enumerate(PROMPTS):
        alone = sample(model, [prompt], uniforms[row : row + 1], eos_ids=often)
        assert alone.ids[0] == together.ids[row]
        assert alone.truncated[0] == together.truncated[row]


def test_log_probs_and_entropy_are_those_of_a_plain_forward_pass() -> None:
    model = sharp_model()
    made = sample(model, PROMPTS, draw_uniforms(4, len(PROMPTS), 12), temperature=0.7)
    for row, (prompt, ids) in enumerate(zip(PROMPTS, made.ids, strict=True)):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / 0.7
        expected = logits.log_softmax(-1)
        chosen = expected.gather(-1, torch.tensor(ids).unsqueeze(-1)).squeeze(-1)
        assert torch.allclose(made.log_probs[row, : len(ids)], chosen, atol=1e-4)
        assert not made.log_probs[row, len(ids) :].any()
        assert float(made.entropy[row]) == pytest.approx(float(-(expected.exp() * expected).sum()), abs=1e-3)


def test_tokens_come_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]]).expand(20_000, 4)
    uniforms = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen, _, entropy = sample_tokens(logits, 1.0, 1.0, uniforms)
    shares = torch.bincount(chosen, minlength=4) / 20_000
    p = logits[0].softmax(-1)
    assert torch.allclose(shares, p, atol=0.012)
    assert shares[3] == 0
    assert float(entropy[0]) == pytest.approx(float(torch.distributions.Categorical(p).entropy()), abs=1e-5)


@pytest.mark.parametrize("edge", [0.0, 1 - 1e-16])
def test_the_edges_of_the_uniform_range_choose_tokens_that_can_be(edge: float) -> None:
    logits = torch.tensor([[float("-inf"), 1.0, 2.0, float("-inf")]])
    chosen, log_prob, _ = sample_tokens(logits, 1.0, 1.0, torch.tensor([edge], dtype=torch.float64))
    assert int(chosen) in (1, 2)
    assert torch.isfinite(log_prob).all()


def test_top_p_cuts_the_tail_but_not_the_log_probabilities() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).expand(2_000, 4)
    uniforms = torch.rand(2_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chosen, log_prob, _ = sample_tokens(logits, 1.0, 0.7, uniforms)
    assert set(chosen.tolist()) == {0, 1}  # 0.64 alone does not reach 0.7
    assert torch.allclose(log_prob, logits.log_softmax(-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1))


def test_the_same_seed_samples_the_same() -> None:
    model = sharp_model()
    first, second = (sample(model, PROMPTS, draw_uniforms(5, len(PROMPTS), 12)) for _ in range(2))
    assert first.ids == second.ids
    assert sample(model, PROMPTS, draw_uniforms(6, len(PROMPTS), 12)).ids != first.ids


def test_stop_strings_and_reports() -> None:
    model = sharp_model()
    stop = build_stop(TOKENIZER, [chr(code) for code in range(33, 80)])
    seen: list[int] = []
    made = sample(model, PROMPTS, draw_uniforms(7, 6, 40), max_tokens=40, stop=stop, report=seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == sum(not cut for cut in made.truncated)
    for ids in made.ids:
        text = TOKENIZER.decode(ids, skip_special_tokens=True)
        assert sum(33 <= ord(c) < 80 for c in text) <= 1


def test_outputs_that_are_not_finite_raise() -> None:
    model = sharp_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    for uniforms in (None, draw_uniforms(0, len(PROMPTS), 12)):
        with pytest.raises(Diverged):
            sample(model, PROMPTS, uniforms)


def test_neighbouring_equal_prompts_are_found() -> None:
    distinct, owner = find_shared([[1], [1], [2, 3], [1]])
    assert distinct == [[1], [2, 3], [1]]
    assert owner == [0, 0, 1, 2]


def test_a_rehearsal_has_completions_of_the_lengths_it_was_given() -> None:
    lengths = [3, 1, 12, 7, 2, 12]
    uniforms = draw_uniforms(0, len(PROMPTS), 12)
    made = sample(sharp_model(), PROMPTS, uniforms, lengths=lengths)
    assert [len(ids) for ids in made.ids] == lengths
    free = sample(sharp_model(), PROMPTS, uniforms)
    assert [len(ids) for ids in free.ids] != lengths
