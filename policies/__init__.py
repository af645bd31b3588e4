"""Decision policies: what to change after a step, and why."""
