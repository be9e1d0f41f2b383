"""The words of the built-in pair: English and German, with the forms that the grammar needs.

One entry a line. Nouns: singular, plural : singular, gender, plural, and the singular of the other cases
where it has its own. Verbs: base, third person, past : infinitive (a bar after a separable prefix), third
person, participle, auxiliary (h or s), then what they go with. ``_`` stands for a blank.
"""

PERSONS = """
farmer farmers : Bauer m Bauern Bauern
teacher teachers : Lehrer m Lehrer
child children : Kind n Kinder
woman women : Frau f Frauen
man men : Mann m Männer
boy boys : Junge m Jungen Jungen
girl girls : Mädchen n Mädchen
doctor doctors : Arzt m Ärzte
king kings : König m Könige
queen queens : Königin f Königinnen
student students : Student m Studenten Studenten
neighbour neighbours : Nachbar m Nachbarn Nachbarn
friend friends : Freund m Freunde
sister sisters : Schwester f Schwestern
brother brothers : Bruder m Brüder
mother mothers : Mutter f Mütter
grandfather grandfathers : Großvater m Großväter
artist artists : Künstler m Künstler
baker bakers : Bäcker m Bäcker
waitress waitresses : Kellnerin f Kellnerinnen
soldier soldiers : Soldat m Soldaten Soldaten
"""
ANIMALS = """
dog dogs : Hund m Hunde
cat cats : Katze f Katzen
horse horses : Pferd n Pferde
bird birds : Vogel m Vögel
cow cows : Kuh f Kühe
mouse mice : Maus f Mäuse
hare hares : Hase m Hasen Hasen
bear bears : Bär m Bären Bären
duck ducks : Ente f Enten
pig pigs : Schwein n Schweine
fox foxes : Fuchs m Füchse
"""
THINGS = """
book books : Buch n Bücher
letter letters : Brief m Briefe
key keys : Schlüssel m Schlüssel
ball balls : Ball m Bälle
bag bags : Tasche f Taschen
lamp lamps : Lampe f Lampen
cup cups : Tasse f Tassen
picture pictures : Bild n Bilder
chair chairs : Stuhl m Stühle
table tables : Tisch m Tische
knife knives : Messer n Messer
hat hats : Hut m Hüte
coat coats : Mantel m Mäntel
shirt shirts : Hemd n Hemden
newspaper newspapers : Zeitung f Zeitungen
umbrella umbrellas : Regenschirm m Regenschirme
flower flowers : Blume f Blumen
box boxes : Kiste f Kisten
clock clocks : Uhr f Uhren
ring rings : Ring m Ringe
"""
FOODS = """
apple apples : Apfel m Äpfel
egg eggs : Ei n Eier
cake cakes : Kuchen m Kuchen
pear pears : Birne f Birnen
carrot carrots : Karotte f Karotten
potato potatoes : Kartoffel f Kartoffeln
nut nuts : Nuss f Nüsse
"""
PLACES = """
house houses : Haus n Häuser
garden gardens : Garten m Gärten
school schools : Schule f Schulen
city cities : Stadt f Städte
village villages : Dorf n Dörfer
forest forests : Wald m Wälder
kitchen kitchens : Küche f Küchen
church churches : Kirche f Kirchen
park parks : Park m Parks
room rooms : Zimmer n Zimmer
castle castles : Schloss n Schlösser
shop shops : Laden m Läden
museum museums : Museum n Museen
library libraries : Bibliothek f Bibliotheken
cellar cellars : Keller m Keller
"""
VEHICLES = """
car cars : Auto n Autos
bicycle bicycles : Fahrrad n Fahrräder
boat boats : Boot n Boote
train trains : Zug m Züge
"""

MODIFIERS = {
    "garden": "Garten",
    "kitchen": "Küchen",
    "school": "Schul",
    "city": "Stadt",
    "village": "Dorf",
    "forest": "Wald",
    "castle": "Schloss",
}
"""First parts of compounds: garden chair is Gartenstuhl."""
COMPOUNDED = {
    "teacher", "child", "artist", "baker", "dog", "cat", "bird", "mouse", "book", "key", "lamp", "picture",
    "chair", "table", "knife", "newspaper", "flower", "clock", "potato", "church", "park", "room", "shop",
    "library",
}  # fmt: skip
"""Second parts."""

TRANSITIVE = """
see sees saw : sehen sieht gesehen h person animal thing place vehicle
find finds found : finden findet gefunden h person animal thing food vehicle
buy buys bought : kaufen kauft gekauft h animal thing food vehicle
sell sells sold : verkaufen verkauft verkauft h animal thing food vehicle
love loves loved : lieben liebt geliebt h person animal
visit visits visited : besuchen besucht besucht h person place
paint paints painted : malen malt gemalt h person animal thing place
clean cleans cleaned : putzen putzt geputzt h place vehicle
carry carries carried : tragen trägt getragen h thing food
lose loses lost : verlieren verliert verloren h thing
steal steals stole : stehlen stiehlt gestohlen h thing vehicle food
forget forgets forgot : vergessen vergisst vergessen h person thing
call calls called : an|rufen ruft angerufen h person
invite invites invited : ein|laden lädt eingeladen h person
watch watches watched : beobachten beobachtet beobachtet h person animal
hear hears heard : hören hört gehört h person animal
know knows knew : kennen kennt gekannt h person place
repair repairs repaired : reparieren repariert repariert h vehicle
need needs needed : brauchen braucht gebraucht h thing vehicle
wash washes washed : waschen wäscht gewaschen h vehicle animal
draw draws drew : zeichnen zeichnet gezeichnet h person animal place
hide hides hid : verstecken versteckt versteckt h thing food
"""
ANIMAL_TRANSITIVE = """
see sees saw : sehen sieht gesehen h person animal food
find finds found : finden findet gefunden h person animal food
hear hears heard : hören hört gehört h person animal
steal steals stole : stehlen stiehlt gestohlen h food
watch watches watched : beobachten beobachtet beobachtet h person animal
bite bites bit : beißen beißt gebissen h person animal
"""
EAT = "eat eats ate : essen isst gegessen h food"
FEED = "eat eats ate : fressen frisst gefressen h food"
"""German has a verb for people and one for animals."""
DATIVE = """
help helps helped : helfen hilft geholfen h person
thank thanks thanked : danken dankt gedankt h person
follow follows followed : folgen folgt gefolgt s person animal
trust trusts trusted : vertrauen vertraut vertraut h person
"""
GIVING = """
give gives gave : geben gibt gegeben h thing food
show shows showed : zeigen zeigt gezeigt h thing animal
send sends sent : schicken schickt geschickt h thing
bring brings brought : bringen bringt gebracht h thing food
lend lends lent : leihen leiht geliehen h thing vehicle
"""
INTRANSITIVE = """
sleep sleeps slept : schlafen schläft geschlafen h animal
wait waits waited : warten wartet gewartet h animal
play plays played : spielen spielt gespielt h animal
laugh laughs laughed : lachen lacht gelacht h
dance dances danced : tanzen tanzt getanzt h
sing sings sang : singen singt gesungen h
work works worked : arbeiten arbeitet gearbeitet h
arrive arrives arrived : an|kommen kommt angekommen s
fall_asleep falls_asleep fell_asleep : ein|schlafen schläft eingeschlafen s animal
wake_up wakes_up woke_up : auf|wachen wacht aufgewacht s animal
"""
MOTION = """
go goes went : gehen geht gegangen s
run runs ran : laufen läuft gelaufen s animal
come comes came : kommen kommt gekommen s animal
ride rides rode : reiten reitet geritten s
"""
SAYING = """
say says said : sagen sagt gesagt h
know knows knew : wissen weiß gewusst h
believe believes believed : glauben glaubt geglaubt h
hope hopes hoped : hoffen hofft gehofft h
"""
IDIOMS = """
turn_over_a_new_leaf turns_over_a_new_leaf turned_over_a_new_leaf : an|fangen fängt angefangen h ein_neues_Leben
get_cold_feet gets_cold_feet got_cold_feet : bekommen bekommt bekommen h kalte_Füße
buy_a_pig_in_a_poke buys_a_pig_in_a_poke bought_a_pig_in_a_poke : kaufen kauft gekauft h die_Katze_im_Sack
kick_the_bucket kicks_the_bucket kicked_the_bucket : ab|geben gibt abgegeben h den_Löffel
pull_my_leg pulls_my_leg pulled_my_leg : nehmen nimmt genommen h mich_auf_den_Arm
sleep_like_a_log sleeps_like_a_log slept_like_a_log : schlafen schläft geschlafen h wie_ein_Murmeltier
spill_the_beans spills_the_beans spilled_the_beans : aus|plaudern plaudert ausgeplaudert h alles
"""  # noqa: E501

ADJECTIVES = """
old alt person animal thing place vehicle
young jung person animal
small klein person animal thing food place vehicle
big groß animal thing food place vehicle
red rot thing food vehicle
green grün thing food vehicle
white weiß animal thing
black schwarz animal thing
new neu thing place vehicle
beautiful schön person animal thing place vehicle
expensive teuer thing food vehicle
heavy schwer thing vehicle
strong stark person animal
happy glücklich person
hungry hungrig person animal
tired müde person animal
clever klug person animal
lazy faul person animal
famous berühmt person place
strange seltsam person animal thing place
friendly freundlich person
dangerous gefährlich animal
cold kalt food place
quiet ruhig person place
light leicht thing vehicle
light hell place
"""
"""With what they go with; light is leicht or hell, as it goes."""

PAST = {"yesterday": "gestern", "last week": "letzte Woche", "an hour ago": "vor einer Stunde"}
PRESENT = {"today": "heute", "now": "jetzt", "every day": "jeden Tag"}
FUTURE = {"tomorrow": "morgen", "soon": "bald", "next year": "nächstes Jahr"}
