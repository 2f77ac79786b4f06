# SPDX-License-Identifier: MIT
"""Certificates: make throwaway ones for trials, and describe the server's own before it starts.

No file is ever overwritten. A throwaway CA keeps its key beside its certificate, so that `server_helper.py make-cert`
can sign another name. Nobody should trust it beyond a trial.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import service_identity
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from nts.base.errors import ConfigError
from nts.base.text import is_ip_address
from nts.system import files

VALID_DAYS = 365
SOON_DAYS = 14  # before a certificate expires, warn
CA_VALID_DAYS = 3650
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Description:
    """What matters to an operator about a certificate."""

    names: tuple[str, ...]
    """DNS names and IP addresses"""
    not_before: datetime.datetime
    not_after: datetime.datetime
    certificate: x509.Certificate

    def problem(self, now: datetime.datetime) -> str | None:
        """Why clients would refuse the certificate at that time; None when they would not."""
        if now < self.not_before:
            return f"is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        if now > self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d %H:%M} UTC"
        if not self.names:
            return "has no subject alternative name"
        return None

    def covers(self, name: str) -> bool:
        """Whether the certificate is for this name or address."""
        return is_for(self.certificate, name)


def is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate is for a service (RFC 9525): by a DNS or IP subject alternative name, not a common name."""
    verify = verify_certificate_ip_address if is_ip_address(name) else verify_certificate_hostname
    try:
        verify(certificate, name)
    except (service_identity.VerificationError, service_identity.CertificateError, ValueError):  # or malformed
        return False
    return True


def clock_error(chain: Iterable[x509.Certificate], now: datetime.datetime) -> tuple[float, float]:
    """How far a clock that says `now` must be behind for all these certificates to be valid: at least, at most.

    In seconds, below 0 for a clock that is ahead. The first number is the greater one if that is never the case.
    """
    dates = [(c.not_valid_before_utc, c.not_valid_after_utc) for c in chain]
    latest_start, earliest_end = max(start for start, _ in dates), min(end for _, end in dates)
    return (latest_start - now).total_seconds(), (earliest_end - now).total_seconds()


def describe(chain: Path) -> Description:
    """Describe the first certificate of a PEM file. ConfigError when there is none."""
    try:
        certificate = x509.load_pem_x509_certificates(files.read(chain))[0]
    except ValueError:
        raise ConfigError(f"{chain} holds no usable PEM certificate") from None
    dates = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Description(names(certificate), *dates, certificate)


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses that a certificate is for."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress)))
    except (x509.ExtensionNotFound, ValueError):
        return ()


def now() -> datetime.datetime:
    """The current time in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def make(names: tuple[str, ...], *, cert: Path, key: Path, ca: Path) -> list[Path]:
    """Make a certificate for these names, signed by the throwaway CA `ca`. Make that too if it is missing.

    Returns the files made. ConfigError when `cert` or `key` exists, or a file cannot be written.
    """
    ca_key_path = ca.with_suffix(".key")
    if ca_key_path in (cert, key):
        raise ConfigError(f"the CA's key would overwrite the server's {ca_key_path}", hint="rename root_ca")
    try:
        for path in (cert, key, ca):
            files.make_folder(path.parent, 0o755)
        with files.locked(ca.with_name(f".{ca.name}.lock")):
            return _make(names, cert, key, ca, ca_key_path)
    except OSError as e:
        raise ConfigError(f"cannot write {e.filename}: {e.strerror}") from None


def _make(names: tuple[str, ...], cert: Path, key: Path, ca: Path, ca_key_path: Path) -> list[Path]:
    for path in (cert, key):
        if path.exists():
            raise ConfigError(f"{path} exists and is not overwritten", hint="move it away first")
    made = []
    if ca.exists():
        ca_cert, ca_key = load_ca(ca, ca_key_path)
    else:
        ca_cert, ca_key = _new_ca()
        write_pair(ca, ca_cert, ca_key_path, ca_key)
        made += [ca, ca_key_path]
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = _new_leaf(names, leaf_key, ca_cert, ca_key)
    write_pair(cert, leaf, key, leaf_key)
    return [*made, cert, key]


def load_ca(ca: Path, key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA that can sign, from its PEM files. ConfigError when it cannot."""
    try:
        certificate = x509.load_pem_x509_certificate(ca.read_bytes())
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or certificate.public_key() != loaded.public_key():
            raise ValueError
    except FileNotFoundError as e:
        raise ConfigError(f"{ca} exists, but its key {e.filename} does not: cannot sign with it") from None
    except (ValueError, TypeError):
        raise ConfigError(f"{ca} and {key} are not a CA that can sign certificates") from None
    if certificate.not_valid_after_utc < now():
        raise ConfigError(f"the CA {ca} has expired", hint=f"move {ca} and {key} away, and a new CA is made")
    return certificate, loaded


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, no_later_than: datetime.datetime | None = None
) -> x509.CertificateBuilder:
    start = now() - datetime.timedelta(hours=1)  # clients' clocks may be slow
    end = start + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(min(end, no_later_than or end))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _new_ca() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Throwaway NTS test CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = (
        _builder(name, key, CA_VALID_DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _new_leaf(
    names: tuple[str, ...], key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        _builder(subject, key, VALID_DAYS, ca.not_valid_after_utc)
        .issuer_name(ca.subject)
        .add_extension(alternative_names(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def alternative_names(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    """The extension for DNS names and IP addresses."""
    return x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(n)) if is_ip_address(n) else x509.DNSName(n) for n in names]
    )


def write_pair(cert: Path, certificate: x509.Certificate, key: Path, private: ec.EllipticCurvePrivateKey) -> None:
    """Write a certificate and its key, which only its owner may read; both or none. OSError, also when one exists."""
    files.write_new((key, _pem_key(private), 0o600), (cert, _pem(certificate), 0o644))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
