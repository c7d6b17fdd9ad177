"""What stands on the pictures, in English and in Japanese, and each cell's name and colour."""

from __future__ import annotations

__all__ = ["COLOURS", "EQUATIONS", "LANGUAGES", "NAMES", "SUMS", "Words"]

NAMES = {"rnn": "Elman", "gru": "GRU", "lstm": "LSTM"}

COLOURS = {"rnn": "#d55e00", "gru": "#00856a", "lstm": "#0072b2"}
"""Of Okabe and Ito's palette, told apart by colour-blind readers too (the green a little darker)."""

EQUATIONS = {
    "rnn": r"$h_t = \tanh(W x_t + U h_{t-1} + b)$",
    "gru": r"$h_t = z_t h_{t-1} + (1 - z_t)\, n_t$",
    "lstm": r"$c_t = f_t c_{t-1} + i_t g_t, \quad h_t = o_t \tanh c_t$",
}

SUMS = {
    "rnn": r"$h_t = 0 \cdot h_{t-1} + \tanh(\ldots)$",
    "gru": r"$h_t = \sum_k \, (\prod_{j=k+1}^{t} z_j) \, (1 - z_k) \, n_k$",
    "lstm": r"$c_t = \sum_k \, (\prod_{j=k+1}^{t} f_j) \, i_k \, g_k$",
}
"""What a cell carries on, written out as a sum over the steps."""

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
        "ランダムなビット列の 1 つに印をつけ、最後の状態から答える。<hidden> ユニット、<batch> 列 × <updates> 回の"
        "更新、AdamW <lr>。太線：乱数種 <seeds> 個の平均、細線：それぞれ。",
    ),
    "gates.title": ("What the gates do while the net reads", "文を読むあいだのゲートと状態"),
    "gates.i": ("input gate", "入力ゲート"),
    "gates.f": ("forget gate", "忘却ゲート"),
    "gates.o": ("output gate", "出力ゲート"),
    "gates.g": ("candidate", "候補"),
    "gates.c": ("cell state", "セル状態"),
    "gates.r": ("reset gate", "リセットゲート"),
    "gates.z": ("update gate", "更新ゲート"),
    "gates.n": ("candidate", "候補"),
    "gates.h": ("state", "状態"),
    "gates.rnn": (
        "no gate: the whole state is\nwritten anew at each step",
        "ゲートなし：毎ステップ\n状態をすべて書き直す",
    ),
    "gates.gru": ("no output gate:\nthe state is what it gives out", "出力ゲートなし：\n状態がそのまま出力になる"),
    "gates.note": (
        "A row is a unit: <units> of them, the slowest on top. Gates: white 0 (shut), black 1 "
        "(open). States: blue negative, red positive. ^: the start.",
        "1 行が 1 ユニット：<units> 個を、ゆっくり変わる順に上から。ゲートは白 0（閉）〜黒 1（開）、"
        "状態は青が負、赤が正。^ は文頭。",
    ),
    "sum.title": ("The state as a sum of what each step added", "状態は各ステップで加えたものの和"),
    "sum.x": ("time t", "時刻 t"),
    "sum.y": ("added at step k", "ステップ k で加えたもの"),
    "sum.share": ("share of the state at t", "時刻 t の状態に占める割合"),
    "sum.rnn": ("nothing is carried over as a sum", "和として残るものはない"),
    "sum.unit": ("unit <unit> after the last character: <value>", "ユニット <unit>、文末での値：<value>"),
    "sum.running": ("running sum", "累積和"),
    "sum.note": (
        "Above: |what step k added and is left at t|, summed over the units, by column in shares. Below: the unit that "
        "carries most from earlier steps. Sum against state: largest error <error>.",
        "上：ステップ k で加え、t に残っている量（絶対値のユニット和、列ごとの割合）。"
        "下：過去から最も多く持ち越すユニット。和と状態の差は最大 <error>。",
    ),
    "packing.title": ("What padding costs, and packing saves", "パディングの無駄と、詰めて計算する効果"),
    "packing.shuffled": ("shuffled, padded:\n<share> % is padding", "無作為な順、パディング：\n<share>% が無駄"),
    "packing.alike": ("like lengths together, padded:\n<share> % is padding", "近い長さを集める：\n<share>% が無駄"),
    "packing.packed": (
        "packed: no padding; numbers:\nbatch_sizes, rows of a step",
        "詰めたもの（packed）：\n数は各時刻の行数 batch_sizes",
    ),
    "packing.x": ("step", "時刻"),
    "packing.y": ("names of a batch", "バッチの名前"),
    "packing.padded.bar": ("padded", "パディング"),
    "packing.packed.bar": ("packed", "packed"),
    "packing.equal.bar": ("equal lengths", "同じ長さ"),
    "packing.cost": ("<cell> <hidden>, forward and back", "<cell> <hidden>、順方向と逆方向"),
    "packing.time": ("µs a character", "1 文字あたり µs"),
    "packing.note": (
        "Built-in names, batches of <batch>, CPU threads: <threads>. Times: of shuffled batches, "
        "for each real character. Shares: over all batches.",
        "組み込みの名前、バッチ <batch>、CPU スレッド <threads>。時間は無作為な順のバッチでの実際の 1 文字あたり。"
        "割合は全バッチでのもの。",
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
