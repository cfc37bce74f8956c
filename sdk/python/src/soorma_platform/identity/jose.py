"""The part of JOSE that tokens need: their encoding, and signatures by an issuer's public keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, thumbprint
from joserfc.jws import JWSRegistry

LEAST_RSA_BITS, MOST_RSA_BITS = 2_048, 8_192
"""NIST SP 800-131A takes no shorter keys; with longer ones, a signature takes milliseconds."""
LONGEST_KEY_ID = 255
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
"""The members of public keys, by type. One of type `oct` is a secret, published by mistake."""
_SIGNING_CURVES = {"P-256", "P-384", "P-521", "Ed25519", "Ed448"}
_MODELS = JWSRegistry.algorithms


class SigningKey:
    """A public key of an issuer, with the algorithms whose signatures it verifies."""

    def __init__(self, jwk: Mapping[str, Any], algorithms: Collection[str]) -> None:
        """Reads a JSON Web Key (RFC 7517); raises ValueError if it can verify no signature.

        Nothing but its public numbers is read: no certificate, address or private number.
        """
        members = _PUBLIC.get(_text_in(jwk, "kty"))
        if members is None:
            raise ValueError("it is no public key of a known type")
        numbers = {name: _text_in(jwk, name) for name in ("kty", *members)}
        if numbers.get("crv", "P-256") not in _SIGNING_CURVES:
            raise ValueError("its curve signs nothing")
        if "n" in numbers:
            _check_size(numbers["n"])
        if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
            raise ValueError("it is not for signatures")
        self.kid = _text_in(jwk, "kid") if "kid" in jwk else None
        if self.kid is not None and not 0 < len(self.kid) <= LONGEST_KEY_ID:
            raise ValueError(f"its kid has more than {LONGEST_KEY_ID} characters, or none")
        self.thumbprint: str = thumbprint(numbers)
        """identifies it whatever its `kid` says (RFC 7638)"""
        try:
            self._key: Any = JWKRegistry.import_key(dict(numbers))
        except (JoseError, UnsupportedAlgorithm, KeyError) as error:
            raise ValueError("its numbers make no key") from error
        only = jwk.get("alg")
        self.algorithms = frozenset(
            name for name in algorithms if only in (None, name) and self._fits(name)
        )
        if not self.algorithms:
            raise ValueError("it is for no algorithm that is allowed")

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Returns whether a signature of what was signed is right; the algorithm must be its."""
        return _MODELS[algorithm].verify(signed, signature, self._key)

    def _fits(self, algorithm: str) -> bool:
        try:
            _MODELS[algorithm].check_key(self._key)
        except JoseError:
            return False
        return True


def signing_keys(
    jwks: Iterable[Mapping[str, Any]], algorithms: Collection[str]
) -> tuple[list[SigningKey], list[str]]:
    """Returns the keys of a set that verify signatures, and why others do not.

    Those of a set that one does not understand are to be left out (RFC 7517, 5).
    """
    found, left_out = list[SigningKey](), list[str]()
    for jwk in jwks:
        try:
            found.append(SigningKey(jwk, algorithms))
        except (ValueError, TypeError) as error:
            left_out.append(str(error))
    return found, left_out


def decoded(part: str) -> bytes:
    """Decodes base64url without padding; raises ValueError for anything else."""
    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    # It skips what it does not know; one text for the same bytes, and no other, is accepted.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise ValueError("it is no base64url")
    return data


def object_in(data: bytes) -> dict[str, Any]:
    """Reads a JSON object; raises ValueError for anything else, and if it names a member twice.

    Of two members of a name, one reader would believe the first, another the last (RFC 7519, 4).
    """
    try:
        # Decoded here: json would guess among other encodings.
        found = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - all that is wrong with it is one error
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it names a member twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _text_in(jwk: Mapping[str, Any], name: str) -> str:
    text = jwk.get(name)
    if not isinstance(text, str):
        raise ValueError(f"its {name} is no text")  # noqa: TRY004 - as of anything wrong with a key
    return text


def _check_size(modulus: str) -> None:
    # Before it is imported: the library warns of short keys, and computes with long ones.
    bits = int.from_bytes(decoded(modulus), "big").bit_length()
    if not LEAST_RSA_BITS <= bits <= MOST_RSA_BITS:
        raise ValueError(f"it has {bits} bits, not {LEAST_RSA_BITS} to {MOST_RSA_BITS}")
