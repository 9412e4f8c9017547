"""The texts that are spoken: drawn from small grammars, so that a seed gives a corpus and corpora never overlap.

Mandarin is written as pinyin with tone numbers, which is what espeak-ng's `cmn-latn-pinyin` reads.
"""

import random
from collections.abc import Iterator

LANGUAGES = ("en", "fr", "zh")

_EN = (
    "my grandmother|the old captain|our neighbour|a young fisherman|her brother|the village choir|this photograph"
    "|your daughter|the church organist|every visitor|the jolly baker|uncle George|the whole family|a tiny bluebird",
    "remembers|describes|watched|painted|carried home|never forgot|was looking for|often visits|finally found"
    "|sang about|would love to see|both measured and mapped|has brought back|wrote a long letter about",
    "the yellow boat|a warm summer evening|the garden behind the house|five thousand sheep|her favourite recipe"
    "|that beautiful voice|the bridge over the river|an azure vase|the measure of joy|some chocolate and cheese"
    "|the old wooden piano|our first television|both of the twins|a pair of very large shoes"
    "|the moon above the village",
    "on the way to school|before the war|during the wedding|just for you|with great pleasure|in the month of May"
    "|when the weather was rough|by the fire|under the thick fog|every Thursday|at half past four"
    "|for the very last time"
    "|while we were playing|and laughed out loud",
)
_FR = (
    "ma grand-mère|le vieux pêcheur|notre voisine|un jeune homme|sa petite soeur|le choeur du village|cette photo"
    "|votre fille|le boulanger|chaque visiteur|mon oncle Julien|toute la famille|un petit oiseau bleu|la reine",
    "se souvient de|regardait|a peint|rapporte toujours|n'a jamais oublié|cherche encore|visite souvent"
    "|a enfin trouvé|chantait pour|voudrait revoir|nous a montré|écrivait une lettre sur",
    "la maison jaune|une belle soirée d'été|le jardin derrière l'église|cinq cents moutons|sa recette préférée"
    "|cette voix merveilleuse|le pont sur la rivière|un vase bleu|le bonheur de vivre|du pain et du fromage"
    "|le vieux piano|une feuille de papier|les deux jumeaux|la lune au-dessus du village|un peu de vin blanc",
    "avant la guerre|pendant le mariage|avec un grand plaisir|au mois de juin|quand il pleuvait beaucoup|près du feu"
    "|tous les jeudis|à quatre heures et demie|pour la dernière fois|sur le chemin de l'école|et riait aux éclats"
    "|dans la rue|chaque nuit|un beau jour",
)
_ZH = (
    "wo3 nai3 nai5|lao3 ye2 ye5|wo3 men5 de5 lin2 ju1|yi2 ge4 nian2 qing1 ren2|ta1 de5 ge1 ge5|cun1 li3 de5 hai2 zi5"
    "|ni3 de5 nü3 er2|mei3 ge4 ke4 ren2|wo3 jiu4 jiu5|quan2 jia1 ren2|na4 zhi1 xiao3 niao3|wang2 lao3 shi1"
    "|lü4 se4 de5 huo3 che1|zhou1 mo4 de5 peng2 you3",
    "xiang3 qi3|kan4 jian4 le5|hua4 guo4|dai4 hui2 le5|cong2 lai2 mei2 wang4 ji4|yi4 zhi2 zai4 zhao3"
    "|chang2 chang2 can1 guan1"
    "|zhong1 yu2 zhao3 dao4|zai4 chang4|hen3 xi3 huan1|gei3 wo3 men5 kan4|xie3 xin4 shuo1|mai3 le5|ting1 shuo1 guo4",
    "huang2 se4 de5 chuan2|xia4 tian1 de5 wan3 shang5|fang2 zi5 hou4 mian4 de5 hua1 yuan2|wu3 qian1 zhi1 yang2"
    "|zui4 xi3 huan1 de5 cai4|na4 ge4 hao3 ting1 de5 sheng1 yin1|he2 shang4 de5 qiao2|yi4 ping2 jiu3"
    "|bao1 zi5 he2 jiao3 zi5|jiu4 gang1 qin2|di4 yi1 tai2 dian4 shi4|liang3 ge4 shuang1 bao1 tai1|yi4 shuang1 da4 xie2"
    "|yue4 liang5 he2 xing1 xing5|chun1 jie2 de5 zhao4 pian4",
    "zai4 qu4 xue2 xiao4 de5 lu4 shang5|zhan4 zheng1 yi3 qian2|hun1 li3 de5 shi2 hou5|hen3 gao1 xing4|wu3 yue4 fen4"
    "|xia4 yu3 de5 shi2 hou5|zai4 huo3 lu2 bian1|mei3 ge4 xing1 qi1 si4|xia4 wu3 si4 dian3 ban4|zui4 hou4 yi2 ci4"
    "|yi4 bian1 wan2 yi4 bian1 xiao4|jin1 nian2 chun1 tian1|zai4 bei3 jing1|he2 ren4 shi5 de5 ren2 yi4 qi3",
)
_GRAMMARS = {"en": _EN, "fr": _FR, "zh": _ZH}

# The demo's voices: said by nobody in training, and not among the golden clips.
DEMO_EN = "Happy birthday, my dear! We are all thinking of you, and we hope to see you soon."
DEMO_ZH = "qin1 ai4 de5 ma1 ma5, xin1 nian2 kuai4 le4! wo3 men5 dou1 hen3 xiang3 ni3."


def sentences(language: str, rng: random.Random, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """Endless distinct sentences of a language, none of them in `without`."""
    columns = [column.split("|") for column in _GRAMMARS[language]]
    said: set[str] = set(without)
    while True:
        sentence = " ".join(rng.choice(column) for column in columns)
        if sentence not in said:
            said.add(sentence)
            yield sentence + "."
