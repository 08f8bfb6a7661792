# SPDX-License-Identifier: Apache-2.0
import pytest

from testbed.sizes import GIB, MIB, format_size, parse_size


@pytest.mark.parametrize("text, size", [("0", 0), ("512", 512), ("512M", 512 * MIB), ("1GiB", GIB), ("1.5 g", 3 * GIB // 2),
                                        ("4B", 4), ("2kib", 2048)])
def test_parse(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1X", "GiB", "1 2"])
def test_parse_refuses(text):
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize("size, text", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * GIB, "3.0 GiB")])
def test_format(size, text):
    assert format_size(size) == text
