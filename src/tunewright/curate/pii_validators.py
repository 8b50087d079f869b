"""Proofs that a string that looks like personal data is personal data: checksums, ranges, number plans. Pure.

A pattern alone finds order numbers and prices; nothing is masked unless its validator here agrees.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import phonenumbers

CARD_LENGTHS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"4", (13, 16, 19)),
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
    (r"3[47]", (15,)),
    (r"30[0-5]|309|36|38|39", (14, 16, 19)),
    (r"6011|64[4-9]|65|62", (16, 17, 18, 19)),
    (r"35(?:2[89]|[3-8])", (16, 17, 18, 19)),
    (r"2131|1800", (15,)),
    (r"50|5[6-9]|6[0137]|639", (12, 13, 14, 15, 16, 17, 18, 19)),
)
"""Issuer prefix -> lengths of its card numbers (ISO/IEC 7812 ranges as the schemes publish them)."""

IBAN_LENGTHS: dict[str, int] = {
    code: int(length)
    for code, length in (
        entry.split(":")
        for entry in (
            "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 "
            "DE:22 DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 "
            "GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 "
            "LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 "
            "PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 "
            "TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30"
        ).split()
    )
}
"""Country code -> length of an IBAN (SWIFT IBAN registry)."""

PHONE_MIN_DIGITS = 7
PHONE_MAX_DIGITS = 15

_NOT_PHONE = re.compile(
    r"(?:(?:19|20)\d\d[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}([-./ ])\d{1,2}\1(?:19|20)\d\d)(?!\d)"  # a date
    r"|(?:19|20)\d\d\s*[-/]\s*(?:19|20)\d\d"  # from year to year
    r"|\d{3}-\d{2}-\d{4}$"  # grouped as a social security number
)


def digits_of(text: str) -> str:
    """Keep ASCII digits only."""
    return re.sub(r"[^0-9]", "", text)


def has_luhn_checksum(digits: str) -> bool:
    """Check the Luhn sum of a digit string (ISO/IEC 7812-1, annex B)."""
    total = 0
    for position, char in enumerate(reversed(digits)):
        value = int(char) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card_number(text: str, *, has_context: bool) -> bool:
    """Say whether a text is a payment card number: the Luhn sum, and an issuer's prefix and length.

    After a word such as "card" (`has_context`) any prefix will do.
    """
    digits = digits_of(text)
    fits = has_context or any(
        len(digits) in lengths and re.match(f"(?:{prefix})", digits) for prefix, lengths in CARD_LENGTHS
    )
    return fits and len(set(digits)) > 1 and has_luhn_checksum(digits)


def is_iban(text: str) -> bool:
    """Say whether a text is an IBAN: its country's length and remainder 1 modulo 97 (ISO 13616)."""
    compact = re.sub(r"[\s-]", "", text).upper()
    if len(compact) != IBAN_LENGTHS.get(compact[:2]) or not compact.isascii() or not compact.isalnum():
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def iban_prefix(text: str) -> str | None:
    """Find the IBAN that a text begins with; what follows it may be more text."""
    length = IBAN_LENGTHS.get(text[:2].upper())
    taken = 0
    for end, char in enumerate(text, start=1):
        taken += char.isalnum()
        if taken == length:
            return text[:end] if is_iban(text[:end]) and not text[end : end + 1].isalnum() else None
    return None


def is_us_social_security_number(text: str) -> bool:
    """Check the ranges that are ever assigned: area not 000, 666 or 9xx, group not 00, serial not 0000."""
    digits = digits_of(text)
    if len(digits) != 9 or digits in ("123456789", "078051120", "219099999"):
        return False
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def is_ip_address(text: str) -> bool:
    """Say whether a text is an IPv4 address, or an IPv6 address of three groups and more."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.version == 4:
        return True
    groups = [group for group in text.split(":") if group]
    return len(groups) >= 3 and any(char.isdigit() for char in text)


def known_regions() -> frozenset[str]:
    """Regions whose numbers can be told, as ISO 3166 codes."""
    return frozenset(phonenumbers.SUPPORTED_REGIONS)


def phone_number(text: str, regions: Sequence[str], *, has_context: bool) -> tuple[str, str] | None:
    """Recognise a telephone number at the beginning of a text, which may hold up to two groups more.

    A number with a country code, or after a word such as "phone" or "call", must be possible in its country
    or in a region given. Any other must be grouped as telephone numbers are, and valid in such a number plan.

    Args:
        text: digits with separators, as found.
        regions: ISO 3166 codes to try for numbers without a country code.
        has_context: such a word stands before it.

    Returns:
        (the part of the text that is the number, the number in E.164), or None.
    """
    beginnings = [part for part in _beginnings(text) if _may_be_phone(part, has_context=has_context)]
    for part in beginnings:
        for number in _readings(part, regions):
            if phonenumbers.is_valid_number(number):
                return part, _e164(number)
    for part in beginnings:
        for number in _readings(part, regions) if has_context or _has_country_code(part) else ():
            if phonenumbers.is_possible_number(number):
                return part, _e164(number)
    return None


def _beginnings(text: str) -> list[str]:
    """Offer a text whole, then without its last and its last two groups: "555-123-4567 2 times"."""
    ends = [group.end() for group in re.finditer(r"\d+", text)]
    return [text, *(text[:end] for end in ends[-2:-4:-1] if end >= PHONE_MIN_DIGITS)]


def _may_be_phone(text: str, *, has_context: bool) -> bool:
    num_digits = len(digits_of(text))
    if not PHONE_MIN_DIGITS <= num_digits <= PHONE_MAX_DIGITS + 6 or _NOT_PHONE.match(text):
        return False
    return has_context or _has_country_code(text) or _is_grouped_like_phone(text)


def _has_country_code(text: str) -> bool:
    return text.startswith(("+", "00")) and len(digits_of(text)) >= 9


def _readings(text: str, regions: Sequence[str]) -> Iterator[phonenumbers.PhoneNumber]:
    """Read a number in each region; once only where it names its country itself."""
    written = re.sub(r"^00(?=[1-9])", "+", text.replace("(0)", ""))
    for region in regions[:1] if written.startswith("+") else regions:
        try:
            yield phonenumbers.parse(written, region)
        except phonenumbers.NumberParseException:
            continue


def _e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _is_grouped_like_phone(text: str) -> bool:
    """Tell "(555) 123-4567" and "0171 234567" from thousands, house numbers and order numbers."""
    groups = re.findall(r"\d+", text)
    if text.startswith("("):
        return len(groups) >= 2
    if "(" in text and not re.match(r"(?:\+\d+|1)[ -]?\(", text):
        return False
    if len(groups) == 2:
        return groups[0].startswith("0") and 2 < len(groups[0]) < 6
    if "." in text and re.search(r"[-/ ]", text):
        return False
    is_thousands = not text.startswith("0") and all(len(group) == 3 for group in groups[1:])
    return len(groups) > 2 and not is_thousands


def entropy_bits(text: str) -> float:
    """Shannon entropy a character, in bits."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def is_random_looking(text: str) -> bool:
    """Say whether a value assigned to a key or password looks made by a generator rather than by a person."""
    has_both = any(char.isdigit() for char in text) and any(char.isalpha() for char in text)
    return has_both and not text.startswith(("<", "{", "$", "%")) and entropy_bits(text) >= 3.2
