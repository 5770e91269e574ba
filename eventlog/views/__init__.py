"""Reads beside the processors: views, change notification, tables of compacted topics."""
