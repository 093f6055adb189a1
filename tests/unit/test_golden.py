"""Losses of the first steps of every kind of training are what they were before, to the bit."""

import golden


def test_losses_are_as_before() -> None:
    expected = golden.values("losses")
    found = golden.losses()
    assert expected.keys() <= found.keys()  # a platform that was not at hand since lacks the newest kinds
    assert {name: steps for name, steps in expected.items() if steps != found[name]} == {}
    first = [steps[0]["loss"] for steps in found.values()]
    assert len(set(first)) == len(first), "two kinds of training are one"
