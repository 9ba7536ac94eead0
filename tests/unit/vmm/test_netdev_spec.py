"""Network SPECs, and what is wrong with some."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalesced.vmm import macs
from coalesced.vmm.macs import MacAddresses
from coalesced.vmm.netdev.spec import NetdevError
from helpers.network_bench import Bench, free_ports


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("user,id=n0", "unknown kind 'user'; known: dgram, hubport, socket, stream, tap"),
        ("", "unknown kind ''; known: dgram"),
        ("dgram", "expected id="),
        ("dgram,id=", "expected id="),
        ("dgram,id=a,local", "expected property=value, got 'local'"),
        ("dgram,id=a,id=b", "property 'id' is given twice"),
        ("dgram,id=a", "expected remote=HOST:PORT"),
        ("dgram,id=a,remote=127.0.0.1:5", "expected local=HOST:PORT"),
        ("dgram,id=a,local=127.0.0.1:5", "expected remote=HOST:PORT"),
        ("dgram,id=a,local=5,remote=127.0.0.1:5", "local: expected HOST:PORT, got '5'"),
        ("dgram,id=a,local=:0,remote=:5", "remote: expected a host"),
        ("dgram,id=a,local=:0,remote=a b:5", "remote: 'a b': "),
        ("dgram,id=a,local=:0,remote=127.0.0.1:70000", "remote: expected a port of 0 to 65535"),
        ("dgram,id=a,local=:0,remote=127.0.0.1:x", "remote: expected a port of 0 to 65535"),
        ("dgram,id=a,local=192.0.2.1:9,remote=127.0.0.1:5", "cannot bind to 192.0.2.1:9: "),
        ("dgram,id=a,local.type=fd,remote=127.0.0.1:5", "local.type: expected inet or unix"),
        ("dgram,id=a,local.type=unix,remote=127.0.0.1:5", "expected local.path="),
        ("dgram,id=a,local.type=unix,local.path=/x,remote=127.0.0.1:5", "of the same kind"),
        (
            "dgram,id=a,local.type=unix,local.path=/nowhere/x,remote.type=unix,remote.path=/y",
            "cannot bind to /nowhere/x: No such file or directory",
        ),
        ("dgram,id=a,local=:0,remote=127.0.0.1:5,mtu=9", "unknown property 'mtu'; known here: id"),
        ("stream,id=a", "expected addr.type=inet"),
        ("stream,id=a,server=maybe,addr=:5", "server: expected off or on, got 'maybe'"),
        ("stream,id=a,server=on,addr=:0,reconnect=1", "reconnect: expected with server=off only"),
        ("stream,id=a,addr=127.0.0.1:5,reconnect=-1", "reconnect: expected 0 to 3600, got '-1'"),
        ("stream,id=a,addr.type=inet,addr.host=h", "expected addr.port="),
        (f"stream,id=a,addr.type=unix,addr.path={'x' * 108}", "a path of at most 107 bytes"),
        ("socket,id=a", "expected one of listen, connect, udp, mcast, got 0"),
        ("socket,id=a,listen=:5,connect=h:5", "expected one of listen, connect, udp, mcast, got 2"),
        ("socket,id=a,udp=127.0.0.1:5", "expected localaddr="),
        ("socket,id=a,mcast=127.0.0.1:5", "mcast: expected a multicast address"),
        ("hubport,id=a", "expected hubid="),
        ("hubport,id=a,hubid=-1", "hubid: expected 0 to 2147483647, got '-1'"),
        ("hubport,id=a,hubid=0,netdev=n9", "there is no netdev 'n9'; known: none"),
        ("tap,id=a,ifname=0123456789abcdef", "ifname: expected a name of at most 15 bytes"),
        ("tap,id=a,ifname=a/b", "ifname: expected a name"),
        ("tap,id=a,script=/etc/qemu-ifup", "script: expected no, got '/etc/qemu-ifup'"),
        ("tap,id=a,vhost=on", "unknown property 'vhost'; known here: id, ifname, script"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(bench: Bench, spec: str, reason: str) -> None:
    with pytest.raises(NetdevError) as error:
        bench.add(spec)
    assert str(error.value).startswith(f"netdev {spec!r}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_ids_are_unique_and_taken_once(bench: Bench) -> None:
    (port,) = free_ports(1)
    bench.add(f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:9", "hubport,id=n1,hubid=0")
    with pytest.raises(NetdevError, match="netdev 'n0' already exists"):
        bench.add("hubport,id=n0,hubid=0")
    assert bench.network.unused() == ["n0", "n1"]
    bench.card("n0")
    assert bench.network.unused() == ["n1"]
    with pytest.raises(NetdevError, match="netdev 'n0' is already used by card"):
        bench.card("n0")
    with pytest.raises(NetdevError, match="there is no netdev 'n7'; known: n0, n1"):
        bench.card("n7")


def test_hubs_that_are_joined_are_joined_once(bench: Bench) -> None:
    """A frame would go round for ever."""
    bench.add("hubport,id=a,hubid=0")
    with pytest.raises(NetdevError, match=r"id=b.*: its hub is already connected to this one"):
        bench.add("hubport,id=b,hubid=0,netdev=a")
    bench.add("hubport,id=c,hubid=1", "hubport,id=d,hubid=2,netdev=c", "hubport,id=e,hubid=2")
    bench.add("hubport,id=f,hubid=3,netdev=e", "hubport,id=g,hubid=3")
    with pytest.raises(NetdevError, match="connected to this one"):
        bench.add("hubport,id=h,hubid=1,netdev=g")


def test_a_hubs_port_takes_its_netdev_for_itself(bench: Bench) -> None:
    (port,) = free_ports(1)
    bench.add(
        f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:9",
        "hubport,id=p0,hubid=0,netdev=n0",
    )
    assert bench.network.unused() == []
    with pytest.raises(NetdevError, match="netdev 'n0' is already used by hubport 'p0'"):
        bench.card("n0")
    with pytest.raises(NetdevError, match="netdev 'p0' is already used by netdev 'n0'"):
        bench.card("p0")


@pytest.mark.parametrize(
    "spec",
    [
        "dgram,id=a,local={0},remote=127.0.0.1:9",
        "dgram,id=a,local.type=inet,local.host=127.0.0.1,local.port={1},remote.host=127.0.0.1,"
        "remote.port=9",
        "dgram,id=a,local.host=127.0.0.1,local.port={1},local.ipv6=off,remote=127.0.0.1:9",
        "dgram,id=a,local=[::1]:{1},remote=[::1]:9",
        "dgram,id=a,local=:{1},remote=localhost:9",
        "socket,id=a,udp=127.0.0.1:9,localaddr={0}",
        "socket,id=a,listen=:{1}",
        "stream,id=a,server=on,addr={0}",
        "stream,id=a,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={1}",
        "dgram,id=a,remote.type=inet,remote.host=239.1.2.3,remote.port={1},local=127.0.0.1:0",
        "socket,id=a,mcast=239.1.2.3:{1},localaddr=127.0.0.1",
    ],
)
def test_forms_of_an_address(bench: Bench, spec: str) -> None:
    (port,) = free_ports(1)
    bench.add(spec.format(f"127.0.0.1:{port}", port))


def test_a_socket_of_an_earlier_run_gives_way_and_a_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    spec = f"dgram,id=a,local.type=unix,local.path={path},remote.type=unix,remote.path=/x"
    for _ in range(2):  # the second one finds what the first one left, or nothing
        with Bench() as bench:
            bench.add(spec)
            assert path.is_socket()
        assert not path.exists()
    path.write_text("mine")
    for text in (spec, f"stream,id=a,server=on,addr.type=unix,addr.path={path}"):
        with Bench() as bench, pytest.raises(NetdevError, match="Address already in use"):
            bench.add(text)
    assert path.read_text() == "mine"


KINDS = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "packet": socket.SOCK_SEQPACKET}


def unix_specs(path: Path) -> tuple[str, str]:
    """A back end of either kind that binds to the path."""
    return (
        f"dgram,id=a,local.type=unix,local.path={path},remote.type=unix,remote.path=/x",
        f"stream,id=a,server=on,addr.type=unix,addr.path={path}",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_socket_of_another_process_is_not_taken(tmp_path: Path, kind: str) -> None:
    """Whatever its kind, and it does not notice that somebody asked."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as other:
        other.bind(str(path))
        if kind != "dgram":
            other.listen(1)
        other.setblocking(False)
        for text in unix_specs(path):
            said = f"cannot bind to {path}: another process has a socket there"
            with Bench() as bench, pytest.raises(NetdevError, match=said):
                bench.add(text)
        with pytest.raises(BlockingIOError):
            other.recv(1) if kind == "dgram" else other.accept()
    assert path.is_socket()


@pytest.mark.parametrize("kind", KINDS)
def test_the_socket_of_a_process_that_has_ended_gives_way(tmp_path: Path, kind: str) -> None:
    """Whatever its kind."""
    path = tmp_path / "sock"
    for text in unix_specs(path):
        with socket.socket(socket.AF_UNIX, KINDS[kind]) as ended:
            ended.bind(str(path))
        with Bench() as bench:
            bench.add(text)
        assert not path.exists()


def test_a_socket_that_took_the_place_of_ours_stays(tmp_path: Path) -> None:
    """Somebody removed ours and bound anew."""
    path = tmp_path / "sock"
    for text in unix_specs(path):
        with Bench() as bench, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            bench.add(text)
            path.unlink()
            other.bind(str(path))
            bench.network.close()
            assert path.is_socket()
        path.unlink()


# --- addresses of cards ---


def test_default_addresses_count_up_past_those_that_are_given() -> None:
    given = MacAddresses()
    assert given.claim(None).hex(":") == "52:54:00:12:34:56"
    given.claim(macs.parse("52-54-00-12-34-57"))
    assert given.claim(None).hex(":") == "52:54:00:12:34:58"
    assert given.claim(bytes(6)).hex(":") == "52:54:00:12:34:59"
    for _ in range(0xFF - 0x5A):
        given.claim(None)
    with pytest.raises(ValueError, match="no default MAC address is free"):
        given.claim(None)


@pytest.mark.parametrize(
    "text", ["", "52:54", "52:54:00:12:34:5", "52:54:00:12:34:56:78", "52:54:00:12:34-56", "g" * 17]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        macs.parse(text)
