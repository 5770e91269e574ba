"""The preview picture of a share page, which chats show: product, price, ladder and seats, as PNG.

Drawn with a font of this machine that has what the texts need. Without one, with the font inside Pillow: Latin letters
and figures, and the code of a currency in place of its sign.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from console.share.offer import Offer
from console.share.texts import EN, Texts
from ops.terminal.amounts import amount
from shared_kernel.currencies import decimal_text

WIDTH, HEIGHT = 1_200, 630
_BACK, _CARD, _INK, _MUTE = "#faf6f0", "#ffffff", "#1f1a17", "#6b625b"
_ACCENT, _WON, _FREE, _LINE, _NEXT = "#c2361b", "#ebb8aa", "#efe8de", "#e2d9cd", "#fdeee9"
_EDGE = 64
#: Fonts that machines often have, those with Chinese characters first.
_USUAL = tuple(
    Path("/usr/share/fonts") / name
    for name in (
        "opentype/noto/NotoSansCJK-Regular.ttc",
        "truetype/wqy/wqy-microhei.ttc",
        "truetype/wqy/wqy-zenhei.ttc",
        "truetype/noto/NotoSans-Regular.ttf",
        "truetype/dejavu/DejaVuSans.ttf",
    )
)


class Pen:
    """Draws texts with the first font that has all their characters."""

    def __init__(self, font: Path | None) -> None:
        """`font` comes before the usual ones."""
        wanted = [font] if font is not None else []
        self._files = [one for one in (*wanted, *_USUAL) if one.is_file()]

    def font(self, text: str, size: int) -> Any:
        """The font for a text; None: no font has all its characters."""
        for file in (*self._files, None):
            found = _load(file, size)
            if _has(found, text):
                return found
        return None

    def price(self, minor: int, currency: str) -> str:
        """An amount with the sign of its currency, or with its code where no font has the sign."""
        text = amount(minor, currency)
        return text if self.font(text, 40) is not None else f"{currency} {decimal_text(minor, currency)}"

    def texts(self, texts: Texts) -> Texts:
        """The texts, or the English ones where no font has the characters of others."""
        return texts if self.font(texts("more"), 40) is not None else Texts(EN)


@lru_cache(maxsize=64)
def _load(file: Path | None, size: int) -> Any:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(str(file), size)


def _has(font: Any, text: str) -> bool:
    # A font draws one and the same box for all characters that it lacks.
    lacking = _glyph(font, "\U0010fffe")
    return all(char.isspace() or _glyph(font, char) != lacking for char in text)


def _glyph(font: Any, char: str) -> tuple[Any, bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)


def picture(offer: Offer, texts: Texts, pen: Pen) -> bytes:
    """The picture of a group, of some 20 KB. Takes about 50 ms of a processor."""
    texts = pen.texts(texts)
    image = Image.new("RGB", (WIDTH, HEIGHT), _BACK)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, WIDTH, 12), fill=_ACCENT)
    ladder = offer.ladder
    price = pen.price(ladder.price_minor, offer.currency)
    y = 56
    if (font := _fitting(pen, offer.product, 60, 700)) is not None:
        draw.text((_EDGE, y), _cut(font, offer.product, 700), font=font, fill=_INK)
    _right(draw, pen, price, WIDTH - _EDGE, y - 14, 84, _ACCENT)
    y += 96
    _left(draw, pen, _line(offer, texts, pen), _EDGE, y, 38, _MUTE)
    _ladder(draw, pen, offer, texts, (_EDGE, 250, WIDTH - _EDGE, 500))
    _seats(draw, offer, (_EDGE, 540, WIDTH - _EDGE, 590))
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


def _line(offer: Offer, texts: Texts, pen: Pen) -> str:
    ladder = offer.ladder
    following = pen.price(ladder.next_minor, offer.currency)
    values = {"members": offer.members, "capacity": offer.capacity, "missing": ladder.missing, "price": following}
    if offer.state != "forming":
        return texts(f"{offer.state}_title")
    return texts("about" if ladder.missing else "about_lowest", **values)


def _ladder(draw: Any, pen: Pen, offer: Offer, texts: Texts, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    steps = offer.ladder.steps
    gap = 20
    width = (right - left - gap * (len(steps) - 1)) / len(steps)
    room = bottom - top - 92
    for index, step in enumerate(steps):
        x = left + index * (width + gap)
        y = bottom - 92 - room * step.height / 10
        fill = _ACCENT if step.now else _NEXT if step.state == "next" else _WON if step.state == "won" else _FREE
        draw.rounded_rectangle(
            (x, y, x + width, bottom - 92), 14, fill=fill, outline=_ACCENT if step.state == "next" else None
        )
        label = pen.price(step.price_minor, offer.currency)
        under = texts("alone") if step.members == 1 else texts("people", members=step.members)
        size = 34 if width > 150 else 24
        middle = x + width / 2
        _middle(draw, pen, label, middle, bottom - 80, size, _ACCENT if step.now else _INK)
        _middle(draw, pen, under, middle, bottom - 34, round(size * 0.76), _MUTE)


def _seats(draw: Any, offer: Offer, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    seats: Sequence[str] = offer.ladder.seats
    if not seats:
        draw.rounded_rectangle((left, top + 8, right, bottom - 8), 17, fill=_FREE)
        share = min(1.0, offer.members / offer.capacity)
        if share > 0:
            draw.rounded_rectangle(
                (left, top + 8, left + max(36, (right - left) * share), bottom - 8), 17, fill=_ACCENT
            )
        return
    size = min(bottom - top, (right - left) / len(seats) - 8)
    for index, seat in enumerate(seats):
        x = left + index * (size + 8)
        fill = _ACCENT if seat == "paid" else _NEXT if seat == "paying" else _FREE
        edge = _ACCENT if seat == "paying" else None if seat == "paid" else _LINE
        draw.ellipse((x, top, x + size, top + size), fill=fill, outline=edge, width=3)


def _fitting(pen: Pen, text: str, size: int, width: int) -> Any:
    """The font at the size, or smaller down to two thirds, with which a text fits."""
    for smaller in range(size, size * 2 // 3, -4):
        font = pen.font(text, smaller)
        if font is None or font.getlength(text) <= width:
            return font
    return pen.font(text, size * 2 // 3)


def _cut(font: Any, text: str, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    end = "…" if _has(font, "…") else "..."
    while text and font.getlength(text + end) > width:
        text = text[:-1]
    return text.rstrip(" ,.;") + end


def _left(draw: Any, pen: Pen, text: str, x: float, y: float, size: int, fill: str) -> None:
    if (font := _fitting(pen, text, size, WIDTH - 2 * _EDGE)) is not None:
        draw.text((x, y), text, font=font, fill=fill)


def _right(draw: Any, pen: Pen, text: str, x: float, y: float, size: int, fill: str) -> None:
    if (font := pen.font(text, size)) is not None:
        draw.text((x - font.getlength(text), y), text, font=font, fill=fill)


def _middle(draw: Any, pen: Pen, text: str, x: float, y: float, size: int, fill: str) -> None:
    if (font := pen.font(text, size)) is not None:
        draw.text((x - font.getlength(text) / 2, y), text, font=font, fill=fill)
