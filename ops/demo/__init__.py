"""A shop's evening, played against the real thing: what `make demo` shows."""
