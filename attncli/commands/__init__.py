"""One file a command: parse, call, present."""
