"""A database for one test, with the outbox table exactly as the ordering product has it, and our own schema."""

from __future__ import annotations

import importlib.resources
from urllib.parse import urlsplit, urlunsplit

import asyncpg


async def create(server_url: str, name: str) -> str:
    """Create the database; returns its URL."""
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
    finally:
        await admin.close()
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(url)
    try:
        for statements in _schema():
            await connection.execute(statements)
    finally:
        await connection.close()
    return url


async def drop(server_url: str, name: str) -> None:
    """Drop the database, whoever is still connected."""
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await admin.close()


def _schema() -> list[str]:
    streams = importlib.resources.files("streams")
    migrations = sorted(streams.joinpath("migrations").iterdir(), key=lambda entry: entry.name)
    files = [streams.joinpath("outbox.sql"), *(entry for entry in migrations if entry.name.endswith(".sql"))]
    return [file.read_text() for file in files]
