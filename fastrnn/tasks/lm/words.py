"""The words of the built-in Japanese text: nouns with their counters and verbs, heroes, places, adverbs, verb forms."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLOSED", "CONDITIONALS", "HEROES", "MOODS", "NOUNS", "PARTS", "PLACES", "THEN", "Kind", "Verb"]

MOODS = ("past", "future", "never", "perhaps", "because")


@dataclass(frozen=True)
class Verb:
    """A verb by its forms: dictionary (食べる), past (食べた), negated (食べない) and polite stem (食べ)."""

    plain: str
    past: str
    negated: str
    stem: str

    def form(self, style: str, mood: str) -> str:
        """The end of a sentence in this verb, as tokens."""
        polite = style == "polite"
        return {
            "past": f"{self.stem} まし た 。" if polite else f"{self.past} 。",
            "future": f"{self.stem} ます 。" if polite else f"{self.plain} つもり だ 。",
            "never": f"{self.stem} ませ ん 。" if polite else f"{self.negated} 。",
            "perhaps": f"{self.plain} でしょう 。" if polite else f"{self.plain} だろう 。",
            "because": f"{self.past} から です 。" if polite else f"{self.past} から だ 。",
        }[mood]


def _verbs(text: str) -> list[Verb]:
    return [Verb(*line.split("/")) for line in text.split()]


@dataclass(frozen=True)
class Kind:
    """Nouns of one kind, and what agrees with them: counter, verbs of which they are the object (or none),
    adjectives, clauses about them (after 誰か が いつ), the verb of being."""

    nouns: str
    counter: str
    adjectives: str
    clauses: str
    exists: str = "ある"
    exists_politely: str = "あり ます"
    weight: float = 1.0
    verbs: tuple[Verb, ...] = ()


NOUNS = {
    "animal": Kind(
        "犬 猫 鼠 狐 狸 兎 猿 蛙 亀 栗鼠 鯉 金魚 蜻蛉 蝶 蟹", "匹", "小さな 白い 賢い 臆病な 毛深い 腹ぺこの",
        "追いかけ た|拾っ て き た|可愛がっ て いる", "いる", "い ます", 1.2,
        tuple(_verbs(
            "飼う/飼った/飼わない/飼い 追う/追った/追わない/追い 撫でる/撫でた/撫でない/撫で "
            "助ける/助けた/助けない/助け"
        )),
    ),
    "book": Kind(
        "本 辞書 雑誌 日記 小説 詩集 図鑑 絵本 教科書 写真集", "冊", "古い 分厚い 難しい 珍しい 面白い 破れた",
        "図書館 で 借り た|机 に 忘れ た|夜 通し 書い た", weight=1.5,
        verbs=tuple(_verbs(
            "読む/読んだ/読まない/読み 借りる/借りた/借りない/借り 書く/書いた/書かない/書き "
            "返す/返した/返さない/返し 開く/開いた/開かない/開き"
        )),
    ),
    "paper": Kind(
        "手紙 切符 写真 葉書 地図 皿 毛布 板 布 切手", "枚", "薄い 四角い 汚れた 青い 新しい 綺麗な",
        "箱 に しまっ た|窓 から 落とし た|友達 に 見せ た", weight=1.2,
        verbs=tuple(_verbs(
            "配る/配った/配らない/配り 破る/破った/破らない/破り 集める/集めた/集めない/集め "
            "並べる/並べた/並べない/並べ"
        )),
    ),
    "long": Kind(
        "鉛筆 傘 杖 花 木 釘 紐 刀 筆 大根 人参", "本", "長い 細い 曲がった 丈夫な 赤い 折れた",
        "庭 に 植え た|玄関 に 置い た|市場 で 見つけ た", weight=1.1,
        verbs=tuple(_verbs(
            "折る/折った/折らない/折り 拾う/拾った/拾わない/拾い 運ぶ/運んだ/運ばない/運び "
            "切る/切った/切らない/切り"
        )),
    ),
    "machine": Kind(
        "車 自転車 時計 電話 機械 舟 冷蔵庫 扇風機 望遠鏡", "台", "速い 重い 便利な 壊れた 高価な 静かな",
        "工場 で 作っ た|去年 まで 使っ た|安く 譲っ た", weight=1.0,
        verbs=tuple(_verbs(
            "直す/直した/直さない/直し 壊す/壊した/壊さない/壊し 売る/売った/売らない/売り "
            "動かす/動かした/動かさない/動かし"
        )),
    ),
    "round": Kind(
        "林檎 卵 蜜柑 石 饅頭 玉葱 鞄 箱 電球 西瓜", "個", "丸い 甘い 固い 大きな 腐った 光る",
        "籠 に 入れ た|弟 に やっ た|坂道 で 転がし た", weight=1.4,
        verbs=tuple(_verbs(
            "食べる/食べた/食べない/食べ 投げる/投げた/投げない/投げ "
            "隠す/隠した/隠さない/隠し 洗う/洗った/洗わない/洗い 盗む/盗んだ/盗まない/盗み"
        )),
    ),
    "drink": Kind(
        "お茶 牛乳 珈琲 水 酒 味噌汁 蜂蜜湯 紅茶", "杯", "熱い 冷たい 苦い 濃い ぬるい",
        "台所 で 沸かし た|客 に 出し た|こぼし た", weight=1.1,
        verbs=tuple(_verbs(
            "飲む/飲んだ/飲まない/飲み 注ぐ/注いだ/注がない/注ぎ 温める/温めた/温めない/温め "
            "断る/断った/断らない/断り"
        )),
    ),
    "building": Kind(
        "家 店 小屋 寺 旅館 銭湯 倉庫 茶屋", "軒", "立派な 狭い 暗い 懐かしい 有名な",
        "生まれ た|三年 住ん だ|火事 で 失っ た",
    ),
    "people": Kind(
        "子供 学生 客 旅人 大工 兵隊 詩人 巡査 漁師", "人", "若い 親切な 無口な 疲れた 陽気な",
        "駅 で 見かけ た|名前 を 知ら ない|長く 待っ て いる", "いる", "い ます", 1.0,
        tuple(_verbs(
            "呼ぶ/呼んだ/呼ばない/呼び 待つ/待った/待たない/待ち 笑う/笑った/笑わない/笑い "
            "招く/招いた/招かない/招き"
        )),
    ),
}  # fmt: skip
"""Kind to its words. Nouns, counters, verbs and clauses of a kind go together, and only together."""

HEROES = {
    "吾輩": "human", "太郎": "human", "花子": "human", "先生": "human", "隊長": "human", "祖母": "human",
    "黒猫": "beast", "白熊": "beast", "子狐": "beast", "老犬": "beast",
}  # fmt: skip
"""Who a document is about, and what can be said of such a one."""

PLACES = ("駅前", "公園", "学校", "海辺", "山奥", "横丁", "港", "村")

PARTS = {
    "human": ("声 顔 話 心 歩き方 財布", "立派 愉快 気の毒 静か 正直 にぎやか 空っぽ"),
    "beast": ("尻尾 毛並 耳 足跡 鳴き声 牙", "見事 真っ白 ふさふさ 泥だらけ かすか 自慢"),
}
"""Parts of a hero and what they can be; both depend on its kind."""

CLOSED = {
    "PAST": "昨日 先週 去年 さっき おととい 昔 ゆうべ 先月 子供の頃",
    "FUTURE": "明日 来週 来年 あさって 今度 今夜 来月 いつか 休みの日に",
    "NEVER": "決して 少しも 二度と 全然 めったに",
    "PERHAPS": "たぶん きっと おそらく さぞ まず",
    "QUESTION": "いったい はたして なぜ どうして",
    "DEGREE": "とても かなり 少し いつも 本当に 意外に 相変わらず 世界一",
    "NUMBER": "二 三 一 四 五 六 七 八 九 十",
    "MANY": "たくさん いくつも 何百と 山ほど",
    "WHEN": "今朝 前に 毎晩 雨の中 こっそり 急いで 一人で 冬の間",
    "PERSON": "友達 隣人 校長 兄 姉 医者 床屋 王様 泥棒 博士 八百屋 車掌 画家",
    "RELATIVE": "弟 妹 娘 息子 母 父 従兄弟",
    "MANNER": "静かに ゆっくり 急に 楽しそうに 黙って 必死に こっそりと 何度も 朝から 泣きながら",
}
"""Symbol to its words, the commonest first."""

CONDITIONALS = "働いたら 転んだら 眠ったら 歌ったら 迷ったら 勝ったら 遅れたら 出会ったら"

THEN = [
    (3, {"plain": "会う だろう 。", "polite": "会う でしょう 。"}),
    (2, {"plain": "謝る はず だ 。", "polite": "謝る はず です 。"}),
    (2, {"plain": "知らせ て ほしい 。", "polite": "知らせ て ください 。"}),
    (1, {"plain": "礼 を 言う に 違い ない 。", "polite": "礼 を 言う に 違い あり ませ ん 。"}),
]
"""What follows a condition."""
