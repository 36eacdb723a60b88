"""Endpoints: what can be served on, what is refused, and by which error."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from livetrader_core.errors import EndpointError, EndpointInUse, InsecureEndpoint
from livetrader_core.rpc import Client, Server
from livetrader_core.rpc.endpoints import Endpoint
from livetrader_core.service import MarketService
from tests.rpc.wiring import ROOT, ipc_endpoint
from tests.support.ticking_market import TickingMarket


def server() -> Server:
    return Server(MarketService(TickingMarket()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "market",
        "http://127.0.0.1:80",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:99999",
        "tcp://:7000",
        "tcp://127.0.0.1:0",
        "ipc://",
        "ipc://@abstract",
        "ipc:///" + "x" * 120,
        "inproc://",
    ],
)
def test_what_is_not_an_endpoint_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(EndpointError) as caught:
        Client(timeout=0.2).connect(text)
    assert repr(text) in str(caught.value)


def test_the_events_endpoint_keeps_the_clients_host() -> None:
    assert str(Endpoint.parse("tcp://far:7000").events("7001")) == "tcp://far:7001"
    assert str(Endpoint.parse("tcp://[::1]:7000").events("7001")) == "tcp://[::1]:7001"
    assert str(Endpoint.parse("ipc:///tmp/a").events(".events")) == "ipc:///tmp/a.events"
    assert str(Endpoint.parse("inproc://a").events(".events")) == "inproc://a.events"
    for port in ("", "0", "70000", "x", "-1"):
        with pytest.raises(EndpointError, match="port for events"):
            Endpoint.parse("tcp://far:7000").events(port)


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]", "8.8.8.8", "192.0.2.1"])
def test_tcp_beyond_this_computer_is_refused_until_there_are_keys(host: str) -> None:
    with pytest.raises(InsecureEndpoint, match="no keys"):
        server().bind(f"tcp://{host}:7000")


def test_a_host_that_does_not_resolve_is_an_error_of_the_endpoint() -> None:
    with pytest.raises(EndpointError, match="resolved"):
        server().bind("tcp://no-such-host.invalid:7000")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.3"])
def test_loopback_is_served(host: str) -> None:
    running = server()
    bound = running.bind(f"tcp://{host}:*")
    assert bound.startswith(f"tcp://{host}:")
    assert Endpoint.parse(bound).port > 0
    running.close()
    running.run()


def test_a_second_server_on_tcp_is_refused() -> None:
    first, second = server(), server()
    bound = first.bind("tcp://127.0.0.1:*")
    with pytest.raises(EndpointInUse, match=bound):
        second.bind(bound)
    first.close()
    first.run()


def test_the_port_for_events_is_any_other_if_the_next_one_is_taken() -> None:
    first = server()
    with socket.socket() as taken, socket.socket() as probe:
        for port in range(20_000, 60_000, 7):
            try:
                probe.bind(("127.0.0.1", port))
                taken.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            break
        taken.listen()
        probe.close()
        assert first.bind(f"tcp://127.0.0.1:{port}") == f"tcp://127.0.0.1:{port}"
        assert first.stats()["endpoints"] == [f"tcp://127.0.0.1:{port}"]
        first.close()
        first.run()


def test_a_second_server_on_inproc_is_refused() -> None:
    first, second = server(), server()
    first.bind("inproc://twice")
    with pytest.raises(EndpointInUse, match="inproc://twice"):
        second.bind("inproc://twice")
    first.close()
    first.run()


def test_a_second_server_on_ipc_is_refused_and_the_first_goes_on() -> None:
    with ipc_endpoint() as endpoint:
        first, second = server(), server()
        first.bind(endpoint)
        with pytest.raises(EndpointInUse, match=endpoint):
            second.bind(endpoint)
        first.close()
        first.run()
        second.bind(endpoint)  # free again
        second.close()
        second.run()
        assert os.listdir(Path(endpoint[6:]).parent) == []


def test_a_second_server_in_another_process_is_refused() -> None:
    code = (
        "import sys; from livetrader_core.rpc import Server;"
        "from livetrader_core.service import MarketService;"
        "from tests.support.ticking_market import TickingMarket;"
        "Server(MarketService(TickingMarket())).bind(sys.argv[1])"
    )
    with ipc_endpoint() as endpoint:
        first = server()
        first.bind(endpoint)
        other = subprocess.run(
            [sys.executable, "-c", code, endpoint],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "EndpointInUse" in other.stderr
        first.close()
        first.run()


def test_the_files_of_a_killed_server_are_no_obstacle() -> None:
    code = (
        "import os, sys; from livetrader_core.rpc import Server;"
        "from livetrader_core.service import MarketService;"
        "from tests.support.ticking_market import TickingMarket;"
        "Server(MarketService(TickingMarket())).bind(sys.argv[1]); os._exit(9)"
    )
    with ipc_endpoint() as endpoint:
        subprocess.run([sys.executable, "-c", code, endpoint], cwd=ROOT, check=False)
        assert Path(endpoint[6:] + ".lock").exists()
        again = server()
        again.bind(endpoint)
        again.close()
        again.run()


def test_a_lock_that_somebody_holds_is_respected() -> None:
    with ipc_endpoint() as endpoint:
        with open(endpoint[6:] + ".lock", "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(EndpointInUse):
                server().bind(endpoint)
        again = server()
        again.bind(endpoint)
        again.close()
        again.run()


def test_only_the_owner_may_use_the_sockets() -> None:
    with ipc_endpoint() as endpoint:
        running = server()
        running.bind(endpoint)
        for path in (endpoint[6:], endpoint[6:] + ".events"):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        running.close()
        running.run()


def test_a_folder_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(EndpointError, match="no-such-folder"):
        server().bind("ipc:///tmp/no-such-folder/s")


def test_a_file_in_the_way_is_not_removed() -> None:
    for name in ("", ".events"):
        with ipc_endpoint() as endpoint:
            path = Path(endpoint[6:] + name)
            path.write_text("precious")
            with pytest.raises(EndpointError, match="no socket"):
                server().bind(endpoint)
            assert path.read_text() == "precious"


def test_a_bind_that_failed_can_be_tried_again() -> None:
    with zmq.Context.instance().socket(zmq.PAIR) as taken:
        taken.bind("inproc://again.events")  # the requests socket is bound before this one
        refused = server()
        with pytest.raises(EndpointInUse):
            refused.bind("inproc://again")
    other = server()
    other.bind("inproc://again")
    other.close()
    other.run()


def test_a_server_that_is_bound_to_nothing_does_not_run() -> None:
    with pytest.raises(EndpointError, match="bind"):
        server().run()


def test_one_server_on_three_kinds_of_endpoint() -> None:
    with ipc_endpoint() as endpoint:
        running = server()
        bound = [running.bind(e) for e in (endpoint, "inproc://three", "tcp://127.0.0.1:*")]
        with pytest.raises(EndpointError, match="tcp endpoint already"):
            running.bind("tcp://127.0.0.1:*")
        assert running.stats()["endpoints"] == bound
        running.close()
        running.run()
        assert zmq.Context.instance().closed is False
