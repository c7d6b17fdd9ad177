"""Fonts: a plot's characters are all drawn, or the user is told what to install."""

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

import matplotlib
from matplotlib.figure import Figure

from fastrnn.tasks import plots
from fastrnn.tasks.errors import UserError


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(plots, "FONT_PACKAGES", ())
    manager = plots.font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [font for font in manager.ttflist if font.name.startswith("DejaVu")])


def test_plain_text_takes_the_default_font(no_fonts):
    with plots.fonts_for("gradient ∂L/∂h → 0, été"):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans"]


def test_characters_no_font_has_are_named_with_what_to_install(no_fonts):
    with pytest.raises(UserError, match="no font here has the characters 勾配: pip install matplotlib-fontja"):
        plots.fonts_for("勾配 gradient 勾")


def test_a_font_with_every_character_is_found_and_the_setting_ends_with_the_block(recwarn):
    try:
        context = plots.fonts_for("勾配が消える")
    except UserError as error:
        pytest.skip(str(error))
    before = matplotlib.rcParams["font.family"]
    with context:
        figure = Figure()
        figure.suptitle("勾配が消える gradient")
        data = plots.picture(figure)
    assert matplotlib.rcParams["font.family"] == before
    assert data.startswith(b"\x89PNG") and not [w for w in recwarn if "Glyph" in str(w.message)]


def test_pictures_are_the_same_bytes_each_time():
    def draw():
        figure = Figure(figsize=(1, 1))
        figure.add_subplot().plot([0, 1])
        return plots.picture(figure, "svg")

    assert draw() == draw() and draw().startswith(b"<?xml")
