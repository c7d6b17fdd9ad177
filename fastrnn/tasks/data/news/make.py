# ruff: noqa: SIM905   lists of words are easier to read and to write as one string
"""Writes the built-in headlines, train.txt, valid.txt and test.txt beside this file.

    python fastrnn/tasks/data/news/make.py

WRITTEN holds headlines written one by one, GRAMMAR rules that make more of them: a rule is a sentence pattern whose
words in capitals are replaced by a draw from the list of that name, of the category first and then of the shared
ones. Every company, person, product and place of study is invented. Words are shared across the kinds on purpose
(a drug maker's shares are business, its trial is health), so that a single word rarely decides.
"""

import random
from pathlib import Path

SHARED = {
    "CITY": "Lisbon|Nagoya|Toronto|Leeds|Lagos|Santiago|Oslo|Denver|Mumbai|Perth|Krakow|Busan|Austin|Geneva".split("|"),
    "COUNTRY": "Japan|Brazil|Canada|Norway|Kenya|India|Chile|Poland|Australia|Egypt|Korea|Spain|Vietnam".split("|"),
    "DRUGMAKER": "Halvern|Medorix|Castellan Pharma|Nuvane|Orbis Biologics|Pellworth".split("|"),
    "FIRM": "Northgate|Calder & Sons|Tessaro|Blue Ridge Foods|Amberline|Kestrel Air|Foxley|Granite Mutual|Ostermann|"
    "Hartwell Motors|Pacific Loom|Sandbar Hotels|Unity Rail|Merrow Bank|Oakhurst Capital|Veltri".split("|"),
    "GADGETMAKER": "Lumora|Quanta Nine|Pixelhaus|Hexaware|Tinwhistle|Arcadia Labs|Skybolt|Ninefold|Opalite".split("|"),
    "STAR": "Mira Castellane|Dex Moreau|Tomo Hasegawa|Lena Okafor|Jonah Reyes|Priya Valdis|Callum Frost|Ada Lindqvist|"
    "Rafe Delacroix|Suki Amano|Bonnie Hart|Theo Marchetti|Nadia Brandt|Otis Greer".split("|"),
    "STUDIO": "Lantern Pictures|Bright Harbor|Moonfield Studios|Channel Six|Red Kite TV".split("|"),
    "NUMBER": "two|three|four|five|six|seven|eight|nine|ten|a dozen".split("|"),
    "PERCENT": "1.5|2|3|4.2|5|7|8.5|11|14|20|30".split("|"),
    "DAY": "Monday|Tuesday|Wednesday|Thursday|Friday|this week|this month|next year|on Sunday".split("|"),
}

GRAMMAR = {
    "b": {
        "rules": [
            "FIRM shares MOVE PERCENT percent after RESULT",
            "MARKET MOVE as traders await DATA",
            "FIRM to cut NUMBER thousand jobs in CITY",
            "FIRM agrees to buy rival FIRM2 for $PERCENT billion",
            "COUNTRY's central bank HOLDS interest rates DAY",
            "GOODS prices MOVE on WORRY",
            "DRUGMAKER profit MOVES as sales of its best-selling drug slow",
            "Regulator fines FIRM over WRONG",
            "DATA beat forecasts in COUNTRY, currency MOVES",
            "FIRM names new chief executive after WRONG inquiry",
            "GADGETMAKER stock MOVES on weak quarterly outlook",
            "Investors cheer FIRM's plan to spin off its UNIT unit",
            "UPDATE 1-FIRM quarterly profit MOVES, raises dividend",
            "FIRM recalls NUMBER thousand cars over faulty brakes",
            "COUNTRY exports MOVE as currency weakens",
            "STUDIO owner weighs sale as advertising revenue MOVES",
        ],
        "MOVE": "rise|fall|slip|jump|climb|tumble|edge up|slide|surge|ease|drop|rally|dip".split("|"),
        "MOVES": "rises|falls|slips|jumps|climbs|tumbles|edges up|slides|surges|eases|drops|rallies|dips".split("|"),
        "RESULT": "record earnings|a profit warning|the merger talks end|strong holiday sales|weak guidance|"
        "an upgrade by analysts|its bond sale".split("|"),
        "MARKET": "Stocks|Asian shares|European markets|Treasury yields|Bank shares|Emerging market bonds".split("|"),
        "DATA": "jobs data|inflation|retail sales|factory orders|consumer confidence|housing starts|GDP figures|"
        "unemployment claims|wage growth".split("|"),
        "HOLDS": "holds|cuts|raises|keeps|lowers".split("|"),
        "GOODS": "Oil|Gold|Copper|Coffee|Wheat|Natural gas|Petrol|Cocoa".split("|"),
        "WORRY": "supply worries|a stronger dollar|fears of slower growth|export limits|drought in COUNTRY|"
        "easing tensions|rising stockpiles".split("|"),
        "WRONG": "rate rigging|misleading investors|hidden fees|accounting errors|late filings|price fixing|"
        "insider trading".split("|"),
        "UNIT": "insurance|shipping|credit card|grocery|real estate|chemicals|pension".split("|"),
    },
    "t": {
        "rules": [
            "GADGETMAKER unveils DEVICE with FEATURE",
            "GADGETMAKER DEVICE review: FEATURE at a price",
            "BODY spots THING near ORBIT",
            "Security flaw in APP exposes NUMBER million passwords",
            "APP update brings FEATURE to older phones",
            "GADGETMAKER sues rival over DEVICE patents",
            "Leaked photos show GADGETMAKER's next DEVICE",
            "Scientists say THING may have PAST",
            "How to TRICK on your new DEVICE",
            "APP goes down for NUMBER hours, users complain",
            "GADGETMAKER opens its software to developers in COUNTRY",
            "Robots learn to CHORE by watching videos",
            "Rumour: DEVICE delayed until DAY over battery problems",
            "Hackers target APP accounts in COUNTRY",
            "BODY launches satellite to map THING",
            "GADGETMAKER to end support for its old operating system DAY",
        ],
        "DEVICE": "smartwatch|tablet|foldable phone|headset|e-reader|game console|laptop|drone|electric scooter|"
        "smart speaker|camera phone|router".split("|"),
        "FEATURE": "a sharper screen|longer battery life|face unlock|offline maps|wireless charging|a faster chip|"
        "voice control|a fingerprint sensor|parental controls|dark mode".split("|"),
        "BODY": "Space agency|Rover|Orbiting telescope|Amateur astronomer|Probe".split("|"),
        "THING": "a rocky exoplanet|an icy moon|a giant asteroid|ancient river beds|a dwarf galaxy|solar storms|"
        "melting glaciers|a feathered dinosaur|deep sea vents".split("|"),
        "ORBIT": "a distant star|Saturn|the edge of the solar system|Mars|the comet's tail|Jupiter".split("|"),
        "APP": "Chirper|PhotoNest|Mapwise|FileCrate|the Fennec browser|StreamCube|Pocketmail|Gamehall".split("|"),
        "PAST": "held liquid water|formed in pairs|warmed the early Earth|hidden a second core|"
        "outlived its neighbours".split("|"),
        "TRICK": "free up storage|block spam calls|move your photos|turn off tracking|take better night shots|"
        "share a wifi password".split("|"),
        "CHORE": "fold laundry|open doors|sort rubbish|pour tea|tie knots".split("|"),
    },
    "e": {
        "rules": [
            "STAR EVENT with STAR2",
            "STAR to ROLE in SHOW",
            "SHOW season finale recap: PLOT",
            "Box office: SHOW TAKES in opening weekend",
            "STAR talks about FAME and her new album",
            "Watch: STAR performs hit single at the AWARD",
            "STUDIO orders second season of SHOW",
            "AWARD: full list of winners and nominees",
            "STAR cancels tour dates in CITY after illness",
            "Review: SHOW is a GOOD ride",
            "STAR shares first photo of newborn daughter",
            "SHOW trailer: PLOT",
            "STAR apologises for remarks on late night show",
            "STAR's dress steals the red carpet at the AWARD",
            "STUDIO loses star host to rival network",
            "Festival crowd in CITY sings along as STAR returns to stage",
        ],
        "EVENT": "gets married|splits|steps out|dances on stage|spotted at dinner|feuds on social media|"
        "announces duet".split("|"),
        "ROLE": "star|play the villain|make directing debut|guest|return as the detective|sing the theme".split("|"),
        "SHOW": "'Harbour Lights'|'The Glass Orchard'|'Crown of Salt'|'Midnight Freight'|'Paper Moons 2'|'Kingsbridge'|"
        "'Love in Lowercase'|'The Last Ferry'|'Dragon Summer'|'Eleven Doors'|'Sugar Street'".split("|"),
        "PLOT": "a wedding goes wrong|who survived the fire?|the queen returns|a shocking death|old friends meet again|"
        "the twin is revealed|the band breaks up".split("|"),
        "TAKES": "tops rivals|earns $PERCENT million|stumbles|breaks record|fends off newcomers".split("|"),
        "FAME": "fame|heartbreak|motherhood|rehab|growing up on set|life after the band|stage fright".split("|"),
        "AWARD": "Golden Reel awards|Silver Mic awards|Northern Film festival|Teen Picks|Stage and Song gala".split(
            "|"
        ),
        "GOOD": "glorious|messy|tender|loud and funny|forgettable|thrilling|slow but lovely".split("|"),
    },
    "m": {
        "rules": [
            "FOOD may LOWER risk of ILLNESS, study finds",
            "COUNTRY reports NUMBER new cases of ILLNESS",
            "Health officials warn of ILLNESS outbreak in CITY",
            "Vaccine against ILLNESS shows promise in early trial",
            "DRUGMAKER drug slows ILLNESS in late-stage study",
            "HABIT linked to higher risk of ILLNESS",
            "Doctors urge PEOPLE to get tested for ILLNESS",
            "More PEOPLE suffer from ILLNESS, survey shows",
            "Mosquitoes in CITY test positive for virus",
            "Hospital in CITY confirms first case of ILLNESS",
            "Is HABIT bad for PEOPLE? Researchers are not sure",
            "Blood test could spot ILLNESS NUMBER years early",
            "PEOPLE who sleep less face greater ILLNESS risk",
            "Surgeons in COUNTRY transplant lab-grown tissue",
            "Schools close after NUMBER children fall ill with ILLNESS",
            "New guidelines: PEOPLE should avoid HABIT",
        ],
        "FOOD": "Walnuts|Green tea|Yogurt|Olive oil|Red wine|Dark chocolate|Oily fish|Vitamin D|A Mediterranean diet|"
        "Coffee|Aspirin|Daily exercise".split("|"),
        "LOWER": "lower|cut|raise|not reduce|halve".split("|"),
        "ILLNESS": "diabetes|measles|heart disease|dementia|breast cancer|stroke|asthma|flu|cholera|whooping cough|"
        "hepatitis|depression|a tick-borne fever|obesity|malaria|food poisoning".split("|"),
        "HABIT": "Smoking|Skipping breakfast|Sugary drinks|Night shift work|Air pollution|Screen time|Tanning|"
        "Sitting all day|Binge drinking|E-cigarette use".split("|"),
        "PEOPLE": "pregnant women|older adults|teenagers|middle-aged men|infants|nurses|travellers|smokers".split("|"),
    },
}

WRITTEN = {
    "b": """\
Why your mortgage could get dearer before it gets cheaper
The supermarket price war nobody is winning
Hartwell Motors bets on batteries as petrol sales stall
Court clears way for Unity Rail takeover
Dollar pauses for breath after best week since spring
Union calls strike at Kestrel Air over pension changes
Small firms still struggle to borrow, survey says
Merrow Bank to pay back customers charged twice
Tax on online sellers would hurt shoppers, retailers warn
What the trade deal means for sugar farmers
Airline bookings recover but fares stay low
Pension funds turn away from coal
A quiet day on Wall Street ends at a record high
Foxley founder steps down with a warning to the board
Bond traders brace for a summer of auctions
Ostermann wins contract to build port in Chile
Housing market cools as lenders tighten rules
Minimum wage rise would cost jobs, employers' group says
Wheat futures hit the daily limit after the heat wave
Sandbar Hotels files for bankruptcy protection
Is the rally in bank stocks over?
Trade gap narrows as imports of machinery shrink
Calder & Sons says cyber attack cost it a week of sales
Ministers split over budget rules ahead of summit
Granite Mutual profit halves on storm claims
Watchdog to look again at how petrol is priced
Veltri buyers circle as loan deadline nears
Rents outpace wages for the fifth year running
Gold steadies after its sharpest fall in a year
The economist who saw the credit crunch coming
Tessaro to list in Toronto at the low end of the range
Fed minutes hint at slower pace of bond buying
Factory that made a million bicycles shuts its gates
Oakhurst Capital raises stake in tea grower
Shipping rates sink as new vessels leave the yards
Deflation fear grips euro zone policymakers""",
    "t": """\
Your next phone may charge itself from the sun
The tablet that wants to replace your desk
Why the internet slowed down last night
Hexaware patch breaks printers, company admits
Comet hunter finds rock that should not exist
Self-driving bus makes its first mistake
Quanta Nine chip runs cool, at least in the lab
A brief history of the floppy disk
Old game cartridge sells for more than a house
Tinwhistle hands its maps to the public
Fossil hints that birds once had teeth like knives
Eclipse to darken northern skies at breakfast time
How a typo took a search engine offline
Drone delivery grounded by rain and pigeons
Browser makers agree to drop ageing plug-in
Lumora says it fixed the camera bug, users disagree
Telescope mirror arrives after voyage by barge
Password managers compared: which one should you trust?
Engineers print a bridge in one piece
Supernova seen twice through a cosmic lens
Skybolt rocket lands upright, then tips over
Open source volunteers race to mend encryption hole
Regulators question data sharing by PhotoNest app
Meteor shower peaks tonight: where to look
Ninefold cuts price of virtual reality headset
Climate model puts a number on cloud brightness
Study of ant colonies inspires network routing
Fennec browser blocks autoplay at last
Pixelhaus camera app leaves rivals in the dark
Ice core holds air from a million years ago
StreamCube starts to test ads between episodes
Arcadia Labs hires the man who hacked its console
The keyboard refuses to die
Streetlights in Oslo go smart and dim themselves
Solar sail unfurls above the Pacific
Video calls come to Pocketmail""",
    "e": """\
The sequel nobody asked for is a delight
Child star of the eighties found running a bakery
Bonnie Hart on the song she almost threw away
Wizard school drama casts its headmaster
Ten films to see before summer ends
Rapper walks out of interview over question on taxes
Museum shows costumes from beloved space opera
'Kingsbridge' creator promises fewer funerals
Reunion rumours as drummer posts cryptic picture
Late comedian honoured with a bench and a joke
Talent show judge quits live on air
Ada Lindqvist wins the role every actress wanted
A musical about mathematics? It adds up
Boy band announces farewell, again
Callum Frost and his dog top the best dressed list
The scene they cut from 'Crown of Salt'
Actor thanks wrong wife in acceptance speech
Documentary on lost tapes opens festival
Novel about lighthouse keepers heads to the screen
Fans queue overnight for a glimpse of Suki Amano
Pop singer's biography pulled from shops
'Dragon Summer' sinks at the box office
Host confirmed for a night of songs and sequins
Jonah Reyes and Priya Valdis are engaged
The best and worst of this year's halftime show
Soap marks fifty years with a live episode
Guitarist to auction the instrument he smashed
Theo Marchetti swaps comedy for crime
Reality couple welcome a son, name him Pilot
Cannes jury boos, then weeps
Who should play the next secret agent?
Radio legend signs off after four decades
Otis Greer cries at his own premiere
Hollywood tries silent film once more
Nadia Brandt says the kiss was not in the script
Animated owl steals family adventure""",
    "m": """\
Bats carry the virus but do not fall ill
What your fingernails say about your heart
Nurse who treated fever patients is in isolation
A cheaper inhaler passes its first test
Hand washing beats gel, hospital trial suggests
Tick season starts early after mild winter
Autism rates level off after a decade of growth
Doctors divided on the daily aspirin
Peanut patch helps children with allergy
Meningitis scare closes student halls in Leeds
Too much salt, even for the fit
A virtual walk eases pain after surgery
Stem cells restore some sight in mice
Parents underestimate how much sugar children eat
Heat wave fills emergency wards
Antibiotics useless against most coughs, doctors remind patients
Camel trade blamed for spread of respiratory virus
Pollen count hits ten year high
Insulin pill clears a hurdle
Midwives warn of shortage in rural clinics
Screening saves fewer lives than hoped
Gene behind rare childhood blindness identified
E-cigarettes: a way out or a way in?
Measles returns to towns that thought it gone
Short naps sharpen memory in older adults
Salmonella outbreak traced to backyard chickens
The diet that works is the one you keep
Cancer survivors report lasting fatigue
Polio spreads across border despite vaccine drive
Knee operations often no better than exercise
Loneliness as harmful as smoking, researchers claim
Early puberty tied to later health risks
Hospital meals get a failing grade
Brain implant lets paralysed man move his hand
Flu vaccine was a poor match this year
Bedbugs can pass on a parasite, study warns""",
}

PUBLISHERS = ["Morning Ledger", "The Harbour Post", "Daily Beacon", "Northern Wire", "Evening Column"]
PER_CATEGORY = 160
SPLIT = {"train": 0.8, "valid": 0.1, "test": 0.1}


def make(category: str, draw: random.Random) -> str:
    """One headline of `category` by its grammar."""
    rules = GRAMMAR[category]
    lists = {**SHARED, **rules, "FIRM2": SHARED["FIRM"], "STAR2": SHARED["STAR"]}
    text, used = draw.choice(rules["rules"]), set()
    while True:
        name = next((n for n in sorted(lists, key=len, reverse=True) if n.isupper() and n in text), None)
        if name is None:
            return text[0].upper() + text[1:]
        word = draw.choice([word for word in lists[name] if word not in used])
        used.add(word)
        text = text.replace(name, word, 1)


def main() -> None:
    draw = random.Random(0)
    parts: dict[str, list[tuple[str, str]]] = {part: [] for part in SPLIT}
    for category, written in WRITTEN.items():
        titles = dict.fromkeys(written.splitlines())
        while len(titles) < PER_CATEGORY:
            titles[make(category, draw)] = None
        order = list(titles)
        draw.shuffle(order)
        start = 0
        for part, share in SPLIT.items():
            count = round(share * PER_CATEGORY)
            parts[part] += [(title, category) for title in order[start : start + count]]
            start += count
    number = 0
    for part, rows in parts.items():
        draw.shuffle(rows)
        lines = []
        for title, category in rows:
            number += 1
            columns = [str(number), title, f"https://news.example/{number}", draw.choice(PUBLISHERS), category,
                       f"story{number}", "news.example", str(1_700_000_000_000 + 60_000 * number)]  # fmt: skip
            lines.append("\t".join(columns) + "\n")
        Path(__file__).with_name(f"{part}.txt").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
