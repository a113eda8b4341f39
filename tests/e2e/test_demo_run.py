"""What ./demo makes of a run's events, without a run."""

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import demo_show
from demo_run import Run


def events(*items):
    return [{"sequence": i + 1, "time": float(time), "kind": kind, "worker": worker, "text": "", "data": data}
            for i, (time, kind, worker, data) in enumerate(items)]


def metrics(epoch, samples, sent, accuracy=0.5):
    return dict(epoch=epoch, loss=1.0, accuracy=accuracy, samples=samples, samples_per_second=10.0, peers=2, bytes_sent=sent)


def test_samples_and_bytes_of_a_killed_attempt_still_count():
    run = Run()
    for event in events((1, "started", 0, {}), (2, "metrics", 0, metrics(1, 100, 10)), (3, "metrics", 0, metrics(2, 200, 20)),
                        (4, "ended", 0, {}), (5, "started", 0, {}), (6, "metrics", 0, metrics(3, 50, 5))):
        run.take(event)
    assert (run.samples(), run.bytes_sent(), run.last) == (250, 25, 6)


def test_a_recovery_is_timed_from_the_kill_to_the_first_round_of_the_replacement():
    run = Run()
    run.take(events((1, "started", 1, {}))[0])
    run.killed = (1, 10.0)
    good, bad = dict(ok=True, peers=4, epoch=7, kind="parameters"), dict(ok=False, peers=1, epoch=7, kind="parameters")
    for event in events((9.9, "round", 1, good), (10.1, "round", 0, good), (10.5, "ended", 1, {}), (12, "started", 1, {}),
                        (13, "round", 0, good), (14, "round", 1, bad), (15, "round", 1, good), (16, "round", 1, good)):
        run.take(event)
    assert (run.noticed, run.restarted, run.contributed) == (0.5, 2.0, 5.0)
    assert run.recovered_after() == 5.0 and run.back_at_epoch == 7


def test_a_run_that_ended_before_the_replacement_averaged_recovered_when_it_ran():
    run = Run()
    run.killed = (1, 10.0)
    for event in events((11, "lost", 1, {}), (12, "started", 1, {})):
        run.take(event)
    assert run.recovered_after() == 2.0


def test_a_screen_that_is_no_terminal_gets_plain_lines():
    stream = io.StringIO()
    screen = demo_show.Screen(stream)
    screen.status("drawn over")
    screen.epoch(3, 40, dict(accuracy=0.5, loss=1.25, peers=4, speed=12345.6, bytes_sent=1_500_000))
    text = stream.getvalue()
    assert text.count("\n") == 1 and "\x1b" not in text and "drawn" not in text
    assert " 3/40" in text and "50.0%" in text and "12,346 samples/s" in text and "1.5 MB" in text


def test_bars_are_as_wide_as_asked():
    for share in (-1, 0, 0.01, 0.5, 0.999, 1, 2):
        assert len(demo_show.bar(share, 24)) == 24
