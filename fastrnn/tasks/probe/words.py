"""What stands on the pictures, in English and in Japanese, and each cell's name and colour."""

from __future__ import annotations

__all__ = ["COLOURS", "LANGUAGES", "NAMES", "Words"]

NAMES = {"rnn": "Elman", "gru": "GRU", "lstm": "LSTM"}

COLOURS = {"rnn": "#d55e00", "gru": "#00856a", "lstm": "#0072b2"}
"""Of Okabe and Ito's palette, told apart by colour-blind readers too (the green a little darker)."""

LANGUAGES = ("en", "ja")

# No formula ($…$) beside Japanese: a formula's text has one font only and would show boxes. No bold: few
# Japanese fonts have it.
_TEXT = {
    "gradient.title": (
        "How much of the gradient reaches each earlier step",
        "損失の勾配は何ステップ前まで届くか（BPTT）",
    ),
    "gradient.x": ("steps back from the loss", "損失から何ステップ前か"),
    "gradient.y": (r"$\|\partial L/\partial s_t\| \; / \; \|\partial L/\partial s_T\|$",) * 2,
    "gradient.loss": ("loss L", "損失 L"),
    "gradient.init": ("torch's initial weights", "PyTorch の初期値のまま"),
    "gradient.rnn": ("W_hh orthogonal × <value>", "W_hh を直交行列 × <value> に"),
    "gradient.gru": ("bias of the update gate z = <value>", "更新ゲート z のバイアス = <value>"),
    "gradient.lstm": ("bias of the forget gate f = <value>", "忘却ゲート f のバイアス = <value>"),
    "gradient.above": ("drawn above", "上の図"),
    "gradient.note": (
        "Above: the unrolled network; red numbers are the gradient at that step, "
        "1 at the last.   s: the state carried on (h, of an LSTM c).   "
        "<hidden> units, <seeds> seeds, inputs N(0, <inputs>²), untrained.",
        "上：展開したネットワーク。赤い数はその時刻での勾配の大きさ（最後を 1 とする）。   "
        "s：次へ渡す状態（h、LSTM では c）。   <hidden> ユニット、乱数種 <seeds> 個、入力 N(0, <inputs>²)、学習前。",
    ),
    "memory.title": ("How long is a bit remembered?", "1 ビットをどれだけ長く覚えていられるか"),
    "memory.mixed": (
        "learned with distances of 0 to <longest>, mixed",
        "距離 0〜<longest> を混ぜて学習",
    ),
    "memory.single": ("learned with one distance only, a net for each", "距離ごとに別のネットワークを学習"),
    "memory.x": ("steps between the bit and the question", "覚えてから問われるまでのステップ数"),
    "memory.y": ("share of bits recalled", "正しく思い出せた割合"),
    "memory.chance": ("guessing", "あてずっぽう"),
    "memory.open": ("<cell>, gate open (bias <bias>)", "<cell>（ゲートのバイアス <bias>）"),
    "memory.note": (
        "One bit of a random sequence is marked; the last state must tell it. <hidden> units, <updates> updates of "
        "<batch> sequences, AdamW <lr>. Thick: mean over <seeds> seeds; thin: each seed.",
        "ランダムなビット列の 1 つに印をつけ、最後の状態から答える。<hidden> ユニット、<batch> 列 × <updates> 回の更新、"
        "AdamW <lr>。太線：乱数種 <seeds> 個の平均、細線：それぞれ。",
    ),
}


class Words:
    """The texts in one language: `words(key, name=value, …)`, values standing in the place of `<name>`."""

    def __init__(self, language: str) -> None:
        column = LANGUAGES.index(language)
        self._texts = {key: texts[column] for key, texts in _TEXT.items()}

    def __call__(self, key: str, **values: object) -> str:
        text = self._texts[key]
        for name, value in values.items():
            text = text.replace(f"<{name}>", str(value))
        return text

    def all(self) -> str:
        """Every text, for the choice of a font."""
        return "".join(self._texts.values())
