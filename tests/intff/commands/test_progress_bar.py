from io import StringIO

from intff.commands.progress_bar import TrainingBar


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_away_from_a_terminal_an_epoch_is_one_line() -> None:
    stream = StringIO()
    with TrainingBar(stream) as bar:
        bar.say("1,300 images")
        bar.update(epoch=1, epochs=2, fraction=0.25, samples_per_second=1000, eta_seconds=9)
        bar.update(
            epoch=1, epochs=2, fraction=0.5, samples_per_second=12345.6, eta_seconds=61, validation_accuracy=0.91239
        )
        bar.update(epoch=1, epochs=2, fraction=0.5, validation_accuracy=0.91239)
        bar.update(epoch=2, epochs=2, fraction=1.0, eta_seconds=3661, validation_accuracy=0.95)
    assert stream.getvalue().splitlines() == [
        "1,300 images",
        "epoch 1/2  validation 91.24%  12,346 images/s  1:01 left",
        "epoch 2/2  validation 95.00%  12,346 images/s  1:01:01 left",
    ]


def test_away_from_a_terminal_a_long_run_is_twenty_lines() -> None:
    stream = StringIO()
    with TrainingBar(stream) as bar:
        for epoch in range(1, 201):
            bar.update(epoch=epoch, epochs=200, fraction=epoch / 200, validation_accuracy=0.5)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[-1] == "epoch 200/200  validation 50.00%"


def test_on_a_terminal_the_bar_moves() -> None:
    stream = _Terminal()
    with TrainingBar(stream) as bar:
        bar.update(epoch=1, epochs=2, fraction=0.5, samples_per_second=1000, eta_seconds=9, validation_accuracy=0.875)
    shown = stream.getvalue()
    for part in ("epoch 1/2", "50 %", "validation 87.50%", "1,000 images/s", "0:09 left"):
        assert part in shown


def test_a_sentence_is_shown_as_it_is_and_on_one_line() -> None:
    sentence = f"files in /data/[bold]mnist{'/deeper' * 30}, 50 parameters"
    stream = StringIO()
    TrainingBar(stream).say(sentence)
    assert stream.getvalue() == f"{sentence}\n"
