"""What personal data and secrets look like: patterns only; `pii_validators` says whether a hit is real.

Every pattern is bounded in length and starts at a border, so that no text makes matching slow.
"""

import re
from re import Pattern

SECRET_PATTERNS: dict[str, Pattern[str]] = {
    "private_key": re.compile(
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\S]{0,20000}?-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"|[A-Za-z0-9+/=\s\\]*)"
    ),
    "aws_access_key": re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    "aws_secret_key": re.compile(
        r"(?i:aws[^\n]{0,24}?(?:secret|key)[^\n]{0,24}?[\s\"'=:])(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
    ),
    "github_token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b"),
    "gitlab_token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,64}"),
    "slack_token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    "slack_webhook": re.compile(r"hooks\.slack\.com/services/[A-Za-z0-9_/]{20,120}"),
    "openai_key": re.compile(r"\bsk-(?:[a-z]{2,8}-)?(?:[a-z0-9]{2,8}-)?[A-Za-z0-9_-]{20,250}"),
    "google_key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}"),
    "stripe_key": re.compile(r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,250}"),
    "huggingface_token": re.compile(r"\bhf_[A-Za-z0-9]{30,64}\b"),
    "package_token": re.compile(r"\b(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,250})"),
    "sendgrid_key": re.compile(r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    "jwt": re.compile(r"\beyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}"),
    "url_password": re.compile(
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@<>]{1,64}:(?P<value>[^\s/@<>]{3,128})@", re.I
    ),
    "assigned_secret": re.compile(
        r"(?i:\b(?:[a-z]{1,20}[_-])?(?:api[_ -]?key|access[_ -]?key|secret(?:[_ -]?key)?|client[_ -]?secret|"
        r"auth[_ -]?token|access[_ -]?token|token|passwd|password|pwd|bearer)\b"
        r"[\"']?\s{0,3}(?:=>|:=|=|:|\bis\b|\s)"
        r"\s{0,3}[\"']?)(?P<value>[A-Za-z0-9_+/.!@#$%^&*~-]{12,200}=*)"
    ),
}
"""Name -> pattern; the group `value`, where there is one, is what is masked."""

PII_PATTERNS: dict[str, Pattern[str]] = {
    "email": re.compile(r"(?<![\w.%+'-])[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w@])"),
    "iban": re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,38}"),
    "credit_card": re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){11,18}(?![\w-]|[.,]\d)"),
    "ssn": re.compile(r"(?<![\w-])\d{3}([- .]?)\d{2}\1\d{4}(?![\w-])"),
    "ip": re.compile(
        r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"
        r"|(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?<=::))(?![\w:]))"
    ),
    "phone": re.compile(
        r"(?:(?<![\w#$€£¥.,:/=@<*-])|(?<=[.,:/=-])(?=\+))\+?\(?\d{1,15}\)?"
        r"(?:(?:[ \t.\-/]{1,2}\(?|\(|(?<=\)))\d{1,12}\)?){0,8}"
        r"(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?![\w%€£°]|[.,:/-]\d|\s?[=*+])"
    ),
}
"""Type -> pattern of a candidate."""

GATE = re.compile(
    r"@|\d(?:[\s().:/\-]{0,3}\d){6}|\d\.\d{1,3}\.\d|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:"
    r"|[A-Za-z]{2}\d\d ?[A-Za-z0-9]{4}"
)
"""Cheap test: text without a hit holds no personal data of the built-in types."""

SECRET_GATE = re.compile(
    r"PRIVATE KEY|AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat|glpat-|xox[abeoprs]-|hooks\.slack|sk-|AIza|[sr]k_"
    r"|hf_|npm_|pypi-|SG\.|eyJ|://|(?i:key|secret|token|passw|pwd|bearer)"
)
"""Cheap test: text without a hit holds no secret."""

PHONE_CONTEXT = re.compile(
    r"(?i:\b(?:phone|telephone|mobile|cell|cellphone|fax|whatsapp|sms|tel|call(?:ed|ing)?|dial|ring|reach|"
    r"contact|text|hotline|landline|desk)\b)[^\d]{0,40}$"
)
"""Ends where a number begins that was announced as a telephone number."""
NOT_PHONE_CONTEXT = re.compile(
    r"(?i:\b(?:order|ref|reference|invoice|ticket|case|tracking|booking|confirmation|account|card|serial|id|"
    r"no|nr|sku|item|part|transaction|code|pin|version|zip|policy|number)\b)[\s.:#]{0,3}(?:number|no|nr|id|is|was)?"
    r"[\s.:#]{0,3}$"
)
"""Ends where a number begins that was announced as something else."""
CARD_CONTEXT = re.compile(r"(?i:\b(?:card|credit|debit|cc|visa|mastercard|amex|maestro)\b)[^\d\n]{0,40}$")
SSN_CONTEXT = re.compile(r"(?i:\b(?:ssn|social security|social)\b)[^\d\n]{0,30}$")
VERSION_CONTEXT = re.compile(r"(?i:\b(?:v|ver|version|release|build)\.?\s{0,2})$")
CONTEXT_CHARS = 60
