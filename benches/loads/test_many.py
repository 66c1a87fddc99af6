"""Tests for pytest that take no time themselves, so that pytest takes it."""

import pytest


@pytest.fixture
def table():
    return {str(number): number for number in range(100)}


@pytest.mark.parametrize("number", range(300))
def test_contains(table, number):
    assert (str(number) in table) == (number < 100)


@pytest.mark.parametrize("number", range(300))
def test_raises(table, number):
    with pytest.raises(KeyError):
        table[number]
