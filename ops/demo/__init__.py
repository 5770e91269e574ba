"""`make demo`: a shop's evening of real orders against a real broker and real services."""
