"""``grpo init``: from the data or the TRL configuration that somebody has to a spec that runs."""
