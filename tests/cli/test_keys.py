"""``livetrader keys``, and a server that is reached with them."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

from tests.cli.conftest import Run, process, served


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def lines(printed: str) -> str:
    return "\n".join(line.strip() for line in printed.splitlines())


def test_what_it_prints_is_what_both_sides_need(cli: Run, workplace: Path) -> None:
    server, laptop = cli("keys", "new", "server"), cli("keys", "new", "laptop")
    assert server.exit_code == laptop.exit_code == 0, server.stderr + laptop.stderr
    keys_here, at_clients = re.split(r"(?=\[client\])", lines(server.stdout))
    at_laptop, at_server = re.split(r"(?=\[server\.)", lines(laptop.stdout))
    endpoint = f"tcp://0.0.0.0:{(port := free_port())}"
    settings = (workplace / "livetrader.toml").read_text()
    settings = re.sub(r"\[server\]\s*endpoint = .*", "", settings)
    (workplace / "livetrader.toml").write_text(
        f'{keys_here}\nendpoint = "{endpoint}"\n{at_server}\n{settings}'
    )
    with served(workplace):
        away = workplace / "away"
        away.mkdir()
        far = f'endpoint = "tcp://127.0.0.1:{port}"'
        own = at_laptop.partition("\n")[2]
        (away / "livetrader.toml").write_text(f"{at_clients}\n{own}\n{far}\n")
        with process("status", "--json", cwd=away) as status:
            told, errors = status.communicate(timeout=20)
        assert status.returncode == 0, errors
        assert json.loads(told)["endpoint"] == f"tcp://127.0.0.1:{port}"

        (away / "livetrader.toml").write_text(f"[client]\n{far}\n")
        with process("status", cwd=away) as status:
            _, errors = status.communicate(timeout=20)
        assert status.returncode == 1
        assert "the server asks for keys" in errors


def test_what_is_missing_is_named(cli: Run, workplace: Path) -> None:
    good = (workplace / "livetrader.toml").read_text()
    for added, told in (
        ('[client]\nkeys = "none.key_secret"', "client.server_key: missing"),
        (f'[client]\nserver_key = "{"x" * 40}"', "client.keys: missing"),
        ('[server.clients.a]\nkey = "short"\nrole = "trade"', "make them with"),
        ('[server.clients.a]\nkey = "short"\nrole = "all"', "server.clients.a.role"),
    ):
        (workplace / "livetrader.toml").write_text(f"{good}\n{added}\n")
        result = cli("serve" if "server.clients" in added else "status")
        assert result.exit_code == 1
        assert told in result.stderr
    cli("keys", "new", "server", "--folder", str(workplace))
    keyed = good.replace("[server]", '[server]\nkeys = "server.key_secret"', 1)
    (workplace / "livetrader.toml").write_text(
        f'{keyed}\n[server.clients.a]\nkey = "short"\nrole = "trade"\n'
    )
    result = cli("serve")
    assert "server.clients.a.key: expected a public key of 40 characters" in result.stderr


def test_a_public_key_is_shown_again(cli: Run, workplace: Path) -> None:
    made = cli("keys", "new", "laptop", "--folder", str(workplace))
    shown = cli("keys", "show", str(workplace / "laptop.key_secret"))
    assert shown.stdout.strip() in made.stdout
    assert cli("keys", "new", "laptop", "--folder", str(workplace)).exit_code == 1
    assert cli("keys", "new", "a/b").exit_code == 2
