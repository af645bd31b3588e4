"""One function and one frozen result per command: no printing, no typer."""
