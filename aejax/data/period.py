"""The period of a series: a peak of its spectrum that its autocorrelation confirms."""

from __future__ import annotations

import numpy as np

# Points of a series that decide: more tell no more, and a transform takes memory.
MOST_POINTS = 1 << 16
# A period is seen at least so often, and has so many points.
LEAST_PERIODS, LEAST_LENGTH = 3, 4
# Peaks of the spectrum that are tried, from the highest on.
PEAKS = 10
# Of the highest autocorrelation.
MUCH_THE_SAME = 0.9
# Of windows: where there is no period, at least, and at most.
USUAL_LENGTH, LEAST_WINDOW, MOST_LENGTH = 64, 32, 1024
# Of the autocorrelation at a period: below, what repeats is noise.
LEAST_CORRELATION = 0.2


def period_of(points: np.ndarray) -> int | None:
    """How many points after which a series repeats, or None where it doesn't.

    The periodogram proposes and the autocorrelation decides, as it has a maximum at a true period
    and none beside it (Vlachos, Yu and Castelli, "On periodicity detection and structural
    periodic similarity", SDM 2005). Of several whose autocorrelations are much the same the
    shortest is taken: twice a period is another. Channels vote with their standardised values.

    Args:
        points: numbers [n, channels], in order and evenly spaced; the longest run of a series.
    """
    x = points[:MOST_POINTS].astype(np.float64)
    count = len(x)
    if count < LEAST_PERIODS * LEAST_LENGTH:
        return None
    # A trend would be the longest period of all.
    place = np.linspace(-1, 1, count)[:, None]
    x = x - x.mean(axis=0)
    x = x - place * (place * x).sum(axis=0) / (place**2).sum()
    spread = x.std(axis=0)
    x = x[:, spread > 1e-9 * np.maximum(np.abs(points[:count]).max(axis=0), 1e-30)]
    if not x.shape[1]:
        return None
    x /= x.std(axis=0)
    size = 1 << (2 * count - 1).bit_length()
    power = (np.abs(np.fft.rfft(x, size, axis=0)) ** 2).sum(axis=1)
    correlation = np.fft.irfft(power, size)[:count] / (x.shape[1] * (count - np.arange(count)))
    spectrum = (np.abs(np.fft.rfft(x, axis=0)) ** 2).sum(axis=1)
    longest = count // LEAST_PERIODS
    frequencies = np.arange(len(spectrum))
    allowed = (frequencies >= LEAST_PERIODS) & (frequencies <= count // LEAST_LENGTH)
    spectrum[~allowed] = 0
    periods: dict[int, float] = {}
    for frequency in np.argsort(-spectrum, kind="stable")[:PEAKS].tolist():
        if not spectrum[frequency]:
            break
        # The lags that this bin of the spectrum stands for.
        low = max(int(count / (frequency + 1)), 2)
        high = min(int(np.ceil(count / max(frequency - 1, 1))), longest)
        if high <= low:
            continue
        lag = low + int(np.argmax(correlation[low : high + 1]))
        inside = 1 < lag < count - 1
        peak = inside and correlation[lag] >= max(correlation[lag - 1], correlation[lag + 1])
        if peak and lag >= LEAST_LENGTH and correlation[lag] > LEAST_CORRELATION:
            periods[lag] = float(correlation[lag])
    if not periods:
        return None
    return min(lag for lag, one in periods.items() if one >= MUCH_THE_SAME * max(periods.values()))


def length_of(period: int | None) -> int:
    """Points in a window of a series: a period, or several short ones."""
    if period is None:
        return USUAL_LENGTH
    return min(period * -(-LEAST_WINDOW // period), MOST_LENGTH)
