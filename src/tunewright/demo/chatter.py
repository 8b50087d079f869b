"""JSON chatter: generated dialogues that teach a tiny base what JSON and copying look like.

Every dialogue holds one schema and several turns, so that the base also sees answers whose form can only be
read off the turns before. The domains are chosen to share nothing with any data set a user may tune on here.
"""

import json
import random
from collections.abc import Iterator, Sequence

Messages = list[dict[str, str]]

_NAMES = (
    "Ana Ben Carla Dev Elif Femi Greta Hugo Iris Jonas Kofi Lena Mateo Nora Omar Priya Quinn Rosa Sven "
    "Tala Uma Viktor Wanda Xavier Yara Zeno Alma Boris Chloe Dario Edith Felix Gwen Hana Igor June Karl "
    "Lola Milan Nina"
).split()
_CITIES = (
    "Oslo Lima Cairo Quito Delhi Turin Porto Riga Accra Hanoi Bergen Kyoto Malmo Tunis Dakar Sofia Perth "
    "Austin Boston Denver Galway Leeds Nantes Zagreb Split Tartu Izmir Cusco Recife Davao"
).split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday today tomorrow tonight".split()
_THINGS = (
    "lamp heater fan radio door window curtain camera alarm speaker printer router dryer oven pump sensor "
    "screen garage gate bell blinds projector fridge kettle"
).split()
_PLACES = (
    "kitchen bedroom hall attic garden office cellar bathroom porch studio library garage nursery".split()
)
_STATES = "on off open closed locked unlocked dim bright quiet loud".split()
_GENRES = "jazz folk techno opera blues swing ambient disco punk choir samba reggae".split()
_ADJECTIVES = (
    "red blue old new small large quiet broken clean round heavy light wooden soft dark green yellow "
    "striped plain folded spare dusty shiny narrow wide silent gentle rough"
).split()
_SPORTS = "tennis chess rowing judo hockey rugby golf squash darts fencing cricket polo".split()
_NUMBER_WORDS = "one two three four five six seven eight nine ten".split()


def _number(rng: random.Random) -> tuple[str, int]:
    value = rng.randint(1, 10)
    return (rng.choice([str(value), _NUMBER_WORDS[value - 1]]), value)


def _thing(rng: random.Random) -> str:
    return f"{rng.choice(_ADJECTIVES)} {rng.choice(_THINGS)}" if rng.random() < 0.5 else rng.choice(_THINGS)


def _listing(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _device(rng: random.Random) -> tuple[str, dict[str, object]]:
    thing, place, state = _thing(rng), rng.choice(_PLACES), rng.choice(_STATES)
    said = rng.choice(
        [
            f"please set the {thing} in the {place} to {state}",
            f"Can you make the {place} {thing} {state}?",
            f"I want the {thing} {state}, the one in the {place}",
        ]
    )
    return said, {"device": thing, "room": place, "state": state}


def _trip(rng: random.Random) -> tuple[str, dict[str, object]]:
    start, end = rng.sample(_CITIES, 2)
    word, seats = _number(rng)
    day = rng.choice(_DAYS)
    said = rng.choice(
        [
            f"{word} seats from {start} to {end} {day}",
            f"We need to get from {start} to {end}, {word} of us, leaving {day}.",
            f"hi, is there a train to {end} from {start} {day} for {word}?",
        ]
    )
    return said, {"from": start, "to": end, "seats": seats, "day": day}


def _meeting(rng: random.Random) -> tuple[str, dict[str, object]]:
    people = rng.sample(_NAMES, rng.randint(1, 3))
    day, hour = rng.choice(_DAYS), rng.randint(1, 12)
    said = rng.choice(
        [
            f"set up a meeting with {_listing(people)} {day} at {hour}",
            f"I have to see {_listing(people)}, {day} {hour} o'clock",
        ]
    )
    return said, {"with": people, "day": day, "hour": hour}


def _music(rng: random.Random) -> tuple[str, dict[str, object]]:
    genre, name = rng.choice(_GENRES), rng.choice(_NAMES)
    said = rng.choice(
        [f"play some {genre} for {name}", f"{name} would like to hear {genre}", f"put {genre} on"]
    )
    return said, {"play": genre, "for": name if name in said else None}


def _match(rng: random.Random) -> tuple[str, dict[str, object]]:
    one, two = rng.sample(_NAMES, 2)
    sport, day = rng.choice(_SPORTS), rng.choice(_DAYS)
    said = rng.choice([f"{one} plays {two} at {sport} {day}", f"{sport} {day}: {one} against {two}"])
    return said, {"sport": sport, "players": [one, two], "when": day}


def _inventory(rng: random.Random) -> tuple[str, dict[str, object]]:
    things = [_thing(rng) for _ in range(rng.randint(0, 3))]
    place = rng.choice(_PLACES)
    listed = _listing([f"a {thing}" for thing in things]) if things else "nothing"
    said = rng.choice([f"in the {place} there is {listed}", f"I found {listed} in the {place}"])
    return said, {"place": place, "found": things, "count": len(things)}


def _echo(rng: random.Random) -> tuple[str, dict[str, object]]:
    words = [
        rng.choice(rng.choice([_NAMES, _CITIES, _THINGS, _ADJECTIVES])) for _ in range(rng.randint(1, 5))
    ]
    text = " ".join(words)
    code = f"{rng.choice('ABCDEFGHKLMNP')}-{rng.randint(100, 9999)}"
    said = rng.choice([f"note {code}: {text}", f"write down {text} under {code}"])
    return said, {"code": code, "text": text}


_DOMAINS = (_device, _trip, _meeting, _music, _match, _inventory, _echo)
_SYSTEMS = ("Answer with JSON only.", "Turn each message into one JSON object.", "Extract the facts as JSON.")


def json_dialogue(rng: random.Random) -> Messages:
    """Make one dialogue: a schema with shuffled and renamed keys, and 1 to 5 turns that keep to it."""
    domain = rng.choice(_DOMAINS)
    messages: Messages = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": rng.choice(_SYSTEMS)})
    order_seed, upper = rng.random(), rng.random() < 0.2
    for _ in range(rng.randint(1, 5)):
        said, facts = domain(rng)
        keys = list(facts)
        random.Random(order_seed).shuffle(
            keys
        )  # one order for the whole dialogue: the form is learnt in context
        answer = {key.upper() if upper else key: facts[key] for key in keys}
        messages.append({"role": "user", "content": said})
        messages.append({"role": "assistant", "content": json.dumps(answer)})
    return messages


def chatter(seed: int) -> Iterator[Messages]:
    """Yield JSON dialogues without end; the same seed gives the same dialogues."""
    rng = random.Random(seed)
    while True:
        yield json_dialogue(rng)
