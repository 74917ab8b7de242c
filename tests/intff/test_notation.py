import pytest
from hypothesis import given
from hypothesis import strategies as st

from intff.errors import NotationError
from intff.notation import Notation, parse, write

WIDTHS = st.integers(1, 10**9)
UNITS = st.lists(st.lists(WIDTHS, min_size=1, max_size=4), min_size=1, max_size=5)


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
        *[
            "784,1e3",
            "784,0x10",
            "784,²",
            "784,٣",
            "784,\0",
            "784,ten",
            "(",
            ")",
            "()",
            ")(",
            "784,32C",
            "784,32C(3)x",
            "784,C3",
            "784,P",
            "784,A",
            "P2,32C3",
        ],
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(NotationError, match="784,"):
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
def test_what_is_written_is_read_again(input_size: int, units: list[list[int]]) -> None:
    read = parse(write(input_size, units))
    assert read == Notation(input_size, tuple(map(tuple, units)), last_is_bare=False)


@given(st.one_of(st.text(max_size=40), st.text(alphabet="(),0123456789 \t", max_size=40)))
def test_no_text_raises_anything_but_a_notation_error(text: str) -> None:
    try:
        read = parse(text)
    except NotationError:
        return
    assert parse(write(read.input_size, read.units)).units == read.units


def test_the_written_form_is_the_papers() -> None:
    assert write(784, [[200, 200, 200], [50, 50]]) == "784,(200,200,200),(50,50)"
