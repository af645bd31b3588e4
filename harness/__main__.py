"""``python -m harness`` is ``grpo``."""

from harness.cli import main

main()
