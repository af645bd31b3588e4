"""What a person reads of a run: summary, review, comparison, terminal and HTML."""
