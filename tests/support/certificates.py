"""A certificate for 127.0.0.1 that nobody trusts who was not told to."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the program openssl to make a certificate"
)


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server needs, and the file that a client trusts it by."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *options, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context, certificate
