"""Losses of the first steps of every kind of training are what they were before, to the bit."""

import golden


def test_losses_are_as_before() -> None:
    expected = golden.values("losses")
    found = golden.losses()
    assert found.keys() == expected.keys()
    assert {name: steps for name, steps in found.items() if steps != expected[name]} == {}
    first = [steps[0]["loss"] for steps in found.values()]
    assert len(set(first)) == len(first), "two kinds of training are one"
