"""Which addresses may be called: every way to write a private one is refused."""

import pytest
from django.conf import settings as django_settings

from inference_portal.deliveries.addresses import Forbidden, check_addresses, check_url

PRIVATE_URLS = {
    "loopback": "http://127.0.0.1/",
    "decimal": "http://2130706433/",
    "octal": "http://0177.0.0.1/",
    "hexadecimal": "http://0x7f000001/",
    "hexadecimal parts": "http://0x7f.0.0.1/",
    "short": "http://127.1/",
    "nothing": "http://0/",
    "any": "http://0.0.0.0/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata, decimal": "http://2852039166/",
    "metadata of Azure": "http://168.63.129.16/machine",
    "metadata of Alibaba": "http://100.100.100.200/",
    "metadata of Oracle": "http://192.0.0.192/",
    "class A": "http://10.1.2.3/",
    "class B": "http://172.16.0.1/",
    "class C": "http://192.168.1.1/",
    "carrier": "http://100.64.0.1/",
    "protocol assignments": "http://192.0.0.8/",
    "benchmarks": "http://198.18.0.1/",
    "documentation": "http://203.0.113.5/",
    "multicast": "http://224.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    "translated": "http://[::ffff:0:7f00:1]/",
    "6to4 relay": "http://192.88.99.1/",
    "public with a zone": "http://[::1%25lo]/",
    "IPv6 loopback": "http://[::1]/",
    "IPv6 any": "http://[::]/",
    "mapped": "http://[::ffff:127.0.0.1]/",
    "mapped, hexadecimal": "http://[::ffff:7f00:1]/",
    "mapped metadata": "http://[::ffff:a9fe:a9fe]/",
    "compatible": "http://[::127.0.0.1]/",
    "NAT64": "http://[64:ff9b::7f00:1]/",
    "local NAT64": "http://[64:ff9b:1::7f00:1]/",
    "6to4": "http://[2002:7f00:1::]/",
    "Teredo": "http://[2001:0:7f00:1::]/",
    "link-local": "http://[fe80::1]/",
    "link-local with a zone": "http://[fe80::1%25eth0]/",
    "unique local": "http://[fd00::1]/",
    "site-local": "http://[fec0::1]/",
    "AWS metadata": "http://[fd00:ec2::254]/",
    "IPv6 multicast": "http://[ff02::1]/",
    "IPv6 documentation": "http://[2001:db8::1]/",
}
NO_URLS = {
    "user": "http://example.org@127.0.0.1/",
    "user alone": "https://user@example.org/",
    "password": "https://user:word@example.org/",
    "scheme": "ftp://example.org/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:25/",
    "relative": "//example.org/",
    "no host": "http:///path",
    "empty": "",
    "port 0": "http://example.org:0/",
    "port too high": "http://example.org:70000/",
    "port no number": "http://example.org:http/",
    "fragment": "https://example.org/#there",
    "space": "http://example.org/a b",
    "line feed": "http://example.org/\r\nHost: other",
    "backslash": "http://example.org\\@127.0.0.1/",
    "not ASCII": "http://１２７.0.0.1/",
    "label too long": "https://" + "a" * 64 + ".example/",
    "empty label": "https://a..example/",
    "signed port": "http://example.org:+80/",
    "open bracket": "http://[::1/",
    "too long": "https://example.org/" + "a" * 2048,
}


@pytest.mark.parametrize("url", PRIVATE_URLS.values(), ids=PRIVATE_URLS.keys())
def test_a_private_address_is_refused_however_it_is_written(url: str) -> None:
    with pytest.raises(Forbidden):
        check_url(url)


@pytest.mark.parametrize("url", NO_URLS.values(), ids=NO_URLS.keys())
def test_what_is_no_address_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(Forbidden):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook?a=b",
        "http://8.8.8.8/",
        "http://example.org:8080",
        "https://[2606:4700::1111]/",
        "http://localhost/",
    ],
)
def test_a_public_address_and_any_name_pass_at_the_door(url: str) -> None:
    check_url(url)


def test_one_private_address_among_several_is_enough() -> None:
    assert check_addresses(["8.8.8.8", "2606:4700::1111", "8.8.8.8"]) == ["8.8.8.8", "2606:4700::1111"]
    with pytest.raises(Forbidden, match=r"10\.0\.0\.1"):
        check_addresses(["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Forbidden):
        check_addresses([])


def test_networks_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "WEBHOOK_ALLOWED_NETWORKS", ["10.0.0.0/8", "fd00::/16"])
    assert check_addresses(["10.0.0.1", "fd00::1", "::ffff:10.0.0.1"]) == ["10.0.0.1", "fd00::1"]
    check_url("http://10.0.0.1/")
    with pytest.raises(Forbidden):
        check_url("http://192.168.0.1/")
