"""Notices as Slack's incoming webhooks take them.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import json

from ledger.notices import Notice

LONGEST_HEADER = 150
LONGEST_SECTION = 3000
"""Slack's limits of the texts of its blocks."""
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""What Slack asks to be escaped, so that no fact can mention a channel or a person."""


def slack_body(notice: Notice) -> bytes:
    """Return the message: `text` is what a notification shows, the blocks what stands in the channel."""
    return json.dumps(
        {
            "text": _escaped(notice.subject),
            "blocks": [
                {"type": "header", "text": _plain_text(notice.subject, LONGEST_HEADER)},
                {"type": "section", "text": _plain_text(notice.sentence, LONGEST_SECTION)},
                {"type": "section", "text": _plain_text(notice.table, LONGEST_SECTION)},
            ],
        },
        ensure_ascii=False,
    ).encode()


def _plain_text(text: str, longest: int) -> dict[str, object]:
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return {"type": "plain_text", "text": short, "emoji": False}


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)
