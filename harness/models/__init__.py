"""From a name to a model; generation, evaluation and memory of a model."""

from harness.core.environment import prepare_environment

# For who comes by harness.commands and not by ``grpo``: the modules below load torch, which reads it then.
prepare_environment()
