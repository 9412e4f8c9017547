"""The texts that are spoken: for training drawn from small grammars and word lists, for measuring written out.

No held-out sentence can come out of the grammars, and the demo's two are in neither. Mandarin is written as pinyin with
tone numbers, which is what espeak-ng's `cmn-latn-pinyin` reads.
"""

import random
from collections.abc import Iterator

_GRAMMARS = {
    "en": (
        "my grandmother|the old captain|our neighbour|a young fisherman|her brother|the village choir|this photograph"
        "|your daughter|the church organist|every visitor|the jolly baker|the whole family|a tiny bluebird",
        "remembers|describes|watched|painted|carried home|never forgot|was looking for|often visits|finally found"
        "|sang about|would love to see|both measured and mapped|has brought back|wrote a long letter about",
        "the yellow boat|a warm summer evening|the garden behind the house|five thousand sheep|her favourite recipe"
        "|that beautiful voice|the bridge over the river|an azure vase|the measure of joy|some chocolate and cheese"
        "|the old wooden piano|our first television|both of the twins|a pair of very large shoes",
        "on the way to school|before the war|during the wedding|just for you|with great pleasure|in the month of May"
        "|when the weather was rough|by the fire|under the thick fog|every Thursday|at half past four"
        "|and laughed out loud",
    ),
    "fr": (
        "ma grand-mère|le vieux pêcheur|notre voisine|un jeune homme|sa petite soeur|le choeur du village|cette photo"
        "|votre fille|le boulanger|chaque visiteur|mon oncle Julien|toute la famille|un petit oiseau bleu|la reine",
        "se souvient de|regardait|a peint|rapporte toujours|n'a jamais oublié|cherche encore|visite souvent"
        "|a enfin trouvé|chantait pour|voudrait revoir|nous a montré|écrivait une lettre sur",
        "la maison jaune|une belle soirée d'été|le jardin derrière l'église|cinq cents moutons|sa recette préférée"
        "|cette voix merveilleuse|le pont sur la rivière|un vase bleu|le bonheur de vivre|du pain et du fromage"
        "|le vieux piano|une feuille de papier|les deux jumeaux|la lune au-dessus du village|un peu de vin blanc",
        "avant la guerre|pendant le mariage|avec un grand plaisir|au mois de juin|quand il pleuvait beaucoup"
        "|près du feu|tous les jeudis|à quatre heures et demie|sur le chemin de l'école|et riait aux éclats"
        "|chaque nuit",
    ),
    "zh": (
        "wo3 nai3 nai5|lao3 ye2 ye5|wo3 men5 de5 lin2 ju1|yi2 ge4 nian2 qing1 ren2|ta1 de5 ge1 ge5"
        "|cun1 li3 de5 hai2 zi5|ni3 de5 nü3 er2|mei3 ge4 ke4 ren2|wo3 jiu4 jiu5|quan2 jia1 ren2"
        "|na4 zhi1 xiao3 niao3|wang2 lao3 shi1",
        "xiang3 qi3|kan4 jian4 le5|hua4 guo4|dai4 hui2 le5|cong2 lai2 mei2 wang4 ji4|yi4 zhi2 zai4 zhao3"
        "|chang2 chang2 can1 guan1|zhong1 yu2 zhao3 dao4|zai4 chang4|hen3 xi3 huan1|xie3 xin4 shuo1|ting1 shuo1 guo4",
        "huang2 se4 de5 chuan2|xia4 tian1 de5 wan3 shang5|fang2 zi5 hou4 mian4 de5 hua1 yuan2|wu3 qian1 zhi1 yang2"
        "|zui4 xi3 huan1 de5 cai4|na4 ge4 hao3 ting1 de5 sheng1 yin1|he2 shang4 de5 qiao2|yi4 ping2 jiu3"
        "|bao1 zi5 he2 jiao3 zi5|jiu4 gang1 qin2|di4 yi1 tai2 dian4 shi4|yi4 shuang1 da4 xie2"
        "|yue4 liang5 he2 xing1 xing5",
        "zai4 qu4 xue2 xiao4 de5 lu4 shang5|zhan4 zheng1 yi3 qian2|hun1 li3 de5 shi2 hou5|hen3 gao1 xing4|wu3 yue4 fen4"
        "|xia4 yu3 de5 shi2 hou5|zai4 huo3 lu2 bian1|mei3 ge4 xing1 qi1 si4|xia4 wu3 si4 dian3 ban4|zui4 hou4 yi2 ci4",
    ),
}

# Words in no order at all: they bring together sounds that the grammars never do.
_WORDS = {
    "en": """able about above afraid again alive already always amber angry answer anybody apple April arrive ask asleep
        bamboo basket bath bead behave below beneath big birth blanket blue boil bookshop both bowl boy breathe bubble
        build bush buy cage calm camel cave chair cheap child choose cloud coffee cold collar cousin crowd cup curtain
        dance deep delight dig doubt dream dust each early earth easy edge eight empty enjoy evening eye fable far
        father feather few field finger fish flower foam fool four fruit full garage gather ghost girl give glove go
        goose guess half happy harbour have hear heavy help hill hope huge hurry ice idea inch island jacket jam jewel
        judge jump June keep kitchen knee know lake lamp leave leg lion listen long look love lunch machine magic many
        map marble meadow mild mirror moon mother mouth move much music narrow near never new noise north now number
        oak obey ocean oil one orange other ought owl page palm pearl pebble people pile pleasure plum pocket poor pull
        purple push quick quiet rabbit rain reach ring road roof rose ruby run sand save sea search shadow shore short
        shy silver sing six sky smooth soap soft song sour spoon spring stove street sugar sure swim table taste tea
        teeth ten thank thaw thin third thousand throw thumb tiger today tooth touch tower toy tree true turn two
        umbrella under urge use usual valley value vanish very village violin visit vote wait walk warm wash watch water
        wave weave west wheat which whisper wide window wish wolf wonder wood worth yard year yes young zero zoo""",
    "fr": """abeille accord adieu agneau aider ailleurs air aimer allumer ami ampoule ancien arbre argent assez
        attendre aube aujourd'hui autre avion bague bain balai banc barbe bateau beau beurre bientôt bijou
        blanc boire boîte bon bouche bouger bruit brun cadeau cage campagne canard carte cave ceinture cent
        cerise chaise chambre chanson chat chaud chemin cheval chez chien chou ciel cinq clé clou coeur coin
        colline combien côte couleur courir cousin crayon cuisine dame danser début dehors demain dent deux
        dimanche dire dix doigt dormir doux droit eau école écouter emmener enfant ensemble entendre escalier
        essayer étoile étude fable facile faim farine femme fenêtre fête fier fleuve foin fond fort foule
        frais frère froid fumée gagner gant gâteau gauche genou gens girafe goût grand grenouille gris haricot
        hier hiver homme huile huit humide île image immeuble ivoire jambe janvier jeu joie joli jouer jour
        juin juste lait lampe langue lapin large léger lent lever libre lieu loin long loup lourd lumière
        lundi main maison manger marcher matin mauve meilleur mer mettre miel mille moins mouche mouton mur
        nager neige neuf noeud nom nuage nuit oeil oeuf ombre onze orage oreille ouvrir paille peau pêche
        peindre pencher penser petit peur peut-être phare pied pluie plume poisson pomme porte pouce poule
        puis quai quand queue quinze rêve rien rire rond rouge route ruban sable sage saison samedi sang sapin
        savon seau sept seul sifflet soie soleil sombre souris sucre sur table tante tasse temps terre tête
        thé tomber train travail triste trop trouver tuile usine vache valise vent vers vieux vingt visage
        vite voeu voile voisin voix vrai yeux zèbre""",
}

# Mandarin's syllables: every initial with its finals.
_SYLLABLES = {
    "b": "a o ai ei ao an en ang eng i ie iao ian in ing u",
    "p": "a o ai ei ao ou an en ang eng i ie iao ian in ing u",
    "m": "a o e ai ei ao ou an en ang eng i ie iao iu ian in ing u",
    "f": "a o ei ou an en ang eng u",
    "d": "a e ai ei ao ou an ang eng ong i ie iao iu ian ing u uo ui uan un",
    "t": "a e ai ao ou an ang eng ong i ie iao ian ing u uo ui uan un",
    "n": "a e ai ei ao an en ang eng ong i ie iao iu ian in iang ing u uo uan ü üe",
    "l": "a e ai ei ao ou an ang eng ong i ie iao iu ian in iang ing u uo uan un ü üe",
    "g": "a e ai ei ao ou an en ang eng ong u ua uo uai ui uan un uang",
    "k": "a e ai ao ou an en ang eng ong u ua uo uai ui uan un uang",
    "h": "a e ai ei ao ou an en ang eng ong u ua uo uai ui uan un uang",
    "j": "i ia ie iao iu ian in iang ing iong u ue uan un",
    "q": "i ia ie iao iu ian in iang ing iong u ue uan un",
    "x": "i ia ie iao iu ian in iang ing iong u ue uan un",
    "zh": "i a e ai ao ou an en ang eng ong u ua uo ui uan un uang",
    "ch": "i a e ai ao ou an en ang eng ong u uo uai ui uan un uang",
    "sh": "i a e ai ei ao ou an en ang eng u ua uo uai ui uan un uang",
    "r": "i e ao ou an en ang eng ong u uo ui uan un",
    "z": "i a e ai ei ao ou an en ang eng ong u uo ui uan un",
    "c": "i a e ai ao ou an en ang eng ong u uo ui uan un",
    "s": "i a e ai ao ou an en ang eng ong u uo ui uan un",
    "y": "a ao ou an ang ong i in ing u ue uan un",
    "w": "u a o ai ei an en ang eng",
    "": "a e ai ao ou an en er",
}

# Sentences that are only measured, never trained on.
HELD_OUT = {
    "en": (
        "We moved to the coast three winters ago.",
        "Could you please turn down the radio?",
        "The doctor smiled and shook his head.",
        "Nobody believed the story about the whale.",
        "Grandfather built this clock with his own hands.",
        "She speaks softly, but everyone listens.",
        "Put the kettle on, I am nearly there.",
        "There were eleven of us round the dinner table.",
        "He waved goodbye from the back of the bus.",
        "What a lovely surprise to hear from you!",
    ),
    "fr": (
        "Nous avons déménagé il y a trois hivers.",
        "Pourriez-vous baisser un peu la musique ?",
        "Le médecin sourit et secoua la tête.",
        "Personne ne croyait cette histoire de baleine.",
        "Elle parle tout bas, mais on l'écoute.",
        "Je vous embrasse et je pense à vous.",
        "Il nous faisait signe depuis le quai de la gare.",
        "Quelle bonne surprise de vous entendre !",
        "On était onze autour de la grande table.",
        "Mets de l'eau à chauffer, j'arrive bientôt.",
    ),
    "zh": (
        "san1 nian2 qian2 wo3 men5 ban1 dao4 le5 hai3 bian1.",
        "qing3 ni3 ba3 shou1 yin1 ji1 guan1 xiao3 yi4 dian3.",
        "yi1 sheng1 xiao4 zhe5 yao2 le5 yao2 tou2.",
        "mei2 you3 ren2 xiang1 xin4 zhe4 ge4 gu4 shi5.",
        "wai4 gong1 zi4 ji3 zuo4 le5 zhe4 ge4 zhong1.",
        "ta1 shuo1 hua4 hen3 qing1, ke3 shi4 da4 jia1 dou1 ting1.",
        "xian1 shao1 shui3, wo3 ma3 shang4 jiu4 dao4.",
        "wan3 fan4 de5 shi2 hou5 zuo4 le5 shi2 yi1 ge4 ren2.",
        "neng2 ting1 dao4 ni3 de5 xiao1 xi5 zhen1 hao3.",
        "wo3 ai4 ni3, zao3 dian3 hui2 jia1 chi1 fan4.",
        "ming2 tian1 yao4 qu4 yi1 yuan4 kan4 peng2 you5.",
        "hai2 zi5 men5 zai4 yuan4 zi5 li3 pao3 bu4.",
    ),
}

# The demo's voices: neither trained on nor among the golden clips.
DEMO_EN = "Happy birthday, my dear! We are all thinking of you, and we hope to see you soon."
DEMO_ZH = "qin1 ai4 de5 ma1 ma5, xin1 nian2 kuai4 le4! wo3 men5 dou1 hen3 xiang3 ni3."


def syllables() -> tuple[str, ...]:
    """All pinyin syllables, without tones."""
    return tuple(initial + final for initial, finals in _SYLLABLES.items() for final in finals.split())


def sentences(language: str, rng: random.Random) -> Iterator[str]:
    """Endless distinct sentences to train on: from the grammar and from loose words in turn."""
    columns = [column.split("|") for column in _GRAMMARS[language]]
    words = syllables() if language == "zh" else _WORDS[language].split()
    said: set[str] = set()
    while True:
        if len(said) % 2:
            sentence = " ".join(rng.choice(column) for column in columns)
        elif language == "zh":
            sentence = " ".join(f"{rng.choice(words)}{rng.randint(1, 4)}" for _ in range(rng.randint(8, 14)))
        else:
            sentence = " ".join(rng.choice(words) for _ in range(rng.randint(5, 9)))
        if sentence not in said:
            said.add(sentence)
            yield sentence + "."
