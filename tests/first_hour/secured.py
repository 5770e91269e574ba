"""Step on a secured stack: the commands of docs/identities.md, and the example that `make up SECURED=1` prints."""

from __future__ import annotations

from tests.first_hour.by_hand import run_printed_example
from tests.first_hour.checkout import Foreground, StepFailed
from tests.first_hour.documents import blocks
from tests.first_hour.hour import Hour, Step


def identities(hour: Hour) -> None:
    """Makes an identity, allows it, uses it, renews its certificate live: all blocks of the page, in order."""
    hour.end_stack()
    page = blocks(hour.checkout.root / "docs" / "identities.md")
    starts = [at for at, block in enumerate(page) if block.text.startswith("make up ")]
    if len(starts) != 1:
        raise StepFailed("docs/identities.md has one command that starts the system")
    before, command, after = page[: starts[0]], page[starts[0]].text, page[starts[0] + 1 :]
    hour.checkout.shell("".join(block.text for block in before)).expect(0)
    with Foreground(hour.checkout, *command.split()[2:]) as stack:
        stack.wait_ready()
        script = []
        for number, block in enumerate(after):
            if block.language == "python":
                file = hour.place / f"identities_{number}.py"
                file.write_text(block.text, encoding="utf-8")
                script.append(f"python '{file}'\n")
            elif block.language == "sh":
                script.append(block.text)
        hour.checkout.shell("".join(script), within_s=180).expect(0, "new certificates are in use")
        run_printed_example(hour, stack.example)
        stack.interrupt()


STEPS = (Step("identities", "docs/identities.md on make up SECURED=1, and its example", 360, identities),)
