"""The ``grpo`` command: parse, call a command, print."""
