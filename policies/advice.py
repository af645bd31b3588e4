"""What each finding asks of the person whose run it is, in a sentence: for logs of other trainers, which no rule of
ours can act on. docs/diagnose.md shows each with a run that has it."""

from __future__ import annotations

from collections.abc import Mapping

ADVICE: Mapping[str, str] = {
    "errored": "stop and mend the reward: it fails on completions, and updates rest on what is left",
    "pays_everyone": "stop and read samples: the verifier tells right from wrong no longer",
    "gamed": "stop and read samples: partial credit is being exploited",
    "proxy_only": "stop and read samples: only partial credit teaches; give it less weight, or take easier tasks",
    "dev_drop": "go back to the best checkpoint and halve the learning rate",
    "not_finite": "halve the learning rate, and go back if weights are not finite",
    "truncation": "raise the limit of tokens: completions are cut before the answer",
    "never_ends": "give an end: a stop sequence, the EOS token or a supervised start; more tokens do not help",
    "cut_but_paid": "give an end, a stop sequence or the EOS token, not more tokens: answers are paid before the cut",
    "entropy_explosion": "go back to a checkpoint from before, with a learning rate four times lower",
    "chaos": "sample at temperature 1",
    "collapse": "raise the temperature, or go back: the texts of a group are all the same",
    "kl_spike": "halve the learning rate; go back if rewards stay low",
    "length_inflation": "check what pays for length; halve the learning rate, go back if rewards fell",
    "oscillation": "halve the learning rate, or take more prompts a step",
    "gradient_spike": "watch it; halve the learning rate or clip gradients if it comes again",
    "instability": "watch it, and halve the learning rate: part of what was reached is lost again",
    "temperature": "compare with temperature 1 on the same prompts",
    "poor_prompts": "take prompts that are sometimes solved: others have more signal",
    "unsolved": "take easier prompts, or grade partly right answers",
    "flat": "raise the temperature once, then change the reward: only the format is paid",
    "solved": "take harder prompts, or stop: there is little left to learn from these",
    "no_middle": "take prompts between those always right and those always wrong, or larger groups",
    "small_groups": "double the group size",
    "large_groups": "halve the group size: most tokens are sampled in vain",
    "anchored": "lower beta: it holds the model where it was",
    "learning_rate": "begin anew with the learning rate that KL asks for",
    "no_op_learning_rate": "raise the learning rate: the model stays where it was",
    "plateau": "halve the learning rate, or stop: dev rises no longer",
    "no_signal": "stop: no group teaches; look at the suspects",
    "slow_sampling": "look at the machine",
}
