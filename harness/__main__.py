"""``python -m harness`` is ``grpo``."""

from harness.cli.app import main

main()
