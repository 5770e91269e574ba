"""HTTP for both listeners: templates, headers, streams of events, authentication."""
