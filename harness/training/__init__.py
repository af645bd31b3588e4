"""The GRPO step on TRL and supervised fine-tuning. Only this package touches private parts of TRL."""

from harness.core.environment import prepare_environment

prepare_environment()  # as harness/models/__init__.py
