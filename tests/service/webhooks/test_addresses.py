"""Which addresses a webhook may have: no name and no form of an address leads inside."""

import socket

import pytest

from service.webhooks.addresses import (
    AddressRefused,
    UrlRefused,
    is_public,
    public_socket,
    require_url,
)
from service.webhooks.sending import new_secret, send, session
from tests.service.webhooks.receiver import receiving

INSIDE = (
    *("127.0.0.1", "127.255.0.3", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1", "198.18.0.1", "203.0.113.5"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::1", "fe80::1", "fc00::1"),
    *("fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
)


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_public(address: str) -> None:
    assert not is_public(address)
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(UrlRefused, match="public address"):
        require_url(f"https://{literal}/", private=False)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(AddressRefused):
        public_socket((family, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "example.com", "//example.com", "https://"),
        *("https://ada@example.com/", "https://ada:secret@example.com/", "https://example.com/#a"),
        *("https://example.com:port/", "https://[::1", "https:///path"),
    ],
)
def test_a_url_that_cannot_be_a_webhook_s_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        require_url(url, private=False)


def test_a_setting_opens_the_inside() -> None:
    require_url("http://127.0.0.1:8080/", private=True)
    require_url("https://example.com/in?a=b", private=False)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "the address is not public"),
        ("localhost", "the address is not public"),
        ("0x7f.1", "the address is not public"),
        ("[::ffff:127.0.0.1]", "the address is not public"),
        ("2130706433", "the connection failed: InvalidUrlClientError"),
        ("0177.0.0.1", "the connection failed: InvalidUrlClientError"),
        ("127.1", "the connection failed: InvalidUrlClientError"),
    ],
)
async def test_no_form_of_an_address_inside_is_connected_to(host: str, said: str) -> None:
    """The check is of the address that is connected to, so a name that leads inside fails too."""
    async with receiving() as receiver:
        url = f"http://{host}:{receiver.port}/"
        assert await sent(url, private=False) == said
        assert receiver.connections == 0


async def test_a_name_that_leads_inside_is_connected_to_where_a_setting_says_so() -> None:
    async with receiving() as receiver:
        for host in ("localhost", "0x7f.1"):
            assert await sent(f"http://{host}:{receiver.port}/", private=True) is None


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as receiver, receiving() as inside:
        receiver.answers = [(status, {"Location": inside.url}) for status in (301, 302, 307, 308)]
        for status in (301, 302, 307, 308):
            said = await sent(receiver.url, private=True)
            assert said == f"the receiver answered {status}"
        assert inside.connections == 0


async def sent(url: str, *, private: bool) -> str | None:
    """What went wrong when an event was sent."""
    async with session(None, private=private) as http:
        return (await send(http, url, [new_secret()], "evt_1", b"{}")).error
