import numpy as np

from intff.pictures import to_text


def test_two_rows_of_pixels_make_a_line() -> None:
    image = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], np.float32)
    assert to_text(image) == " ▀▄█"


def test_an_odd_last_row_stands_alone() -> None:
    assert to_text(np.ones((3, 2), np.float32)) == "██\n▀▀"


def test_a_digit_takes_fourteen_lines() -> None:
    lines = to_text(np.zeros((28, 28), np.float32)).split("\n")
    assert [len(line) for line in lines] == [28] * 14
