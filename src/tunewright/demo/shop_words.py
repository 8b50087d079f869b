"""The demo shop's assortment and the many ways its customers ask for it. Pure: a random generator goes in.

Every message is put together from parts, so that thousands of surface forms come from a small vocabulary.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Channel = Literal["chat", "phone", "web"]
CHANNELS: tuple[Channel, ...] = ("chat", "phone", "web")

SIZES = ("small", "medium", "large")
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
MATERIALS = ("steel", "wooden", "plastic")
OPTIONS = SIZES + COLOURS + MATERIALS
"""Twelve, in the order in which an answer lists them."""

_AXES = {"s": SIZES, "c": COLOURS, "m": MATERIALS}
_COUNT_WORDS = "one two three four five six seven eight nine ten eleven twelve".split()


@dataclass(frozen=True, slots=True)
class Product:
    """Something the shop sells."""

    name: str
    """As answers call it."""
    axes: str
    """Which options it comes in: s(ize), c(olour), m(aterial)."""
    said: tuple[tuple[str, str], ...]
    """What customers call it: (singular, plural)."""


def _product(line: str) -> Product:
    """Read `name / axes / singular plural, singular plural`; `~` stands for a space inside a name."""
    name, axes, said = (part.strip() for part in line.split("/"))
    pairs = [tuple(word.replace("~", " ") for word in pair.split()) for pair in said.split(",")]
    return Product(name=name, axes=axes, said=tuple((one, many) for one, many in pairs))


_ALL_YEAR = """
hammer / sm / hammer hammers, claw~hammer claw~hammers
ladder / sm / ladder ladders, step~ladder step~ladders
bucket / sc / bucket buckets, water~bucket water~buckets, pail pails
rope / sc / rope ropes, thick~rope thick~ropes
brush / sm / brush brushes, paint~brush paint~brushes
drill / c / drill drills, power~drill power~drills
lock / sm / lock locks, door~lock door~locks
battery / s / battery batteries, spare~battery spare~batteries
shelf / sm / shelf shelves, wall~shelf wall~shelves
hook / sm / hook hooks, wall~hook wall~hooks, coat~hook coat~hooks
box / scm / box boxes, storage~box storage~boxes
lamp / sc / lamp lamps, desk~lamp desk~lamps
pen / c / pen pens, ball~pen ball~pens, biro biros
marker / c / marker markers, felt~marker felt~markers
notebook / sc / notebook notebooks, school~notebook school~notebooks
folder / sc / folder folders, binder binders, ring~binder ring~binders
ruler / sm / ruler rulers, desk~ruler desk~rulers
eraser / sc / eraser erasers, rubber rubbers
card / sc / card cards, birthday~card birthday~cards
clock / scm / clock clocks, wall~clock wall~clocks
"""

_SPRING = """
shovel / sm / shovel shovels, spade spades
rake / sm / rake rakes, leaf~rake leaf~rakes
hose / sc / hose hoses, garden~hose garden~hoses
pot / scm / pot pots, flower~pot flower~pots
chair / scm / chair chairs, garden~chair garden~chairs
umbrella / sc / umbrella umbrellas, sun~umbrella sun~umbrellas
bench / cm / bench benches, garden~bench garden~benches
basket / sc / basket baskets, picnic~basket picnic~baskets
"""

ALL_YEAR = tuple(_product(line) for line in _ALL_YEAR.strip().splitlines())
"""Twenty products that the first file of orders is about."""
SPRING = tuple(_product(line) for line in _SPRING.strip().splitlines())
"""Eight more that only the second file knows: the assortment has grown."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer wants."""

    item: str
    count: int
    options: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The JSON text a model is to write."""
        return json.dumps({"item": self.item, "count": self.count, "options": list(self.options)})


def pick_order(rng: random.Random, products: Sequence[Product], *, num_options: int | None = None) -> Order:
    """Draw a product, how many, and its options in the order of OPTIONS."""
    product = rng.choice(products)
    wanted = rng.choices((0, 1, 2), (35, 45, 20))[0] if num_options is None else num_options
    axes = rng.sample(product.axes, min(wanted, len(product.axes)))
    chosen = [rng.choice(_AXES[axis]) for axis in axes]
    count = rng.choices((1, rng.randint(2, 6), rng.randint(7, 12)), (40, 45, 15))[0]
    return Order(item=product.name, count=count, options=tuple(sorted(chosen, key=OPTIONS.index)))


def axis_of(option: str) -> tuple[str, ...]:
    """List the options that exclude each other with this one."""
    return next(values for values in _AXES.values() if option in values)


def _count(rng: random.Random, count: int) -> str:
    ways = [str(count), _COUNT_WORDS[count - 1], _COUNT_WORDS[count - 1]]
    ways += {1: ["a", "a", "a"], 2: ["a couple of"], 6: ["half a dozen"], 12: ["a dozen"]}.get(count, [])
    return rng.choice(ways)


def _with_article(words: str) -> str:
    return "an " + words[2:] if words.startswith("a ") and words[2:3] in "aeiou" else words


def noun(rng: random.Random, order: Order, products: Sequence[Product]) -> str:
    """Name an order's product as a customer would, in the right number."""
    said = rng.choice(next(product.said for product in products if product.name == order.item))
    return said[0] if order.count == 1 else said[1]


def thing(rng: random.Random, order: Order, products: Sequence[Product]) -> str:
    """Say count, options and product as one phrase, such as `three large hoses in red`."""
    name, count = noun(rng, order, products), _count(rng, order.count)
    before = list(order.options)
    after = ""
    if before and rng.random() < 0.45:
        last = before.pop()
        ways = [f", {last}", f", the {last} kind", f", {last} please"]
        after = rng.choice([f" in {last}"] * 3 + ways if last in COLOURS else ways)
    return _with_article(" ".join([count, *before, name])) + after


def _terse(rng: random.Random, order: Order, products: Sequence[Product]) -> str:
    """Say an order as people type it into a form."""
    name = noun(rng, order, products)
    options = " ".join(order.options)
    listed = f", {options}" if options else ""
    ways = [
        f"{order.count}x {name}{listed}",
        f"{name} x{order.count}{listed}",
        f"{name}{listed}, quantity {order.count}",
        f"order: {' '.join([options, name]).strip()}, {order.count} pcs",
        f"{order.count} {' '.join([options, name]).strip()}",
    ]
    return rng.choice(ways)


GREETINGS = (
    "hi|hello|hey there|good morning|good evening|hi again|hello there|dear team|hey|good day|"
    "hello, me again|hi folks|morning|hey guys|greetings|hallo|hi, quick one|"
    "hello shop|hi, it's Zoë|hello, José here"
).split("|")
_FRAMES = (
    "could I get {}|can I have {}|I would like {}|I'd like to order {}|please send me {}|I need {}|"
    "we need {}|could you put aside {}|I am looking for {}|do you have {} for me|I want to buy {}|"
    "please add {} to my order|can you pack {}|my order is {}|it would be great to get {}|I'll take {}|"
    "we are short of {}|"
    "put me down for {}|may I order {}|let me have {}|I was told you sell this: {}|time to buy {}|"
    "my sister wants {}|the boss asked for {}|send {} over"
).split("|")
_TERSE_FRAMES = ("{}", "{}", "{}", "new order - {}", "please: {}", "cart: {}", "item needed: {}")
_FILLERS = "um|uh|so|well|okay|right|yeah|let me see|you know".split("|")
EXTRAS = (
    "it is for the school fair|we open on monday|my old one broke|it is a gift|the last delivery was great|"
    "no rush at all|I need it by friday|leave it at the door|I will pick it up after work|"
    "my neighbour told me about your shop|it is for the new office|we are moving house|same as last year|"
    "I pay when I come in|the kids used everything up|please ring the bell twice|call before you come|"
    "I hope you still have some|it should not be too heavy|we are painting the kitchen|"
    "it is for our club|put it on the usual account|the cellar is being cleared|my desk is a mess|"
    "grandma has a birthday|I could not find it anywhere else|a bag is not needed|we start a workshop soon"
).split("|")
CLOSINGS = (
    "thanks|thank you|please|cheers|many thanks|thanks a lot|have a nice day|bye|see you soon|"
    "thanks in advance|best wishes|kind regards|all the best|take care|much appreciated|merci"
).split("|")


def message(rng: random.Random, order: Order, products: Sequence[Product], channel: Channel) -> str:
    """Say an order the way people do on a channel."""
    if channel == "web":
        text = rng.choice(_TERSE_FRAMES).format(_terse(rng, order, products))
        parts = [text, *([rng.choice(EXTRAS)] if rng.random() < 0.3 else [])]
        return _misspell(rng, rng.choice([". ", "; ", " - "]).join(parts))
    frame = rng.choice(_FRAMES).format(thing(rng, order, products))
    greeting = [rng.choice(GREETINGS)] if rng.random() < 0.6 else []
    extra = [rng.choice(EXTRAS)] if rng.random() < 0.4 else []
    closing = [rng.choice(CLOSINGS)] if rng.random() < 0.4 else []
    if channel == "phone":
        spoken = f"{rng.choice(_FILLERS)} {frame}" if rng.random() < 0.6 else frame
        return _misspell(rng, " ".join([*greeting, spoken, *extra, *closing]).lower().replace(",", ""))
    first = rng.random() < 0.25
    body = [*extra, frame] if first else [frame, *extra]
    text = f"{', '.join([*greeting, body[0]])}{rng.choice(['. ', ', ', '! ', ' - '])}" + ", ".join(
        [*body[1:], *closing]
    )
    text = text.strip(" -,") + rng.choice(["", ".", "?", "!"])
    return _misspell(rng, text[0].upper() + text[1:] if rng.random() < 0.6 else text)


def _misspell(rng: random.Random, text: str) -> str:
    """Swap two letters of one longer word, now and then."""
    return misspell(rng, text) if rng.random() < 0.08 else text


def misspell(rng: random.Random, text: str) -> str:
    """Swap two inner letters of one word of five letters and more."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    index = rng.choice(long)
    word = words[index]
    at = rng.randint(1, len(word) - 3)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join([*words[:index], swapped, *words[index + 1 :]])
