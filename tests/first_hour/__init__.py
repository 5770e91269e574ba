"""The first hour of a newcomer, step by step: fresh clone, README by hand, wrong arguments, odd environments.

`make first-hour` runs it. The commands come from README.md, docs/identities.md and what `make up` prints.
"""
