"""Secrets and personal data in a text: which kinds, never the thing itself.

The finding is left to well-kept detectors, which come with an extra: detect-secrets for tokens and keys,
phonenumbers for telephone numbers, python-stdnum for numbers with a check digit. Names and addresses of people are
not found: no pattern tells them from other words. Nothing here connects to a network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from memos_cli.errors import MissingExtra

INSTALL = "pip install 'memos[audit]'"
Detector = Callable[[str], set[str]]

# By chance alone, words of prose look random to these, and an address of a machine is no secret.
_NOISY = frozenset({"Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector"})
_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_CARD = re.compile(r"(?<![\d.-])(?:\d[ -]?){12,18}\d(?![\d-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_CARD_STARTS = ("34", "37", "4", "50", "51", "52", "53", "54", "55", "56", "57", "58", "6", "2")
# Addresses and numbers that are kept for examples belong to nobody.
_EXAMPLES = re.compile(r"@(?:[\w.-]+\.)?(?:example\.(?:com|net|org)|[\w-]+\.(?:example|invalid|test|localhost))$", re.I)


def secrets() -> Detector:
    """Finds keys, tokens and passwords; raises MissingExtra."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError as error:
        raise MissingExtra("finding secrets needs the package detect-secrets", hint=INSTALL) from error
    every: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    plugins = [plugin() for plugin in every if plugin.__name__ not in _NOISY]

    def find(text: str) -> set[str]:
        lines = [line[:4096] for line in text.splitlines()]
        return {kind for line in lines for plugin in plugins for kind in _kinds(plugin, line)}

    return find


def _kinds(plugin: Any, line: str) -> list[str]:
    from detect_secrets.filters import heuristic

    found = plugin.analyze_line(filename="memory", line=line, line_number=1)
    return [
        str(secret.type)
        for secret in found
        if not (
            heuristic.is_templated_secret(secret.secret_value)
            or heuristic.is_prefixed_with_dollar_sign(secret.secret_value)
            or heuristic.is_not_alphanumeric_string(secret.secret_value)
        )
    ]


def personal(kinds: Sequence[str]) -> Detector:
    """Finds personal data of these kinds: card, email, iban, phone, ssn. Raises MissingExtra."""
    try:
        import phonenumbers
        from stdnum import iban, luhn
        from stdnum.us import ssn
    except ImportError as error:
        raise MissingExtra(
            "finding personal data needs the packages phonenumbers and python-stdnum", hint=INSTALL
        ) from error
    finders: dict[str, Callable[[str], bool]] = {
        "email": lambda text: any(not _EXAMPLES.search(match.group()) for match in _EMAIL.finditer(text)),
        "phone": lambda text: "+" in text and phonenumbers.PhoneNumberMatcher(text, None).has_next(),
        "iban": lambda text: any(iban.is_valid(match.group()) for match in _IBAN.finditer(text)),
        "card": lambda text: any(_is_card(luhn, match.group()) for match in _CARD.finditer(text)),
        "ssn": lambda text: any(ssn.is_valid(match.group()) for match in _SSN.finditer(text)),
    }
    return lambda text: {kind for kind in kinds if finders[kind](text)}


def _is_card(luhn: Any, text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    return digits.startswith(_CARD_STARTS) and len(set(digits)) > 1 and bool(luhn.is_valid(digits))
