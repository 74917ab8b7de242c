import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intff.errors import NotationError
from intff.notation import Layer, Notation, parse, parse_layer, write

WIDTHS = st.integers(1, 10**9)
SMALL = st.integers(1, 64)


def _convolution(channels: int, **fields: Any) -> dict[str, Any]:
    plain = {"kernel": [3, 3], "stride": 1, "padding": "same", "batch_norm": True}
    return {"kind": "conv", "channels": channels, **plain, **fields}


POOL: dict[str, Any] = {"kind": "max_pool", "size": 2}
ATTENTION: dict[str, Any] = {"kind": "attention", "heads": 4}
LAYERS: st.SearchStrategy[Layer] = st.one_of(
    WIDTHS,
    st.builds(
        _convolution,
        WIDTHS,
        kernel=st.lists(SMALL, min_size=2, max_size=2),
        stride=SMALL,
        padding=st.sampled_from(["same", "valid"]),
        batch_norm=st.booleans(),
    ),
    st.builds(lambda size: {"kind": "max_pool", "size": size}, SMALL),
    st.builds(lambda heads: {"kind": "attention", "heads": heads}, SMALL),
)
UNITS = st.lists(st.lists(LAYERS, min_size=1, max_size=4), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("784,(100,50),(30,10)", Notation(784, ((100, 50), (30, 10)), last_is_bare=False)),
        ("(784,(100,50),(30,10))", Notation(784, ((100, 50), (30, 10)), last_is_bare=False)),
        ("784,100,50", Notation(784, ((100,), (50,)), last_is_bare=True)),
        ("(784,100,50)", Notation(784, ((100,), (50,)), last_is_bare=True)),
        ("784,(100),50", Notation(784, ((100,), (50,)), last_is_bare=True)),
        ("784,100,(50)", Notation(784, ((100,), (50,)), last_is_bare=False)),
        (" 784 , ( 100 , 50 ) ,\n10 ", Notation(784, ((100, 50), (10,)), last_is_bare=True)),
    ],
)
def test_parentheses_group_and_bare_numbers_stand_alone(text: str, read: Notation) -> None:
    assert parse(text) == read


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", ",", "784", "(784)", "784,", ",784", "784,,10", "784,()", "784,(10", "784,10)", "784,(10,)"],
        *["(784,10),(5)", "784,((10))", "((784,10))", "784,(10)(5)", "784,(10)5", "784;10", "784,-5", "784,1.5"],
        *["784,1e3", "784,0x10", "784,²", "784,٣", "784,\0", "784,ten", "(", ")", "()", ")(", "784,32C", "784,C3"],
        *["784,32C(3)x", "784,P", "784,A", "784,P(2,2)", "784,32c3", "784,32C3/", "784,32C(3,)", "784,32C(3,3,3)"],
        *["784,32C3pv", "784,A4v", "784,P2/2", "784,32 C3", "784,((32C3))", "P2,32C3", "32C3,P2", "A4", "784,-2C3"],
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(NotationError, match="784,"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("200", 200),
        ("32C3", _convolution(32)),
        ("32C(5,3)", _convolution(32, kernel=[5, 3])),
        ("32C4/2", _convolution(32, kernel=[4, 4], stride=2)),
        ("32C3v", _convolution(32, padding="valid")),
        ("32C3p", _convolution(32, batch_norm=False)),
        (" 32C( 5 , 3 )/2vp ", _convolution(32, kernel=[5, 3], stride=2, padding="valid", batch_norm=False)),
        ("P2", POOL),
        ("A4", ATTENTION),
    ],
)
def test_a_layer_is_a_number_of_neurons_or_says_its_kind(text: str, layer: Layer) -> None:
    assert parse_layer(text) == layer
    assert parse(f"784,({text})") == Notation(784, ((layer,),), last_is_bare=False)


@pytest.mark.parametrize(
    "text", ["", " ", "x", "32C", "P", "200,50", "(200)", "P2 A4", "32C3,P2", "2" * 13, "9" * 10**6]
)
def test_what_is_no_layer_is_refused_with_examples(text: str) -> None:
    with pytest.raises(NotationError, match=r"a layer looks like 200, 32C3, 32C\(5,3\)/2, P2 or A4"):
        parse_layer(text)


@pytest.mark.parametrize(
    ("text", "units", "last_is_bare"),
    [
        ("784,32C3,P2,64C3,P2,10", ((_convolution(32), POOL), (_convolution(64), POOL), (10,)), True),
        ("784,(32C3,50),P2", ((_convolution(32), 50, POOL),), True),
        ("784,32C3,P2,P2", ((_convolution(32), POOL, POOL),), True),
        ("784,32C3,(P2,50)", ((_convolution(32),), (POOL, 50)), False),
        ("784,32C3,A4,P2", ((_convolution(32),), (ATTENTION, POOL)), True),
        ("784,P2,50", ((POOL,), (50,)), True),
    ],
)
def test_bare_pooling_belongs_to_the_unit_before_it(
    text: str, units: tuple[tuple[Layer, ...], ...], last_is_bare: bool
) -> None:
    assert parse(text) == Notation(784, units, last_is_bare=last_is_bare)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "784,(32C)",
            "at '(32C)' in '784,(32C)'; an architecture looks like 784,(200,200,200),(50,50) or 784,(32C3,P2),",
        ),
        ("784,20,x5", "expected a width such as 200 or a hidden unit such as (50,50) at 'x5' in '784,20,x5'"),
        ("784,20,", "at 'the end' in '784,20,'"),
        ("784,20x5,10", "expected a comma at 'x5,10' in '784,20x5,10'"),
        (
            "32C3,10",
            "is the input size and then at least one hidden unit, as in 784,(200,200,200),(50,50); got '32C3,10'",
        ),
    ],
)
def test_the_message_points_at_the_place_and_shows_an_architecture(text: str, says: str) -> None:
    with pytest.raises(NotationError, match=re.escape(says)):
        parse(text)


def test_a_blank_between_digits_is_no_part_of_a_number() -> None:
    """Read as 784,(200200), a forgotten comma would train another network than meant."""
    with pytest.raises(NotationError, match="expected a comma"):
        parse("784,200 200")
    with pytest.raises(NotationError, match="expected a width such as 200 or a hidden unit"):
        parse("784,(200 200)")


def test_an_endless_text_is_refused_unread() -> None:
    with pytest.raises(NotationError, match="at most 2000 characters long, got 4000004"):
        parse("784," + "(9)," * 1_000_000)


@given(WIDTHS, UNITS)
def test_what_is_written_is_read_again(input_size: int, units: list[list[Layer]]) -> None:
    read = parse(write(input_size, units))
    assert read == Notation(input_size, tuple(map(tuple, units)), last_is_bare=False)


@given(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="(),0123456789 \t", max_size=40),
        st.text(alphabet="(),12CPAvp/", max_size=20).map("784,{}".format),
    )
)
def test_no_text_raises_anything_but_a_notation_error(text: str) -> None:
    try:
        read = parse(text)
    except NotationError:
        return
    assert parse(write(read.input_size, read.units)).units == read.units


def test_the_written_form_is_the_papers() -> None:
    assert write(784, [[200, 200, 200], [50, 50]]) == "784,(200,200,200),(50,50)"
    first = [_convolution(32, kernel=[5, 3], stride=2, padding="valid", batch_norm=False), POOL]
    assert write(784, [first, [_convolution(8), ATTENTION]]) == "784,(32C(5,3)/2vp,P2),(8C3,A4)"
