"""Topics and records: specifications, headers, wire format, dead letters, codecs. Pure."""
