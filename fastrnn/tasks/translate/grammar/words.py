"""The dictionary: who, what, where, when, what like and does what, Japanese beside English.

The tables are text: entries stand apart by space, their fields by |, and _ is a space in English.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.tasks.translate.grammar.forms import Adjective, Noun, Tense, Verb

__all__ = ["ADJECTIVES", "FRAMES", "JOBS", "NUMBERS", "OTHERS", "PLACES", "POSITIONS", "PRONOUNS", "SKILLS", "THINGS",
           "TIMES", "TRANSPORT", "WEATHER", "Frame", "Person", "Place", "Time"]  # fmt: skip


class Person(NamedTuple):
    ja: str
    en: str
    person: str = "3"  # 1, 2, 3 or p, for agreement
    them: str = ""  # as an object, where it differs
    their: str = ""  # as a possessor
    again: str = ""  # when mentioned a second time: he, she

    @property
    def object(self) -> str:
        return self.them or self.en

    @property
    def possessive(self) -> str:
        return self.their or self.en + ("'" if self.en.endswith("s") else "'s")


class Place(NamedTuple):
    ja: str
    en: str
    at: str = "at"  # the preposition of being there


class Time(NamedTuple):
    ja: str
    en: str
    tense: Tense


class Frame(NamedTuple):
    """A verb and what it goes with: the kind of its object (or ""), and the kind of place it happens at (or "")."""

    verb: Verb
    things: str
    places: str


def _entries(text: str) -> list[list[str]]:
    return [entry.replace("_", " ").split("|") for entry in text.split()]


PRONOUNS = [Person(*entry) for entry in _entries("""
    私|I|1|me|my あなた|you|2|you|your 彼|he|3|him|his 彼女|she|3|her|her 私たち|we|p|us|our 彼ら|they|p|them|their
""")]  # fmt: skip

OTHERS = [Person(*entry) for entry in _entries("""
    トム|Tom|3|||he メアリー|Mary|3|||she 健|Ken|3|||he 花子|Hanako|3|||she 田中さん|Mr._Tanaka|3|||he
    山田さん|Ms._Yamada|3|||she 父|my_father|3|||he 母|my_mother|3|||she 兄|my_older_brother|3|||he
    姉|my_older_sister|3|||she 弟|my_younger_brother|3|||he 妹|my_younger_sister|3|||she 祖母|my_grandmother|3|||she
    祖父|my_grandfather|3|||he 先生|the_teacher 医者|the_doctor 学生たち|the_students|p|||they
    子供たち|the_children|p|||they 友達|my_friend おじ|my_uncle|3|||he おば|my_aunt|3|||she 隣の人|my_neighbor
    あの人|that_person この子|this_child 女の子|the_girl|3|||she 男の子|the_boy|3|||he
""")]  # fmt: skip

_THINGS = {
    "food": """パン|bread||m りんご|apple|個 魚|fish|匹 肉|meat||m 卵|egg|個 ご飯|rice||m みかん|orange|個
        ケーキ|cake|個 サンドイッチ|sandwich|個 スープ|soup||m""",
    "raw": "魚|fish|匹 肉|meat||m 卵|egg|個 野菜|vegetable",
    "dish": """ケーキ|cake|個 サンドイッチ|sandwich|個 スープ|soup||m パン|bread||m おにぎり|rice_ball|個
        サラダ|salad||m""",
    "drink": "水|water||m お茶|tea||m コーヒー|coffee||m 牛乳|milk||m ジュース|juice||m ワイン|wine||m",
    "text": "本|book|冊 手紙|letter|通 雑誌|magazine|冊 新聞|newspaper|部 小説|novel|冊 日記|diary|冊 詩|poem",
    "writing": "本|book|冊 手紙|letter|通 小説|novel|冊 日記|diary|冊 詩|poem 記事|article",
    "show": "映画|movie|本 試合|game テレビ|television||m 劇|play",
    "picture": "写真|picture|枚 絵|painting|枚 地図|map|枚",
    "ware": """傘|umbrella|本 帽子|hat かばん|bag 鉛筆|pencil|本 切符|ticket|枚 皿|plate|枚 自転車|bicycle|台
        車|car|台 時計|clock 椅子|chair|脚 箱|box|箱 花|flower|本 カメラ|camera|台 辞書|dictionary|冊 地図|map|枚
        ナイフ|knife|本 シャツ|shirt|枚""",
    "washed": "皿|plate|枚 シャツ|shirt|枚 車|car|台 自転車|bicycle|台 帽子|hat",
    "door": "ドア|door 窓|window 箱|box|箱 かばん|bag",
    "room": "部屋|room 台所|kitchen 教室|classroom 家|house",
    "song": "歌|song",
    "sound": "歌|song 音楽|music||m 鳥の声|bird_song||m",
    "instrument": "ピアノ|piano ギター|guitar バイオリン|violin",
    "subject": "英語|English||m 日本語|Japanese||m 数学|math||m 歴史|history||m 音楽|music||m 科学|science||m",
    "animal": "犬|dog|匹 猫|cat|匹 鳥|bird|羽 馬|horse|頭 うさぎ|rabbit|羽",
}  # fmt: skip
THINGS = {
    kind: [Noun(ja, en, field[0] if field else "", "m" in field) for ja, en, *field in _entries(text)]
    for kind, text in _THINGS.items()
}
"""Kind of thing to its nouns: (Japanese, English, counter, mass or not)."""

_PLACES = {
    "quiet": "図書館|the_library 家|home 学校|school 部屋|the_room|in 大学|the_university 庭|the_garden|in",
    "meal": "レストラン|the_restaurant 家|home 学校|school 台所|the_kitchen|in 公園|the_park|in ホテル|the_hotel",
    "shop": "店|the_store 駅|the_station 町|town|in 市場|the_market 東京|Tokyo|in",
    "out": "公園|the_park|in 庭|the_garden|in 海|the_beach 山|the_mountains|in 学校|school",
    "water": "海|the_sea|in 川|the_river|in プール|the_pool|in",
    "work": "病院|the_hospital 会社|the_office 大学|the_university 店|the_store 東京|Tokyo|in 工場|the_factory",
    "goal": """図書館|the_library 学校|school 駅|the_station 公園|the_park 病院|the_hospital 海|the_beach 東京|Tokyo
        京都|Kyoto 山|the_mountains 会社|the_office レストラン|the_restaurant アメリカ|America 大阪|Osaka
        店|the_store""",
    "live": "東京|Tokyo|in 京都|Kyoto|in 田舎|the_country|in 大阪|Osaka|in この町|this_town|in アメリカ|America|in",
}  # fmt: skip
PLACES = {kind: [Place(*entry) for entry in _entries(text)] for kind, text in _PLACES.items()}

_FRAMES = """
    食べる|1|eat|ate|eaten|food|meal 飲む|5|drink|drank|drunk|drink|meal 読む|5|read|read|read|text|quiet
    書く|5|write|wrote|written|writing|quiet 見る|1|watch|||show|quiet 見る|1|look_at|||picture|quiet
    買う|5|buy|bought|bought|ware|shop 買う|5|buy|bought|bought|food|shop 売る|5|sell|sold|sold|ware|shop
    作る|5|make|made|made|dish|meal 使う|5|use|||ware| 洗う|5|wash|||washed| 探す|5|look_for|||ware|shop
    見つける|1|find|found|found|ware|out 開ける|1|open|||door| 閉める|1|close|||door| 掃除する|0|clean|||room|
    歌う|5|sing|sang|sung|song|out 聞く|5|listen_to|||sound|quiet 習う|5|learn|||subject|quiet
    勉強する|0|study|||subject|quiet 教える|1|teach|taught|taught|subject|work 飼う|5|keep|kept|kept|animal|
    料理する|0|cook|||raw|meal 運ぶ|5|carry|||ware| 忘れる|1|forget|forgot|forgotten|ware|
    泳ぐ|5|swim|swam|swum||water 走る|5|run|ran|run||out 歩く|5|walk|||| 散歩する|0|take_a_walk|took|taken||out
    働く|5|work||||work 遊ぶ|5|play||||out 休む|5|rest||||quiet 寝る|1|sleep|slept|slept||quiet
    待つ|5|wait||||shop 笑う|5|laugh|||| 泣く|5|cry|||| 起きる|1|get_up|got|gotten|| 話す|5|talk||||meal
    踊る|5|dance||||out 座る|5|sit_down|sat|sat|| 急ぐ|5|hurry|||| 弾く|5|play|||instrument|quiet
"""
FRAMES = [
    Frame(Verb(ja, int(kind), en, past, participle), things, places)
    for ja, kind, en, past, participle, things, places in (
        [*entry, ""][:7] for entry in _entries(_FRAMES)
    )
]  # fmt: skip

_ADJECTIVES = {
    "ware": """高い|expensive 安い|cheap 新しい|new 古い|old 大きい|big 小さい|small 重い|heavy 軽い|light
        きれい|beautiful|na 便利|useful|na 珍しい|rare 丈夫|strong|na""",
    "food": "おいしい|delicious 甘い|sweet 辛い|spicy 熱い|hot 冷たい|cold まずい|bad",
    "drink": "おいしい|delicious 甘い|sweet 熱い|hot 冷たい|cold",
    "text": "面白い|interesting 難しい|difficult 短い|short 長い|long 有名|famous|na つまらない|boring",
    "show": "面白い|interesting 有名|famous|na 美しい|beautiful すばらしい|wonderful つまらない|boring",
    "room": "広い|large 狭い|narrow 明るい|bright 暗い|dark 静か|quiet|na きれい|clean|na",
    "animal": "かわいい|cute 賢い|smart 大きい|big 小さい|small 元気|lively|na 速い|fast",
    "picture": "きれい|beautiful|na 古い|old 有名|famous|na 珍しい|rare 小さい|small",
    "writing": "面白い|interesting 難しい|difficult 短い|short 長い|long",
    "dish": "おいしい|delicious 甘い|sweet 辛い|spicy 冷たい|cold",
    "people": """親切|kind|na 若い|young 忙しい|busy 優しい|gentle 有名|famous|na 元気|healthy|na 背が高い|tall
        正直|honest|na 強い|strong 賢い|smart 静か|quiet|na 幸せ|happy|na 病気|sick|na まじめ|serious|na""",
    "state": "忙しい|busy 眠い|sleepy 病気|sick|na 悲しい|sad 若い|young 暇|free|na 幸せ|happy|na",
}  # fmt: skip
ADJECTIVES = {
    kind: [Adjective(ja, en, bool(na)) for ja, en, *na in _entries(text)] for kind, text in _ADJECTIVES.items()
}
"""What an adjective can be said of: a kind of thing, people; `state` is what people may be for a while."""

JOBS = [Noun(ja, en) for ja, en in _entries("""
    先生|teacher 医者|doctor 学生|student 看護師|nurse 歌手|singer 弁護士|lawyer 作家|writer 画家|painter
    警察官|police_officer 運転手|driver 料理人|cook 技師|engineer 農家|farmer
""")]  # fmt: skip

_PAST, _NOW, _SOON = Tense(True), Tense(False), Tense(False, True)
TIMES = [
    Time(ja, en, {"past": _PAST, "now": _NOW, "soon": _SOON}[tense]) for ja, en, tense in _entries("""
    昨日|yesterday|past おととい|the_day_before_yesterday|past 今朝|this_morning|past 昨夜|last_night|past
    先週|last_week|past 去年|last_year|past 三日前に|three_days_ago|past 先月|last_month|past 明日|tomorrow|soon
    あさって|the_day_after_tomorrow|soon 来週|next_week|soon 今夜|tonight|soon 来年|next_year|soon
    今度の日曜日に|next_Sunday|soon 毎日|every_day|now 毎朝|every_morning|now 毎週|every_week|now
    月曜日に|on_Mondays|now 夏に|in_summer|now 朝早く|early_in_the_morning|now 夕食のあとで|after_dinner|now
    土曜日に|on_Saturdays|now
""")
]  # fmt: skip

TRANSPORT = _entries("""
    バスで|by_bus 電車で|by_train 車で|by_car 自転車で|by_bicycle 飛行機で|by_plane 歩いて|on_foot
""")
SKILLS = _entries("""
    泳ぐ|swimming 走る|running 歌う|singing 踊る|dancing 歩く|walking 料理する|cooking 本を読む|reading_books
    写真を撮る|taking_pictures 絵を描く|painting_pictures 山に登る|climbing_mountains 映画を見る|watching_movies
    手紙を書く|writing_letters
""")  # fmt: skip
POSITIONS = _entries("""
    机の上|on_the_desk 箱の中|in_the_box 椅子の下|under_the_chair 木の下|under_the_tree 家の前|in_front_of_the_house
    ドアの後ろ|behind_the_door 部屋の中|in_the_room 駅の近く|near_the_station 門の前|in_front_of_the_gate
    窓のそば|by_the_window 車の中|in_the_car 庭|in_the_garden
""")  # fmt: skip
WEATHER = [
    (ja, Verb(verb, int(kind), en, past))
    for ja, verb, kind, en, past in _entries("""
    雨が|降る|5|rain| 雪が|降る|5|snow| 風が|吹く|5|blow_hard|blew
""")
]
NUMBERS = _entries("""
    一|one 二|two 三|three 四|four 五|five 六|six 七|seven 八|eight 九|nine 十|ten 十一|eleven 十二|twelve
    二十|twenty 三十|thirty 四十|forty 五十|fifty 百|a_hundred
""")  # fmt: skip
