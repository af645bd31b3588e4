"""``grpo compare``: by what is named, from records of runs, from the scores of groups, or by asking."""
