import pytest

from ballonet.model.units import GIB, MIB, SizeError, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GiB", 16 * GIB), ("16G", 16 * GIB), ("1.5 GiB", 3 * GIB // 2), ("512m", 512 * MIB), ("0", 0), ("7b", 7)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """Sizes are read as people write them."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "16X", "1,5G", "1e9", "16 G B"])
def test_bad_sizes_are_refused_with_a_hint(text: str) -> None:
    """What is no size is refused, with an example of one."""
    with pytest.raises(SizeError, match="GiB"):
        parse_size(text)


def test_sizes_are_shown_short() -> None:
    """Sizes are shown with at most three digits, sign kept."""
    assert [format_size(n) for n in (0, 3 * GIB // 2, -512 * MIB)] == ["0 B", "1.5 GiB", "-512 MiB"]
