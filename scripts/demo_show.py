"""What ./demo shows: the run's events as lines, and the end as a table."""

import sys

BARS = " ▏▎▍▌▋▊▉█"


def bar(share, width):
    share = min(1.0, max(0.0, share))
    full, rest = divmod(int(share * width * 8), 8)
    text = "█" * full + (BARS[rest] if full < width else "")
    return text.ljust(width, "·")


def size(count):
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000


class Screen:
    """Lines for a person: with colours and one line that is drawn over on a terminal, plain otherwise."""

    def __init__(self, stream=None, quiet=False):
        self.stream, self.quiet = stream or sys.stdout, quiet
        self.live = self.stream.isatty() and not quiet
        self.drawn = False

    def paint(self, text, code):
        return f"\x1b[{code}m{text}\x1b[0m" if self.live else text

    def status(self, text):
        """Drawn over by what comes next; nothing where lines can't be drawn over."""
        if self.live:
            self.stream.write(f"\r\x1b[K{self.paint(text, 2)}")
            self.stream.flush()
            self.drawn = True

    def line(self, text=""):
        if self.quiet:
            return
        if self.drawn:
            self.stream.write("\r\x1b[K")
            self.drawn = False
        self.stream.write(text + "\n")
        self.stream.flush()

    def title(self, text):
        self.line(self.paint(text, 1))

    def mark(self, text, colour):
        self.line(self.paint("● ", colour) + text)

    def epoch(self, number, epochs, view):
        """One epoch of the whole swarm: the bar is the accuracy on the test images."""
        accuracy = view["accuracy"]
        left = f"epoch {number:>{len(str(epochs))}}/{epochs}"
        self.line(f"{left} {self.paint(bar(accuracy, 24), 32)} {accuracy:6.1%}  loss {view['loss']:.3f}  "
                  f"{view['peers']} peers  {view['speed']:>6,.0f} samples/s  {size(view['bytes_sent']):>8} averaged")
