"""What is checked before a run creates anything: inputs, preflight, reference answers, this machine. No torch."""
