"""The colours of the classroom's page: words can be read, and roles told apart by eyes that see fewer colours.

Letters and shapes say the same as the colours; this is for whoever looks from the last row.
"""

from __future__ import annotations

import itertools
import re

import pytest

from raftlite.lab.page import static_files

THEMES = ["light", "dark"]
ROLES = ["follower", "candidate", "leader"]

# What people with these deficiencies see of linear red, green and blue (Machado, Oliveira, Fernandes 2009, severity 1).
DEFICIENCIES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


def colours(theme):
    """The variables of a theme, by name."""
    style = static_files()["theme.css"].decode()
    found = {}
    for selector, block in re.findall(r"([^{}]+)\{([^{}]*)\}", style):
        themes = re.findall(r'data-theme="(\w+)"', selector)
        if theme in themes or not themes:
            found.update(re.findall(r"--([\w-]+):\s*(#[0-9a-fA-F]{6})", block))
    return found


def linear(colour):
    values = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]


def luminance(colour):
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """As in WCAG 2.1: 4.5 for words, 3 for large letters and for shapes."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(colour, deficiency):
    """Coordinates in CIELAB of what is seen of a colour."""
    seen = [sum(a * b for a, b in zip(row, linear(colour))) for row in DEFICIENCIES[deficiency]]
    red, green, blue = (min(1.0, max(0.0, value)) for value in seen)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def difference(one, other, deficiency):
    return sum((a - b) ** 2 for a, b in zip(lab(one, deficiency), lab(other, deficiency))) ** 0.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("words", ["ink", "soft", "refused", "granted", "edge-follower", "edge-leader"])
@pytest.mark.parametrize("ground", ["panel", "raised"])
def test_words_can_be_read(theme, words, ground):
    assert contrast(colours(theme)[words], colours(theme)[ground]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("role", ROLES)
def test_letters_in_roles_can_be_read(theme, role):
    assert contrast(colours(theme)[f"on-{role}"], colours(theme)[role]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("edge", ["edge-follower", "edge-candidate", "edge-leader", "stopped", "refused", "granted"])
def test_shapes_stand_out_from_the_ground(theme, edge):
    assert contrast(colours(theme)[edge], colours(theme)["panel"]) >= 3


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("one, other", list(itertools.combinations([*ROLES, "stopped"], 2)))
@pytest.mark.parametrize("theme", THEMES)
def test_roles_differ_for_all_eyes(theme, one, other, deficiency):
    assert difference(colours(theme)[one], colours(theme)[other], deficiency) >= 15


def test_roles_have_the_same_colour_in_both_themes():
    for role in ROLES:
        assert colours("light")[role] == colours("dark")[role]
