"""How good a call sounds, from loss and delay: the E-model's R factor and the MOS that follows from it. Pure.

Sources. R: ITU-T G.107 with every parameter at its default except delay and loss, so that Ro - Is is 93.2 (clause 7.7).
Loss: its effective equipment impairment Ie,eff with burst ratio. Delay: the two straight lines that Cole and Rosenbluth
("Voice over IP performance monitoring", SIGCOMM CCR 31(2), 2001) put in the place of Idd; they hold without echo. MOS:
G.107 annex B. Codecs: G.113 appendix I. No echo, no noise and no advantage factor are in it: it says what the network
did to a call, not what a person would say of it.

    R   = 93.2 - Id - Ie,eff                      Id = 0.024 d + 0.11 max(0, d - 177.3)         d: ms, mouth to ear
    Ie,eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl)                                         Ppl: percent
    MOS = 1 + 0.035 R + 7e-6 R (R - 60) (100 - R)
"""

from __future__ import annotations

from dataclasses import dataclass

R_BEST = 93.2
R_MOST = 100.0
MOS_WORST = 1.0
MOS_BEST = 4.5


@dataclass(frozen=True)
class Codec:
    """What a codec costs without loss (`ie`) and how well it stands loss (`bpl`, percent; higher is better)."""

    ie: float
    bpl: float


# G.711 with packet loss concealment (G.711 appendix I), and without. Loss is taken to be random; bursts come in by
# BurstR.
G711 = Codec(ie=0.0, bpl=25.1)
G711_BARE = Codec(ie=0.0, bpl=4.3)


def r_factor(*, delay_ms: float, loss_pct: float, burst_r: float = 1.0, codec: Codec = G711) -> float:
    """The transmission rating, 0 (worst) to 93.2.

    Args:
        delay_ms: one way, mouth to ear, with the jitter buffer.
        loss_pct: packets that were not played, lost or too late, 0 to 100.
        burst_r: mean length of the bursts of loss over that of random loss of the same rate; below 1 counts as 1.
        codec: its impairment.
    """
    delay = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - 177.3)
    effective = codec.ie + (95.0 - codec.ie) * loss_pct / (loss_pct / max(1.0, burst_r) + codec.bpl)
    return max(R_BEST - delay - effective, 0.0)


def mos_of(r: float) -> float:
    """The mean opinion score of a rating, 1 (bad) to 4.5: people's average vote on a scale to 5 (annex B)."""
    if r <= 0.0:
        return MOS_WORST
    if r >= R_MOST:
        return MOS_BEST
    # The cubic dips a little below 1 for ratings under 6.5.
    return max(MOS_WORST, 1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r))
