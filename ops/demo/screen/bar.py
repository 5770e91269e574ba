"""The seats of a group as a bar, and the characters of the view, for terminals of any encoding."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from ops.audit.group.decisions import GroupFold

BAR_CELLS = 20


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Characters of one cell each."""

    member: str
    reserved: str
    tier: str
    free: str
    #: In front of the name of a process.
    up: str
    down: str


BLOCKS = Glyphs(member="█", reserved="▒", tier="│", free="·", up="●", down="○")
ASCII = Glyphs(member="#", reserved="+", tier="|", free=".", up="*", down="x")


def glyphs(encoding: str) -> Glyphs:
    """The blocks, or ASCII characters if the encoding lacks one of the blocks."""
    try:
        "".join(getattr(BLOCKS, name) for name in Glyphs.__slots__).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BLOCKS


def bar(group: GroupFold, glyphs: Glyphs = BLOCKS) -> Text:
    """Members, then reserved seats, then free seats; the first seat of each tier that is not reached yet is marked."""
    text = Text()
    if group.terms is None:
        return text
    confirmed = len(group.confirmed)
    tiers = {tier.members for tier in group.terms.tiers}
    for seat in range(1, min(group.terms.capacity, BAR_CELLS) + 1):
        if seat <= confirmed:
            text.append(glyphs.member, style="green")
        elif seat <= group.taken:
            text.append(glyphs.reserved, style="yellow")
        else:
            text.append(*((glyphs.tier, "cyan") if seat in tiers else (glyphs.free, "dim")))
    return text


def legend(glyphs: Glyphs) -> Text:
    """The meaning of the bar and of the price beside it."""
    return Text.assemble(
        (glyphs.member, "green"),
        " member  ",
        (glyphs.reserved, "yellow"),
        " seat reserved until its hold is authorised  ",
        (glyphs.free, "dim"),
        " free seat  ",
        (glyphs.tier, "cyan"),
        " completes the next tier; price: of one piece if nobody else joins, - below the first tier",
    )
