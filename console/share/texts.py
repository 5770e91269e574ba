"""The texts of the share page, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EN, ZH = "en", "zh"
#: The values of `lang` and `og:locale`.
HTML_LANGUAGE = {EN: "en", ZH: "zh-Hans"}
LOCALE = {EN: "en_GB", ZH: "zh_CN"}

_TEXTS: Mapping[str, Mapping[str, str]] = {
    EN: {
        "title": "{product}: {price} together",
        "about": "{missing} more and everybody pays {price}. {members} of {capacity} are in.",
        "about_lowest": "Everybody pays {price}, the lowest price. {members} of {capacity} are in.",
        "price_now": "Today's price",
        "price_first": "Price for {members}",
        "alone": "alone",
        "people": "{members} people",
        "more_before": "",
        "more": "more and everybody pays",
        "lowest": "The lowest price is reached. Everybody pays",
        "closes_in": "Closes in",
        "until": "until",
        "closing": "closing",
        "in": "{members} of {capacity} are in",
        "left": "{left} seats left",
        "left_one": "1 seat left",
        "join": "Join this group",
        "safe": "You pay only if the group completes. Otherwise all money is released.",
        "scan": "Let a friend scan it",
        "qr": "QR code of this page",
        "live": "live",
        "away": "reconnecting…",
        "picture": "Ladder of prices and taken seats",
        "ladder": "Prices by number of people",
        "completed_title": "This group is complete",
        "completed_text": "{members} people pay {price} each.",
        "expired_title": "This group ran out of time",
        "expired_text": "It had {members} of the people it needed. All money was released.",
        "cancelled_title": "This group was cancelled",
        "cancelled_text": "All money was released.",
        "full_title": "This group is full",
        "full_text": "Every seat is taken.",
        "others": "Open groups, nearest to completion",
        "others_none": "No other group is open at the moment.",
        "campaign_title": "Groups that are open now",
        "campaign_text": "Join one, and the price falls for everybody in it.",
        "expired_link_title": "This link has expired",
        "expired_link_text": "Links end after a while. Ask your friend for a new one.",
        "tampered_title": "This link was changed",
        "tampered_text": "Its signature does not fit. Ask your friend to send it again, as a whole.",
        "unknown_title": "This link is not known",
        "unknown_text": "Part of it may be missing. Ask your friend to send it again.",
        "away_title": "Just a moment",
        "away_text": "The groups can't be read at present. Please try again soon.",
        "busy_title": "Too many requests",
        "busy_text": "Please try again in a moment.",
    },
    ZH: {
        "title": "{product}：一起买 {price}",
        "about": "再来 {missing} 人，每人只付 {price}。已有 {members}/{capacity} 人参团。",
        "about_lowest": "每人只付 {price}，已是最低价。已有 {members}/{capacity} 人参团。",
        "price_now": "当前拼团价",
        "price_first": "{members} 人成团价",
        "alone": "单独购买",
        "people": "{members} 人",
        "more_before": "再来",
        "more": "人，每人只付",
        "lowest": "已达最低价，每人只付",
        "closes_in": "剩余",
        "until": "截止",
        "closing": "即将结束",
        "in": "已有 {members}/{capacity} 人参团",
        "left": "还剩 {left} 个名额",
        "left_one": "还剩 1 个名额",
        "join": "立即参团",
        "safe": "成团才付款；未成团，款项全部退回。",
        "scan": "让朋友扫一扫",
        "qr": "本页二维码",
        "live": "实时",
        "away": "正在重新连接…",
        "picture": "价格阶梯与参团人数",
        "ladder": "按人数的价格",
        "completed_title": "已成团",
        "completed_text": "{members} 人参团，每人 {price}。",
        "expired_title": "拼团已结束",
        "expired_text": "参团 {members} 人，人数不足，款项已全部退回。",
        "cancelled_title": "拼团已取消",
        "cancelled_text": "款项已全部退回。",
        "full_title": "本团已满",
        "full_text": "名额已经全部被占用。",
        "others": "即将成团，欢迎加入",
        "others_none": "暂时没有其他正在进行的拼团。",
        "campaign_title": "正在进行的拼团",
        "campaign_text": "加入一个，团里每个人都更便宜。",
        "expired_link_title": "链接已过期",
        "expired_link_text": "请向朋友索要新的链接。",
        "tampered_title": "链接已被改动",
        "tampered_text": "链接校验失败，请让朋友重新发送完整的链接。",
        "unknown_title": "无法识别的链接",
        "unknown_text": "链接可能不完整，请让朋友重新发送。",
        "away_title": "请稍候",
        "away_text": "暂时无法读取拼团信息，请稍后再试。",
        "busy_title": "请求过于频繁",
        "busy_text": "请稍后再试。",
    },
}


class Texts:
    """The texts of one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.html = HTML_LANGUAGE[language]
        self.locale = LOCALE[language]
        self._texts = _TEXTS[language]

    def __call__(self, name: str, **values: Any) -> str:
        """A text with its values."""
        return self._texts[name].format(**values)


def names() -> Mapping[str, frozenset[str]]:
    """The names of the texts by language."""
    return {language: frozenset(texts) for language, texts in _TEXTS.items()}


def language_of(header: str) -> str:
    """The language of an Accept-Language header: the first of ours by weight, else English."""
    best, weight = EN, 0.0
    for part in header[:500].split(","):
        tag, _, parameters = part.strip().partition(";")
        try:
            quality = float(parameters.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        found = tag.strip().lower().split("-")[0]
        if found in _TEXTS and quality > weight:
            best, weight = found, quality
    return best
