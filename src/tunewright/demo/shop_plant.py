"""What is wrong with the demo shop's data, made on purpose: each function plants one kind. Pure.

Whether a pair of prompts is a near-duplicate is measured with the same Jaccard that curation uses, so that
"planted" means what curation can be held to.
"""

import dataclasses
import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunewright.core.text import canonical_text, jaccard, signature
from tunewright.demo.shop_private import with_pii, with_secret
from tunewright.demo.shop_words import (
    CHANNELS,
    CLOSINGS,
    EXTRAS,
    GREETINGS,
    Channel,
    Order,
    Product,
    axis_of,
    message,
    misspell,
    noun,
    pick_order,
)
from tunewright.demo.truth import Kind
from tunewright.values import Json

NEAR = 0.8
"""Jaccard from which two prompts are near-duplicates, as in the shop's recipe."""
MAX_TRIES = 200

JUNK = ("empty_answer", "refusal", "repetition", "broken_roles", "truncated", "broken_line")
_REFUSALS = (
    "As an AI language model, I cannot take orders.",
    "I'm sorry, but I can't help with that request.",
    "I am sorry, but as an AI I am unable to assist with that.",
    "I cannot fulfil this request.",
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One row before it has a place in a file."""

    said: str
    answer: str
    channel: Channel
    customer: str | None = None
    kind: Kind | None = None
    detail: str = ""
    """The type of personal data, the form of junk, or `prompt` or `customer` for twins."""
    plant: int = 0
    """Rows of one plant belong together: an original and its copy, a conflict, a set of twins."""
    messages: tuple[Mapping[str, str], ...] = field(default=())
    """Given where the row is not simply user and assistant."""

    def fields(self) -> dict[str, Json]:
        """Lay the row out as it stands in the file, without its time."""
        plain = ({"role": "user", "content": self.said}, {"role": "assistant", "content": self.answer})
        turns: list[Json] = [dict(turn) for turn in self.messages or plain]
        customer: dict[str, Json] = {"customer": self.customer} if self.customer else {}
        return {"messages": turns, "channel": self.channel, **customer}


def clean(rng: random.Random, products: Sequence[Product], seen: set[str]) -> Planned:
    """Make a row whose prompt no other row has; the prompt is added to `seen`."""
    while True:
        order, channel = pick_order(rng, products), rng.choice(CHANNELS)
        said = message(rng, order, products, channel)
        key = canonical_text(said).casefold()
        if key not in seen:
            seen.add(key)
            return Planned(said=said, answer=order.answer, channel=channel)


def junk(rng: random.Random, row: Planned, form: str) -> Planned:
    """Spoil a row in one of the forms of JUNK."""
    user, answer = {"role": "user", "content": row.said}, {"role": "assistant", "content": row.answer}
    spoiled = dataclasses.replace(row, kind="junk", detail=form)
    if form == "empty_answer":
        return dataclasses.replace(spoiled, answer=rng.choice(["", "   ", "\n"]))
    if form == "refusal":
        return dataclasses.replace(spoiled, answer=rng.choice(_REFUSALS))
    if form == "repetition":
        return dataclasses.replace(spoiled, said=" ".join([row.said] * max(6, 40 // len(row.said.split()))))
    if form == "truncated":
        return dataclasses.replace(spoiled, answer=row.answer[: rng.randint(12, len(row.answer) - 6)])
    if form == "broken_roles":
        wrong = [(user, user), (answer, user), (user, answer, answer), ({**user, "role": "customer"}, answer)]
        return dataclasses.replace(spoiled, messages=rng.choice(wrong))
    return spoiled  # broken_line: the line is cut when the file is written


def exact_copy(rng: random.Random, row: Planned) -> Planned:
    """Copy a row so that only white space, control characters or the Unicode form differ."""
    words = row.said.split(" ")
    at = rng.randrange(len(words))
    forms = [
        row.said,
        row.said,
        f"  {row.said} \n",
        " ".join([*words[:at], "", *words[at:]]),
        unicodedata.normalize("NFD", row.said),
        row.said + "\u200b",
    ]
    return dataclasses.replace(row, said=rng.choice(forms), kind="exact_duplicate")


def near_copy(rng: random.Random, row: Planned) -> Planned | None:
    """Copy a row with a small edit: same answer, Jaccard at least NEAR; None where no such edit was found."""
    for _ in range(MAX_TRIES):
        edited = _edit(rng, row.said)
        if canonical_text(edited) != canonical_text(row.said) and likeness(edited, row.said) >= NEAR:
            return dataclasses.replace(row, said=edited, kind="near_duplicate")
    return None


def likeness(left: str, right: str) -> float:
    """Jaccard of two prompts as curation measures it."""
    return jaccard(signature(left), signature(right))


def _edit(rng: random.Random, text: str) -> str:
    return rng.choice(
        [
            text.upper() if rng.random() < 0.2 else text.lower(),
            text.replace(",", "").replace(".", "") + rng.choice(["!!", " :)", "...", ""]),
            f"{text} {rng.choice(CLOSINGS)}",
            f"{rng.choice(GREETINGS)} {text}",
            misspell(rng, text),
        ]
    )


def personal(rng: random.Random, row: Planned, kind: str) -> Planned:
    """Put personal data of one type into the message."""
    return dataclasses.replace(row, said=with_pii(rng, row.said, kind), kind="pii", detail=kind)


def leaked(rng: random.Random, row: Planned) -> Planned:
    """Put a key into the message."""
    return dataclasses.replace(row, said=with_secret(rng, row.said), kind="secret")


def contradict(rng: random.Random, row: Planned, products: Sequence[Product]) -> Planned:
    """Answer the same message with another order."""
    others = (pick_order(rng, products).answer for _ in range(MAX_TRIES))
    return dataclasses.replace(
        row, answer=next(other for other in others if other != row.answer), kind="conflict"
    )


def twin_prompts(rng: random.Random, products: Sequence[Product], size: int) -> list[Planned]:
    """Make rows whose last word alone differs, and so the answer: no duplicates, but never to be parted."""
    while True:
        order = pick_order(rng, products, num_options=1)
        channel: Channel = rng.choice(("chat", "phone"))
        head = (
            f"{rng.choice(GREETINGS)}, {rng.choice(EXTRAS)} and {rng.choice(EXTRAS)}, so I would like "
            f"{order.count} {noun(rng, order, products)}"
        )
        options = rng.sample(axis_of(order.options[0]), size)
        ending = rng.choice(["make it", "namely", "only", "the colour or size being"])
        said = [f"{head}, {ending} {option}" for option in options]
        if all(likeness(said[0], other) >= NEAR for other in said[1:]):
            break
    return [
        Planned(
            said=text.lower() if channel == "phone" else text,
            answer=Order(order.item, order.count, (option,)).answer,
            channel=channel,
            kind="twin",
            detail="prompt",
        )
        for text, option in zip(said, options, strict=True)
    ]


def twin_customer(rows: Sequence[Planned], customer: str) -> list[Planned]:
    """Let one customer have sent all these rows."""
    return [dataclasses.replace(row, customer=customer, kind="twin", detail="customer") for row in rows]
