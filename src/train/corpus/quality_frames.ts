import { drawSubject, type Sentence } from "./action_parts.ts";
import { otherThan } from "./actions.ts";
import type { Draw } from "./draw.ts";
import { type Agreement, be, was } from "./english.ts";
import { type Person, PRONOUNS } from "./people.ts";
import { CITIES, type Place, PLACES } from "./places.ts";
import { bare, type Kind, owned, type Phrase, pointed, type Thing, thingsOf } from "./things.ts";
import type { Time } from "./times.ts";

/** A quality with its comparative and superlative. */
interface Adjective {
  readonly zh: string;
  readonly en: string;
  readonly more: string;
  readonly most: string;
}

function adjectives(list: string): readonly Adjective[] {
  return list.split(";").map((entry) => {
    const words = entry.trim().split(" ");
    const [zh = "", en = "", more, most] = words.map((word) => word.replaceAll("_", " "));
    return { zh, en, more: more ?? `more ${en}`, most: most ?? `most ${en}` };
  });
}

const PERSON_QUALITIES = adjectives(
  `高 tall taller tallest;矮 short shorter shortest;年轻 young younger youngest;聪明 smart smarter smartest;漂亮 beautiful;忙 busy busier busiest;
累 tired;高兴 happy happier happiest;难过 sad sadder saddest;健康 healthy healthier healthiest;懒 lazy lazier laziest;努力 hard-working;友好 friendly friendlier friendliest;
有名 famous;有钱 rich richer richest;穷 poor poorer poorest;胖 fat fatter fattest;瘦 thin thinner thinnest;安静 quiet quieter quietest;
认真 serious;勇敢 brave braver bravest;害羞 shy shyer shyest;饿 hungry hungrier hungriest;渴 thirsty thirstier thirstiest;紧张 nervous;
生气 angry angrier angriest;担心 worried;礼貌 polite;强壮 strong stronger strongest;小心 careful;诚实 honest;幸运 lucky luckier luckiest`,
);

const THING_QUALITIES: Readonly<Partial<Record<Kind, readonly Adjective[]>>> = {
  food: adjectives(
    "好吃 tasty tastier tastiest;新鲜 fresh fresher freshest;便宜 cheap cheaper cheapest;贵 expensive;甜 sweet sweeter sweetest;大 big bigger biggest;小 small smaller smallest",
  ),
  drink: adjectives(
    "好喝 delicious;热 hot hotter hottest;冷 cold colder coldest;甜 sweet sweeter sweetest;便宜 cheap cheaper cheapest;贵 expensive",
  ),
  text: adjectives(
    "有意思 interesting;无聊 boring;难 difficult;容易 easy easier easiest;长 long longer longest;短 short shorter shortest;重要 important;有用 useful;新 new newer newest;旧 old older oldest",
  ),
  film: adjectives(
    "有意思 interesting;无聊 boring;长 long longer longest;短 short shorter shortest;精彩 exciting;有名 famous",
  ),
  clothes: adjectives(
    "漂亮 beautiful;贵 expensive;便宜 cheap cheaper cheapest;新 new newer newest;旧 old older oldest;大 big bigger biggest;小 small smaller smallest;干净 clean cleaner cleanest;脏 dirty dirtier dirtiest",
  ),
  thing: adjectives(
    "漂亮 beautiful;贵 expensive;便宜 cheap cheaper cheapest;新 new newer newest;旧 old older oldest;大 big bigger biggest;小 small smaller smallest;重 heavy heavier heaviest;轻 light lighter lightest;有用 useful;干净 clean cleaner cleanest;脏 dirty dirtier dirtiest",
  ),
  device: adjectives(
    "贵 expensive;便宜 cheap cheaper cheapest;新 new newer newest;旧 old older oldest;有用 useful;快 fast faster fastest;慢 slow slower slowest",
  ),
  vehicle: adjectives(
    "贵 expensive;便宜 cheap cheaper cheapest;新 new newer newest;旧 old older oldest;快 fast faster fastest;慢 slow slower slowest;漂亮 beautiful",
  ),
  animal: adjectives(
    "可爱 cute cuter cutest;大 big bigger biggest;小 small smaller smallest;聪明 smart smarter smartest;漂亮 beautiful;胖 fat fatter fattest",
  ),
  furniture: adjectives(
    "贵 expensive;便宜 cheap cheaper cheapest;新 new newer newest;旧 old older oldest;大 big bigger biggest;小 small smaller smallest;舒服 comfortable;重 heavy heavier heaviest",
  ),
};

const PLACE_QUALITIES = adjectives(
  "大 big bigger biggest;小 small smaller smallest;漂亮 beautiful;安静 quiet quieter quietest;干净 clean cleaner cleanest;有名 famous;热闹 lively livelier liveliest;远 far_away farther_away farthest_away",
);

/** Something that has a quality: a phrase with how it agrees. */
interface Described {
  readonly zh: string;
  readonly en: string;
  readonly agreement: Agreement;
  readonly key: string;
}

/** How much of a quality, and how it is said of the present. */
const DEGREES = [
  { zh: (q: string) => `很${q}`, en: "" },
  { zh: (q: string) => `非常${q}`, en: "very " },
  { zh: (q: string) => `有点儿${q}`, en: "a bit " },
  { zh: (q: string) => `太${q}了`, en: "too " },
  { zh: (q: string) => `真${q}`, en: "really " },
  { zh: (q: string) => `不${q}`, en: "not " },
  { zh: (q: string) => `不太${q}`, en: "not very " },
] as const;

/** 他很高, 这本书比那本书贵: what somebody or something is like. */
export function qualitySentence(draw: Draw): Sentence {
  const roll = draw.uniform();
  if (roll < 0.5) return aboutPerson(draw);
  if (roll < 0.9) return aboutThing(draw);
  const place = draw.from(draw.chance(0.5) ? PLACES : CITIES);
  return describe(
    draw,
    { zh: place.zh, en: place.en, agreement: "third", key: place.en },
    draw.from(PLACE_QUALITIES),
    () => otherPlace(draw, place),
  );
}

function otherPlace(draw: Draw, place: Place): Described {
  const kin = CITIES.includes(place) ? CITIES : PLACES;
  const other = draw.from(kin.filter(({ zh }) => zh !== place.zh));
  return { zh: other.zh, en: other.en, agreement: "third", key: other.en };
}

function ofPerson(person: Person): Described {
  return { zh: person.zh, en: person.en, agreement: person.agreement, key: person.en };
}

function aboutPerson(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const quality = draw.from(PERSON_QUALITIES);
  return describe(draw, ofPerson(s), quality, () => {
    const other = otherThan(draw, s);
    return { zh: other.zh, en: other.object, agreement: other.agreement, key: other.en };
  });
}

function ofThing(thing: Thing, phrase: Phrase): Described {
  return { zh: phrase.zh, en: phrase.en, agreement: phrase.isPlural ? "plural" : "third", key: thing.zh };
}

function aboutThing(draw: Draw): Sentence {
  const kind = draw.from(Object.keys(THING_QUALITIES) as Kind[]);
  const thing = draw.from(thingsOf(kind).filter(({ measure }) => measure !== ""));
  const quality = draw.from(THING_QUALITIES[kind] ?? []);
  const phrase = draw.chance(0.7)
    ? pointed(thing, draw.chance(0.5), draw.chance(0.3))
    : owned(thing, draw.from(PRONOUNS.slice(0, 7)));
  return describe(draw, ofThing(thing, phrase), quality, () => {
    const other = draw.from(thingsOf(kind).filter(({ measure, zh }) => measure !== "" && zh !== thing.zh));
    return ofThing(other, draw.chance(0.5) ? pointed(other, draw.chance(0.5), false) : bare(other));
  });
}

function describe(draw: Draw, what: Described, quality: Adjective, other: () => Described): Sentence {
  const key = `${what.key} ${quality.zh}`;
  const is = be(what.agreement);
  const roll = draw.uniform();
  if (roll < 0.5) {
    const degree = draw.from(DEGREES);
    return { zh: what.zh + degree.zh(quality.zh), en: `${what.en} ${is} ${degree.en}${quality.en}`, end: ".", key };
  }
  if (roll < 0.62) return { zh: `${what.zh}${quality.zh}吗`, en: `${is} ${what.en} ${quality.en}`, end: "?", key };
  if (roll < 0.7) {
    const time = draw.from<Time>([
      { zh: "昨天", en: "yesterday" },
      { zh: "上个星期", en: "last week" },
    ]);
    return {
      zh: `${what.zh}${time.zh}很${quality.zh}`,
      en: `${what.en} ${was(what.agreement)} ${quality.en} ${time.en}`,
      end: ".",
      key,
    };
  }
  const than = other();
  if (roll < 0.86)
    return {
      zh: `${what.zh}比${than.zh}${quality.zh}`,
      en: `${what.en} ${is} ${quality.more} than ${than.en}`,
      end: ".",
      key,
    };
  if (roll < 0.93)
    return {
      zh: `${what.zh}和${than.zh}一样${quality.zh}`,
      en: `${what.en} ${is} as ${quality.en} as ${than.en}`,
      end: ".",
      key,
    };
  if (quality.zh === "远")
    return { zh: `${what.zh}不${quality.zh}`, en: `${what.en} ${is} not ${quality.en}`, end: ".", key };
  return { zh: `${what.zh}最${quality.zh}`, en: `${what.en} ${is} the ${quality.most}`, end: ".", key };
}
