"""An autonomous GRPO tuning harness: a step controller, its records, and the views on them."""

__version__ = "0.1.0"
