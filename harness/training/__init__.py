"""The GRPO step on TRL and supervised fine-tuning. Only this package touches private parts of TRL."""
