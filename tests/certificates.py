# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests of TLS: an authority of the test's own, and what it signs."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HOUR = datetime.timedelta(hours=1)
_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key, both as PEM."""

    certificate: str
    key: str


class Authority:
    """A certificate authority that nobody else trusts."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        draft = _draft(self._name, self._key, self._name, x509.BasicConstraints(ca=True, path_length=None))
        # Python 3.13 insists on what RFC 5280 demands of an authority.
        draft = draft.add_extension(self._identifier, critical=False).add_extension(_SIGNS, critical=True)
        self.certificate = _pem(draft.sign(self._key, hashes.SHA256()))

    def issue(self, common_name: str, *addresses: str) -> Signed:
        """A certificate for a client, or, with the addresses it goes by, for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        draft = _draft(_name(common_name), key, self._name, x509.BasicConstraints(ca=False, path_length=None))
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        draft = draft.add_extension(authority, critical=False)
        if addresses:
            names = [x509.IPAddress(ip_address(address)) for address in addresses]
            draft = draft.add_extension(x509.SubjectAlternativeName(names), critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Signed(_pem(draft.sign(self._key, hashes.SHA256())), private.decode())


def _draft(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, constraints: x509.BasicConstraints
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _HOUR)  # clocks differ
        .not_valid_after(now + 24 * _HOUR)
        .add_extension(constraints, critical=True)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
