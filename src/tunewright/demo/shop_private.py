"""Made-up personal data and secrets that validators take for real, and sentences that carry them. Pure.

Telephone numbers come from ranges kept free for fiction, mail domains and IP addresses from those reserved
for documentation; card numbers, IBANs and social-security numbers only satisfy their check rules.
"""

import random
import string

from tunewright.demo.shop_words import GREETINGS

PII_TYPES = ("email", "phone", "credit_card", "iban", "ssn", "ip")

_FIRST = (
    "anna ben carla dev elif femi greta hugo iris jonas kofi lena mateo nora omar priya rosa sven".split()
)
_LAST = (
    "abbott berg costa diaz ek fox gray hall ito jansen khan lund mora nash okoye park reyes stone".split()
)
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com")

_SENTENCES = {
    "email": "send the receipt to {}|my mail is {}|confirm to {} please|write to {} when it is ready",
    "phone": "call me on {}|my number is {}|ring {} when it is there|text {} before delivery",
    "credit_card": "charge my card {}|my credit card is {}|pay with card number {}",
    "iban": "take it from {}|my bank account is {}|the IBAN is {}",
    "ssn": "my social security number is {}|for the tax form, ssn {}|SSN: {}",
    "ip": "I order from {}|our till has the address {}|the tablet at {} does not print",
}
_SECRET_SENTENCES = "our key for your shop is {}|log in with {}|the token is {}|use api key {}"


def email(rng: random.Random) -> str:
    """Make a mail address."""
    return f"{rng.choice(_FIRST)}{rng.choice('._')}{rng.choice(_LAST)}@{rng.choice(_DOMAINS)}"


def phone(rng: random.Random) -> str:
    """Make a telephone number of a range kept for fiction: US, GB, DE, FR, with country code or without."""
    last = rng.randint(0, 99)
    return rng.choice(
        [
            f"+1 202-555-01{last:02d}",
            f"(212) 555-01{last:02d}",
            f"+44 20 7946 0{rng.randint(100, 999)}",
            f"+49 30 23125 {rng.randint(100, 999)}",
            f"+33 1 99 00 {rng.randint(10, 99)} {last:02d}",
        ]
    )


def credit_card(rng: random.Random) -> str:
    """Make a 16-digit number that satisfies the Luhn rule."""
    digits = rng.choice(["4539", "4716", "5425", "5105"]) + "".join(rng.choices(string.digits, k=11))
    card = digits + str(luhn_digit(digits))
    return rng.choice([card, " ".join(card[i : i + 4] for i in range(0, 16, 4))])


def luhn_digit(digits: str) -> int:
    """Compute the check digit that makes a number pass the Luhn rule (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 - index % 2) for index, digit in enumerate(reversed(digits))]
    return -sum(value // 10 + value % 10 for value in doubled) % 10


def iban(rng: random.Random) -> str:
    """Make an IBAN of Germany or Britain with a right check number (ISO 13616, mod 97)."""
    country, account = rng.choice(
        [
            ("DE", "".join(rng.choices(string.digits, k=18))),
            ("GB", "".join(rng.choices(string.ascii_uppercase, k=4) + rng.choices(string.digits, k=14))),
        ]
    )
    number = int("".join(str(int(char, 36)) for char in account + country + "00"))
    text = f"{country}{98 - number % 97:02d}{account}"
    return rng.choice([text, " ".join(text[i : i + 4] for i in range(0, len(text), 4))])


def ssn(rng: random.Random) -> str:
    """Make a US social-security number in the ranges that are given out."""
    return f"{rng.randint(1, 665):03d}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}"


def ip(rng: random.Random) -> str:
    """Make an address reserved for documentation (RFC 5737, RFC 3849)."""
    network = rng.choice(["192.0.2", "198.51.100", "203.0.113"])
    if rng.random() < 0.2:
        return f"2001:db8::{rng.randint(1, 0xFFFF):x}:{rng.randint(1, 0xFFFF):x}"
    return f"{network}.{rng.randint(1, 254)}"


def secret(rng: random.Random) -> str:
    """Make a key in the form of a well-known service; none of them ever opened anything."""
    base32, mixed = string.ascii_uppercase + "234567", string.ascii_letters + string.digits
    return rng.choice(
        [
            "AKIA" + "".join(rng.choices(base32, k=16)),
            "gh" + "p_" + "".join(rng.choices(mixed, k=36)),
            "sk" + "_live_" + "".join(rng.choices(mixed, k=24)),
            "xox"
            + "b-"
            + "".join(rng.choices(string.digits, k=12))
            + "-"
            + "".join(rng.choices(mixed, k=24)),
        ]
    )


_MAKERS = {
    "email": email,
    "phone": phone,
    "credit_card": credit_card,
    "iban": iban,
    "ssn": ssn,
    "ip": ip,
}


def with_pii(rng: random.Random, text: str, kind: str) -> str:
    """Add a sentence that holds one piece of personal data of a kind in PII_TYPES."""
    return _join(rng, text, rng.choice(_SENTENCES[kind].split("|")).format(_MAKERS[kind](rng)))


def with_secret(rng: random.Random, text: str) -> str:
    """Add a sentence that holds a key."""
    return _join(rng, text, rng.choice(_SECRET_SENTENCES.split("|")).format(secret(rng)))


def _join(rng: random.Random, text: str, sentence: str) -> str:
    bare = text.rstrip(".!?")
    return rng.choice(
        [f"{bare}. {sentence}", f"{bare}, {sentence}", f"{rng.choice(GREETINGS)}, {sentence}. {text}"]
    )
