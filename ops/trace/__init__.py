"""Traces from the log: spans of records, drawn in the terminal and as SVG, and exported by OTLP."""
